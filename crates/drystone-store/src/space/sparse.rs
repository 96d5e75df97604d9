//! What is known of arenas that are nearly empty.

use drystone_env::Monotonic;
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(super) struct SparseArenas {
    /// Gives out no units.
    pub(super) emptied: Option<u32>,
    /// Nearly empty at each look, and since when.
    pub(super) seen: BTreeMap<u32, Monotonic>,
    /// Could not be emptied: not chosen before this time.
    pub(super) passed_over: BTreeMap<u32, Monotonic>,
    /// Arenas that were emptied and removed.
    pub(super) removed: u64,
}

impl SparseArenas {
    pub(super) fn serves(&self, number: u32) -> bool {
        self.emptied != Some(number)
    }
}
