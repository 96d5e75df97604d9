//! The arena that is emptied: which chunks are still to be copied out of it, and the copies under way.

use crate::format::{Runs, Tail};
use bytes::Bytes;
use drystone_env::Monotonic;
use drystone_types::ChunkId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Chunks that are found to be damaged are remembered up to this number; a disk with more is emptied no more.
const MOST_DAMAGED: usize = 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Emptier {
    /// The arena, and how far it is.
    pub(super) arena: Option<u32>,
    pub(super) sweep: Option<Sweep>,
    /// Nothing is copied until then.
    pub(super) pause: Option<Monotonic>,
    /// Chunks to copy: no more than the arena has used units, which are a quarter of its units at most.
    pub(super) waiting: VecDeque<ChunkId>,
    pub(super) copy: Option<ChunkCopy>,
    next_copy: u64,
    /// Written; to be synced together.
    pub(super) written: Vec<Copied>,
    /// The syncs of what is written: arena and number of each.
    pub(super) syncs: Option<Vec<(u32, u64)>>,
    /// Synced, with records on their way that name the new runs. Once such a record is sent off it stands, whatever
    /// becomes of the arena.
    pub(super) logged: BTreeMap<ChunkId, Copied>,
    damaged: BTreeSet<ChunkId>,
    /// Chunks that were moved, and their bytes.
    pub(super) moved_chunks: u64,
    pub(super) moved_bytes: u64,
}

/// A search of the index for the chunks in the arena.
pub(super) struct Sweep {
    /// Chunks up to here were looked at.
    pub(super) after: ChunkId,
    /// When it goes on.
    pub(super) due: Monotonic,
    /// Units of the arena whose chunks were found.
    pub(super) units: u64,
}

impl Sweep {
    pub(super) fn from_the_beginning(due: Monotonic) -> Self {
        Self {
            after: ChunkId(0),
            due,
            units: 0,
        }
    }
}

/// A chunk with its new place.
pub(super) struct Copied {
    pub(super) chunk: ChunkId,
    pub(super) old: Runs,
    pub(super) new: Runs,
    pub(super) length: u64,
}

/// The copy of a chunk under way: a piece is read, verified, written, then the next.
pub(super) struct ChunkCopy {
    /// Tells its disk work from that of another.
    pub(super) id: u64,
    pub(super) copied: Copied,
    pub(super) tail: Tail,
    /// Of the blocks, once the tail is read.
    pub(super) sums: Vec<u32>,
    /// Below this it is written.
    pub(super) at: u64,
    /// What is being read of it: where it begins and ends, and the pieces that came.
    pub(super) range: (u64, u64),
    pub(super) pieces: Vec<(u64, Bytes)>,
    /// Pieces of disk work that have not come back.
    pub(super) left: u32,
}

impl Emptier {
    /// Bytes of what is to be synced together.
    pub(super) fn written_bytes(&self) -> u64 {
        self.written.iter().map(|copied| copied.length).sum()
    }

    pub(super) fn next_copy(&mut self) -> u64 {
        self.next_copy += 1;
        self.next_copy
    }

    /// The new runs of the chunk, if their record is on its way: what follows it in the journal must name them.
    pub(super) fn logged(&self, chunk: ChunkId) -> Option<&Runs> {
        self.logged.get(&chunk).map(|copied| &copied.new)
    }

    /// True if a chunk that was read to be copied is not what it should be.
    pub(super) fn is_damaged(&self, chunk: ChunkId) -> bool {
        self.damaged.contains(&chunk) || self.damaged.len() >= MOST_DAMAGED
    }

    pub(super) fn damaged(&mut self, chunk: ChunkId) {
        self.damaged.insert(chunk);
    }

    /// The chunk is deleted.
    pub(super) fn forget(&mut self, chunk: ChunkId) {
        self.damaged.remove(&chunk);
    }

    /// When the search goes on; the end of disk work is heard of without being woken.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.sweep.as_ref().map(|sweep| sweep.due).or(self.pause)
    }

    /// True if no copy is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.copy.is_none() && self.written.is_empty() && self.logged.is_empty()
    }

    /// The chunks that are being copied or whose records are on their way.
    pub(crate) fn moving(&self) -> Vec<ChunkId> {
        let copied = self.copy.iter().map(|copy| &copy.copied);
        let copied = copied.chain(&self.written).map(|copied| copied.chunk);
        copied.chain(self.logged.keys().copied()).collect()
    }

    /// Chunks that were moved out of arenas, and their bytes.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.moved_chunks, self.moved_bytes)
    }
}
