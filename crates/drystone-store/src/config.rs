//! What a store may be told.

use drystone_types::SizeClass;
use std::time::Duration;

/// Settings of one disk. The defaults suit anything from a laptop to a server: about 150 MiB at first, growing by
/// use.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes that slot files may take in all; `None`: what the file system gives. Default `None`.
    pub capacity: Option<u64>,
    /// Bytes of the file system that are left to others and to the journal. Default 1 GiB, but no more than a
    /// twentieth of the file system.
    pub reserve_bytes: u64,
    /// Length of a journal segment; a multiple of 4 KiB. Default 16 MiB.
    pub segment_bytes: u64,
    /// Most bytes in one journal batch; a multiple of 4 KiB. Default 2 MiB. Bounds a group commit.
    pub batch_bytes: u32,
    /// Journal bytes after which a checkpoint is made. Default 48 MiB: replay stays below a second.
    pub checkpoint_bytes: u64,
    /// Appends that leave at most this many bytes to be made durable go through the journal, with one sync; a
    /// multiple of 4 KiB. Default 64 KiB: beyond it writing twice costs more than a second sync.
    pub small_bytes: u64,
    /// Bytes that wait in memory to be moved from the journal to their slots before moving begins at once.
    /// Default 4 MiB.
    pub move_bytes: u64,
    /// Bytes begin to move at the latest this long after they became durable in the journal. Default 1 s.
    pub move_after: Duration,
    /// Bytes of appends that may be in memory (being written, or waiting for a slot or to be moved); beyond it
    /// appends are refused as busy. Default 256 MiB.
    pub memory_bytes: u64,
    /// Checksums of sealed chunks kept in memory. Default 16 MiB, which is 16 GiB of data.
    pub checksum_cache_bytes: u64,
    /// Slots per slot file, by class from the smallest. Default 64, 8, 1, 1.
    pub slots_per_file: [u32; 4],
    /// Free slots kept ready, by class from the smallest. Default 32, 4, 1, 1; as many again as chunks are being
    /// written are kept for a while, at most 8.
    pub spare_slots: [u32; 4],
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
            small_bytes: 64 << 10,
            move_bytes: 4 << 20,
            move_after: Duration::from_secs(1),
            memory_bytes: 256 << 20,
            checksum_cache_bytes: 16 << 20,
            slots_per_file: [64, 8, 1, 1],
            spare_slots: [32, 4, 1, 1],
            direct: true,
        }
    }
}

impl StoreConfig {
    pub(crate) fn slots_per_file(&self, class: SizeClass) -> u32 {
        self.slots_per_file[class.number() as usize].clamp(1, 4096)
    }

    pub(crate) fn spare_slots(&self, class: SizeClass) -> usize {
        self.spare_slots[class.number() as usize] as usize
    }
}
