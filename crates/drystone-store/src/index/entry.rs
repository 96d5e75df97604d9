//! One entry of the index.

use crate::format::{Runs, tail_bytes, tail_offset};
use crate::held::Sealed;
use drystone_types::{ChunkId, Epoch, PlacementIndex};

/// Durable state of a replica. The only way from one to another is a journal record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryState {
    /// Takes appends; readable to its length.
    Open,
    /// Takes a seal; readable to its length.
    Fenced,
    /// Immutable.
    Sealed,
    /// Nothing is here but the epoch of a fence.
    Marker,
}

impl EntryState {
    pub(crate) const fn number(self) -> u8 {
        match self {
            EntryState::Open => 1,
            EntryState::Fenced => 2,
            EntryState::Sealed => 3,
            EntryState::Marker => 4,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(EntryState::Open),
            2 => Some(EntryState::Fenced),
            3 => Some(EntryState::Sealed),
            4 => Some(EntryState::Marker),
            _ => None,
        }
    }
}

/// What the journal and the checkpoints say of a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) placement: PlacementIndex,
    pub(crate) epoch: Epoch,
    pub(crate) state: EntryState,
    /// Always, but for markers.
    pub(crate) runs: Option<Runs>,
    /// Durable bytes.
    pub(crate) length: u64,
    /// Of these, durable in the runs, with the tail if sealed; the rest is in the journal and in memory.
    pub(crate) stored: u64,
    /// When sealed: of the content.
    pub(crate) checksum: u32,
    /// When sealed: where the tail begins in the runs, behind the content and behind everything that was ever written
    /// there of a chunk that was sealed shorter.
    pub(crate) tail_at: u64,
}

impl IndexEntry {
    /// Panics if this cannot be what is durable of the chunk after `old`.
    pub(super) fn check(&self, chunk: ChunkId, old: Option<&IndexEntry>) {
        assert!(
            self.stored <= self.length && self.fits(),
            "chunk {chunk}: {self:?} is longer than its runs, or shorter than what they hold"
        );
        if let Some(old) =
            old.filter(|old| old.state == EntryState::Sealed && old.placement == self.placement)
        {
            assert!(
                self.state == EntryState::Sealed
                    && (self.length, self.checksum) == (old.length, old.checksum),
                "chunk {chunk} is sealed for ever: {old:?} becomes {self:?}"
            );
        }
    }

    /// True if its bytes, and the tail of a sealed chunk, fit into its runs.
    pub(crate) fn fits(&self) -> bool {
        let room = self.runs.as_ref().map_or(0, Runs::bytes);
        let need = match self.state {
            EntryState::Sealed => self.tail_at + tail_bytes(self.length),
            EntryState::Open | EntryState::Fenced | EntryState::Marker => self.length,
        };
        let follows = self.state != EntryState::Sealed || self.tail_at >= tail_offset(self.length);
        need <= room && follows
    }

    /// True if it is sealed and all of it is in its runs: nothing of it is in the journal or in memory only.
    pub(crate) fn is_settled(&self) -> bool {
        self.state == EntryState::Sealed && self.stored == self.length
    }

    pub(crate) fn sealed(&self) -> Option<Sealed> {
        (self.state == EntryState::Sealed).then_some(Sealed {
            epoch: self.epoch,
            placement: self.placement,
            length: self.length,
            checksum: self.checksum,
        })
    }
}
