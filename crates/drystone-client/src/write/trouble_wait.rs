//! Says that a stretch waits for servers that take its data.

use super::chunk::ChunkWrite;
use crate::waits::{Tried, Wait, Waiting, Waits};

/// The wait of one stretch, while it is in trouble.
#[derive(Default)]
pub(super) struct TroubleWait(Option<Waiting>);

impl TroubleWait {
    /// What `core` is doing may have changed.
    pub(super) fn follow(&mut self, core: &ChunkWrite, waits: &Waits) {
        let Some((began, until, trouble)) = core.trouble() else {
            self.0 = None;
            return;
        };
        let mut tried = Tried::default();
        tried.note("the last one:", trouble.message.as_str());
        match &self.0 {
            Some(waiting) => waiting.tried(&tried),
            None => {
                self.0 = Some(waits.begin(Wait {
                    what: "chunk servers that take the data",
                    began,
                    until,
                    tried,
                }));
            }
        }
    }
}
