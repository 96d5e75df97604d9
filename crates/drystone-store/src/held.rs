//! How a replica stands.

use drystone_types::{ChunkId, Epoch, PlacementIndex};

/// What a receipt says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Epoch in which it was sealed or that was seen since.
    pub epoch: Epoch,
    /// Placement.
    pub placement: PlacementIndex,
    /// Final length.
    pub length: u64,
    /// CRC32C of the whole content.
    pub checksum: u32,
}

/// State of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldState {
    /// Not here (the epoch may still be known from a fence).
    Absent,
    /// Takes appends.
    Open,
    /// Takes a seal only.
    Fenced,
    /// Immutable.
    Sealed,
}

/// What is here of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldReplica {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its state.
    pub state: HeldState,
    /// Highest epoch seen.
    pub epoch: Epoch,
    /// Placement.
    pub placement: PlacementIndex,
    /// Bytes in order.
    pub received: u64,
    /// Bytes durable.
    pub durable: u64,
    /// When sealed: CRC32C of the whole content.
    pub checksum: u32,
}
