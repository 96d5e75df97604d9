//! What all readers of a process share.

use super::suspects::ReadSuspects;
use crate::latency::{HedgeBudget, Latency};
use crate::locks;
use crate::requester::Requester;
use drystone_env::Monotonic;
use drystone_env::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The same damage is not reported again within this time.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// Damaged replicas remembered as reported.
const MAX_REPORTED: usize = 1024;

/// What a reader needs: whom to ask, and what it shares.
#[derive(Clone)]
pub(crate) struct ReadContext {
    pub(crate) requester: Requester,
    pub(crate) shared: Arc<ReadShared>,
}

/// See the module.
pub(crate) struct ReadShared {
    pub(super) latency: Latency,
    pub(super) hedges: HedgeBudget,
    pub(super) suspects: ReadSuspects,
    reported: Mutex<BTreeMap<(u64, u64), Monotonic>>,
    // Which of equal replicas this process reads.
    pub(super) draw: u64,
}

impl ReadShared {
    /// For the process that drew `draw`.
    pub(crate) fn new(draw: u64) -> Self {
        Self {
            latency: Latency::default(),
            hedges: HedgeBudget::default(),
            suspects: ReadSuspects::default(),
            reported: Mutex::new(locks::REPORTED, BTreeMap::new()),
            draw,
        }
    }

    /// True if the damage of this replica was not reported lately; it counts as reported then.
    pub(super) fn report_now(&self, chunk: u64, disk: u64, now: Monotonic) -> bool {
        let mut reported = self.reported.lock();
        reported.retain(|_, at| now.since(*at) < REPORT_EVERY);
        reported.len() < MAX_REPORTED && reported.insert((chunk, disk), now).is_none()
    }
}
