//! Whose units disk work touches.

use crate::format::{Run, Runs};

/// Tells the runs of one owner from all others that are not free: their first unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Owner {
    arena: u32,
    unit: u32,
}

impl Owner {
    /// Of these runs.
    pub(crate) fn of(runs: &Runs) -> Self {
        let Run { arena, first, .. } = runs.first();
        Self { arena, unit: first }
    }
}
