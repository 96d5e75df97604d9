//! The index: every chunk that the journal and the checkpoints speak of, and what is on its way out.

use super::entry::{EntryState, IndexEntry};
use drystone_types::ChunkId;
use std::collections::BTreeMap;

/// See the module. Counts are kept as entries change.
#[derive(Default)]
pub(crate) struct Index {
    entries: BTreeMap<ChunkId, IndexEntry>,
    /// Chunks with delete records on their way: how many.
    deleting: BTreeMap<ChunkId, u32>,
    /// Highest grant floor that is durable.
    floor: ChunkId,
    used_bytes: u64,
    open_chunks: u64,
}

fn is_open(entry: &IndexEntry) -> bool {
    matches!(entry.state, EntryState::Open | EntryState::Fenced)
}

impl Index {
    pub(crate) fn get(&self, chunk: ChunkId) -> Option<&IndexEntry> {
        self.entries.get(&chunk)
    }

    pub(crate) fn contains(&self, chunk: ChunkId) -> bool {
        self.entries.contains_key(&chunk)
    }

    /// Enters what is durable of a chunk; `None`: nothing is here any more.
    pub(crate) fn set(&mut self, chunk: ChunkId, entry: Option<IndexEntry>) {
        let old = match entry {
            Some(entry) => self.entries.insert(chunk, entry),
            None => self.entries.remove(&chunk),
        };
        self.used_bytes = self.used_bytes + entry.map_or(0, |e| e.length) - old.map_or(0, |e| e.length);
        self.open_chunks = self.open_chunks + u64::from(entry.as_ref().is_some_and(is_open))
            - u64::from(old.as_ref().is_some_and(is_open));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChunkId, &IndexEntry)> {
        self.entries.iter()
    }

    /// The entries above `chunk`, in order.
    pub(crate) fn after(&self, chunk: ChunkId) -> impl Iterator<Item = (&ChunkId, &IndexEntry)> {
        let range = (std::ops::Bound::Excluded(chunk), std::ops::Bound::Unbounded);
        self.entries.range(range)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// True while a delete record of the chunk is on its way.
    pub(crate) fn is_deleting(&self, chunk: ChunkId) -> bool {
        self.deleting.contains_key(&chunk)
    }

    pub(crate) fn deleting(&self) -> impl Iterator<Item = ChunkId> {
        self.deleting.keys().copied()
    }

    pub(crate) fn begin_delete(&mut self, chunk: ChunkId) {
        *self.deleting.entry(chunk).or_insert(0) += 1;
    }

    /// One of the chunk's delete records is durable.
    pub(crate) fn end_delete(&mut self, chunk: ChunkId) {
        self.set(chunk, None);
        if let Some(count) = self.deleting.get_mut(&chunk) {
            *count -= 1;
            if *count == 0 {
                self.deleting.remove(&chunk);
            }
        }
    }

    pub(crate) fn floor(&self) -> ChunkId {
        self.floor
    }

    pub(crate) fn raise_floor(&mut self, floor: ChunkId) {
        self.floor = self.floor.max(floor);
    }

    /// Bytes of content held, durable.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Replicas held, and how many of them are not sealed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let markers = |e: &&IndexEntry| e.state != EntryState::Marker;
        (
            self.entries.values().filter(markers).count() as u64,
            self.open_chunks,
        )
    }
}
