//! How much redundancy is left while disks are away, counted in slices without looking at all chunks.
//!
//! The set of disks that are away is the leader's soft state; which chunks are where is kept by apply
//! ([`crate::placements`]). A count reads the sets of disks that a disk that is away is part of, and those of chunks
//! that are below their policy anyway. With no disk away and every chunk at its policy it reads next to nothing.

use crate::namespace::Namespace;
use crate::placements::{DiskSet, NOWHERE};
use crate::store::{OrderedStore, StoreError};
use drystone_types::DiskRef;
use std::collections::BTreeSet;

/// Most replicas that a policy can ask for.
const MAX_REPLICAS: usize = 8;

/// Chunks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub chunks: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

/// Chunks with fewer verified replicas on live disks than their policies ask for, by how many they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redundancy {
    below: [Tally; MAX_REPLICAS],
}

impl Redundancy {
    /// Chunks without any verified replica on a live disk.
    pub fn lost(&self) -> Tally {
        self.below[0]
    }

    /// Chunks that have verified replicas on live disks, but fewer than their policy asks for.
    pub fn under_redundant(&self) -> Tally {
        self.sum(1, MAX_REPLICAS)
    }

    /// What is lost if `more` further disks fail, whichever they are: chunks below their policy with 1 to `more`
    /// replicas left.
    pub fn exposure(&self, more: usize) -> Tally {
        self.sum(1, more.saturating_add(1).min(MAX_REPLICAS))
    }

    fn sum(&self, from: usize, to: usize) -> Tally {
        let counted = self.below.get(from..to).unwrap_or_default().iter();
        counted.fold(Tally::default(), |sum, tally| Tally {
            chunks: sum.chunks + tally.chunks,
            bytes: sum.bytes + tally.bytes,
        })
    }

    fn add(&mut self, live: usize, set: &DiskSet) {
        if (live as u32) < set.wanted
            && let Some(tally) = self.below.get_mut(live)
        {
            tally.chunks += set.chunks;
            tally.bytes += set.bytes;
        }
    }
}

/// A count under way. It may be taken in slices, each under its own lock: what is applied between two slices may be
/// counted or not.
#[derive(Debug)]
pub struct RedundancyCount {
    away: BTreeSet<DiskRef>,
    /// Disks whose sets are still to be read, the present one last; [`NOWHERE`] is one of them.
    left: Vec<DiskRef>,
    after: Vec<u8>,
    found: Redundancy,
}

impl RedundancyCount {
    /// Begins a count; replicas on disks that `is_live` refuses, and on those that no node holds any more, count for
    /// nothing.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin<S: OrderedStore>(
        namespace: &Namespace<S>,
        is_live: impl Fn(DiskRef) -> bool,
    ) -> Result<Self, StoreError> {
        let disks = namespace.disks_in_use()?;
        let away: BTreeSet<DiskRef> = disks
            .into_iter()
            .filter(|disk| namespace.node_of_disk(*disk).is_none() || !is_live(*disk))
            .collect();
        Ok(Self {
            left: away.iter().rev().copied().chain([NOWHERE]).collect(),
            away,
            after: Vec::new(),
            found: Redundancy::default(),
        })
    }

    /// Reads at most `limit` more sets. The result when that was all; `None`: call it again.
    ///
    /// # Errors
    /// The store failed.
    pub fn step<S: OrderedStore>(
        &mut self,
        namespace: &Namespace<S>,
        limit: usize,
    ) -> Result<Option<Redundancy>, StoreError> {
        let Some(&disk) = self.left.last() else {
            return Ok(Some(self.found));
        };
        let limit = limit.max(1);
        let page = namespace.disk_sets(disk, &self.after, limit)?;
        for (_, set) in &page {
            self.count(disk, set);
        }
        match page.into_iter().next_back() {
            Some((key, _)) => self.after = key,
            None => {
                self.left.pop();
                self.after.clear();
            }
        }
        Ok(self.left.is_empty().then_some(self.found))
    }

    /// Counts a set that is entered under `disk`, unless it is counted under another one.
    fn count(&mut self, disk: DiskRef, set: &DiskSet) {
        let is_below = (set.disks.len() as u32) < set.wanted;
        let first_away = set.disks.iter().find(|disk| self.away.contains(disk));
        if disk != NOWHERE && (is_below || first_away != Some(&disk)) {
            return;
        }
        let live = set.disks.iter().filter(|disk| !self.away.contains(disk));
        let live = live.count();
        self.found.add(live, set);
    }
}
