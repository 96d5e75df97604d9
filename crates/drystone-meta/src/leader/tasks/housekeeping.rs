//! Housekeeping of the namespace: what expires by log time, and unlinked trees.

use super::Rounds;
use crate::shared::Shared;
use drystone_proto::command::{Housekeep, Op};
use std::sync::Arc;
use std::time::Duration;

/// Housekeeping without a reason: sessions and keys expire by log time alone.
const HOUSEKEEP_IDLE: Duration = Duration::from_secs(30);
/// Records that one step of housekeeping touches: some milliseconds of apply.
const HOUSEKEEP_LIMIT: u32 = 1_000;
/// Steps in a row before others get their turn.
const HOUSEKEEP_STEPS: usize = 16;

impl Rounds {
    pub(super) async fn housekeep(&mut self, shared: &Arc<Shared>) {
        let now = shared.env.clock.now();
        let changed = shared.applied.applied() > self.seen;
        let waited = self.housekept.map(|last| now.since(last));
        if !changed && waited.is_some_and(|waited| waited < HOUSEKEEP_IDLE) {
            return;
        }
        for _ in 0..HOUSEKEEP_STEPS {
            let step = shared
                .propose(
                    Op::Housekeep(Housekeep {
                        limit: HOUSEKEEP_LIMIT,
                    }),
                    None,
                )
                .await;
            let Ok(applied) = step else { return };
            self.seen = applied.index;
            if !applied.outcome.more {
                self.housekept = Some(now);
                return;
            }
        }
        // There is more: the next round goes on.
        self.seen = 0;
    }
}
