//! What a store may be told.

use crate::format::UNIT;
use std::time::Duration;

/// Settings of one disk. The defaults suit anything from a laptop to a server: an arena and the journal at first,
/// growing and shrinking by use.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes that arenas may take in all; `None`: what the file system gives. Default `None`.
    pub capacity: Option<u64>,
    /// Bytes of the file system that are left to others. Default 1 GiB, but no more than a
    /// twentieth of the file system.
    pub reserve_bytes: u64,
    /// Length of a journal segment; a multiple of 4 KiB. Default 16 MiB.
    pub segment_bytes: u64,
    /// Most bytes in one journal batch; a multiple of 4 KiB. Default 2 MiB. Bounds a group commit.
    pub batch_bytes: u32,
    /// Journal bytes after which a checkpoint is made. Default 48 MiB: replay stays below a second.
    pub checkpoint_bytes: u64,
    /// Bytes of a leaf of the index, 16 KiB at most, which is the default and what its place on the disk takes. With
    /// less a checkpoint is made of more leaves.
    pub leaf_bytes: usize,
    /// Bytes of leaves that a checkpoint writes at a time to each of its files; a multiple of 16 KiB, 1 MiB at most.
    /// Default 1 MiB.
    pub leaf_step_bytes: usize,
    /// Appends that leave at most this many bytes to be made durable go through the journal, with one sync; a
    /// multiple of 4 KiB. Default 64 KiB: beyond it writing twice costs more than a second sync.
    pub small_bytes: u64,
    /// Bytes that wait in memory to be moved from the journal to their runs before moving begins at once.
    /// Default 4 MiB.
    pub move_bytes: u64,
    /// Bytes begin to move at the latest this long after they became durable in the journal. Default 1 s.
    pub move_after: Duration,
    /// Bytes of appends that may be in memory (being written, or waiting for space or to be moved); beyond it
    /// appends are refused as busy. Default 256 MiB.
    pub memory_bytes: u64,
    /// Checksums of sealed chunks kept in memory. Default 16 MiB, which is 16 GiB of data.
    pub checksum_cache_bytes: u64,
    /// Length of an arena, a multiple of 64 KiB; `None`: a power of two, between a 512th and a 1,024th of the file
    /// system, 16 MiB to 16 GiB. Default `None`.
    pub arena_bytes: Option<u64>,
    /// Free space that is made ahead of need, but no more than one arena. Default 128 MiB.
    pub spare_bytes: u64,
    /// Arenas that are wholly free, beyond twice the spare space, are removed after this time. Default 20 s.
    pub remove_after: Duration,
    /// Bypass the page cache. Default true.
    pub direct: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            capacity: None,
            reserve_bytes: 1 << 30,
            segment_bytes: 16 << 20,
            batch_bytes: 2 << 20,
            checkpoint_bytes: 48 << 20,
            leaf_bytes: 16 << 10,
            leaf_step_bytes: 1 << 20,
            small_bytes: 64 << 10,
            move_bytes: 4 << 20,
            move_after: Duration::from_secs(1),
            memory_bytes: 256 << 20,
            checksum_cache_bytes: 16 << 20,
            arena_bytes: None,
            spare_bytes: 128 << 20,
            remove_after: Duration::from_secs(20),
            direct: true,
        }
    }
}

/// Arenas of a disk, twice as many at most: few enough to keep each open, small enough to be given back.
const ARENAS: u64 = 512;
/// The part of a file system that is left to others is one of so many at most.
const RESERVE_PART: u64 = 20;
const LEAST_ARENA_BYTES: u64 = 16 << 20;
const MOST_ARENA_BYTES: u64 = 16 << 30;

impl StoreConfig {
    /// The length of an arena on a file system of `total` bytes.
    pub(crate) fn arena_bytes(&self, total: u64) -> u64 {
        let total = self.capacity.map_or(total, |capacity| capacity.min(total));
        let chosen = (total / ARENAS).max(1);
        let power = 1 << chosen.ilog2();
        let bytes = self
            .arena_bytes
            .unwrap_or_else(|| power.clamp(LEAST_ARENA_BYTES, MOST_ARENA_BYTES));
        (bytes / UNIT).max(1) * UNIT
    }

    /// Most bytes of the file system that the journal takes: what it may hold when a checkpoint begins, the segment that
    /// is written then, a spare one, and one for what comes until the checkpoint ends.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.checkpoint_bytes.next_multiple_of(self.segment_bytes) + 3 * self.segment_bytes
    }

    /// Bytes that are left to others on a file system of `total` bytes.
    pub(crate) fn reserve_bytes(&self, total: u64) -> u64 {
        self.reserve_bytes.min(total / RESERVE_PART)
    }

    /// Bytes of a file system of `total` bytes that must be free when the journal grows. Metadata servers begin to refuse at
    /// half of the reserve; a quarter of it is left for the indexes and checkpoints of all who share it.
    pub(crate) fn journal_leaves(&self, total: u64) -> u64 {
        self.reserve_bytes(total) / 4 * 3
    }

    /// Free space that is made ahead of need, of arenas of this length.
    pub(crate) fn spare_bytes(&self, arena_bytes: u64) -> u64 {
        self.spare_bytes.min(arena_bytes)
    }
}
