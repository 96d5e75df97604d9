//! What is known of a chunk: what may be there after a power cut.

use drystone_store::{HeldReplica, HeldState};
use std::collections::BTreeSet;

/// What a chunk may be after a power cut.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Known {
    /// Placements that were asked for, and those of them whose deletion was asked for and answered.
    pub(super) placed: BTreeSet<u64>,
    pub(super) doomed: BTreeSet<u64>,
    pub(super) deleted: u64,
    /// What was acknowledged: of which placement, how long, and whether sealed.
    pub(super) acknowledged: Option<(u64, u64, bool)>,
    /// Lengths at which a seal was asked for.
    pub(super) seals: BTreeSet<u64>,
}

impl Known {
    pub(super) fn answered(&mut self, placement: u64, length: u64, sealed: bool) {
        let now = (placement, length, sealed);
        if self
            .acknowledged
            .is_none_or(|(before, _, was)| before < placement || !was)
        {
            self.acknowledged = (length > 0).then_some(now).max(self.acknowledged);
        }
    }

    /// Panics unless the replica may be what is there.
    pub(super) fn check(&self, held: &HeldReplica, what: &str) {
        let placement = held.placement.0;
        if held.state == HeldState::Absent {
            let fine = self
                .acknowledged
                .is_none_or(|(placement, ..)| self.doomed.contains(&placement));
            assert!(fine, "{what}: it is gone: {self:?}");
            return;
        }
        assert!(
            self.placed.contains(&placement) && placement > self.deleted,
            "{what}: {held:?} is back: {self:?}"
        );
        let sealed = held.state == HeldState::Sealed;
        assert!(
            !sealed || self.seals.contains(&held.durable),
            "{what}: {held:?} is sealed where nobody asked for: {self:?}"
        );
        if let Some((of, length, was_sealed)) = self.acknowledged {
            assert!(of <= placement, "{what}: {held:?} was replaced: {self:?}");
            let right = match (was_sealed, sealed) {
                (true, _) => sealed && held.durable == length,
                (false, true) => true,
                (false, false) => held.durable >= length,
            };
            assert!(of < placement || right, "{what}: {held:?}: {self:?}");
        }
    }
}
