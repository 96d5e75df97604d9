//! One entry of the index.

use crate::format::SlotRef;
use crate::replica::Sealed;
use drystone_types::{Epoch, PlacementIndex};

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) placement: PlacementIndex,
    pub(crate) epoch: Epoch,
    pub(crate) state: EntryState,
    /// Always, but for markers.
    pub(crate) slot: Option<SlotRef>,
    /// Durable bytes.
    pub(crate) length: u64,
    /// Of these, durable in the slot, with the head if sealed; the rest is in the journal and in memory.
    pub(crate) slot_len: u64,
    /// When sealed: of the content.
    pub(crate) checksum: u32,
}

impl IndexEntry {
    pub(crate) fn sealed(&self) -> Option<Sealed> {
        (self.state == EntryState::Sealed).then_some(Sealed {
            epoch: self.epoch,
            placement: self.placement,
            length: self.length,
            checksum: self.checksum,
        })
    }
}
