//! What is durable of each chunk.

use crate::format::SlotRef;
use crate::input::Sealed;
use drystone_types::{Epoch, PlacementIndex};

/// Durable state of a replica. The only way from one to another is a journal record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Takes appends; readable to its length.
    Open,
    /// Takes a seal; readable to its length.
    Fenced,
    /// Immutable.
    Sealed,
    /// Nothing is here but the epoch of a fence.
    Marker,
}

impl State {
    pub(crate) const fn number(self) -> u8 {
        match self {
            State::Open => 1,
            State::Fenced => 2,
            State::Sealed => 3,
            State::Marker => 4,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(State::Open),
            2 => Some(State::Fenced),
            3 => Some(State::Sealed),
            4 => Some(State::Marker),
            _ => None,
        }
    }
}

/// What the journal and the checkpoints say of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) placement: PlacementIndex,
    pub(crate) epoch: Epoch,
    pub(crate) state: State,
    /// Always, but for markers.
    pub(crate) slot: Option<SlotRef>,
    /// Durable bytes.
    pub(crate) length: u64,
    /// Of these, durable in the slot, with the head if sealed; the rest is in the journal and in memory.
    pub(crate) slot_len: u64,
    /// When sealed: of the content.
    pub(crate) checksum: u32,
}

impl Entry {
    pub(crate) fn sealed(&self) -> Option<Sealed> {
        (self.state == State::Sealed).then_some(Sealed {
            epoch: self.epoch,
            placement: self.placement,
            length: self.length,
            checksum: self.checksum,
        })
    }
}
