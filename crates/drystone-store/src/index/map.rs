//! The index: every chunk that the journal and the checkpoints speak of, and what is on its way out.

use super::entry::{EntryState, IndexEntry};
use drystone_types::ChunkId;
use std::collections::BTreeMap;

/// What an index holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexCounts {
    /// Replicas.
    pub(crate) chunks: u64,
    /// Of these, not sealed.
    pub(crate) open_chunks: u64,
    /// Bytes of content, durable.
    pub(crate) content_bytes: u64,
}

/// See the module. Counts are kept as entries change.
#[derive(Default)]
pub(crate) struct Index {
    entries: BTreeMap<ChunkId, IndexEntry>,
    /// Chunks with delete records on their way: how many.
    deleting: BTreeMap<ChunkId, u32>,
    /// Highest grant floor that is durable.
    floor: ChunkId,
    content_bytes: u64,
    chunks: u64,
    open_chunks: u64,
}

fn is_replica(entry: &IndexEntry) -> bool {
    entry.state != EntryState::Marker
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
    ///
    /// # Panics
    /// If the entry contradicts itself, or takes a seal back: no record may say that.
    pub(crate) fn set(&mut self, chunk: ChunkId, entry: Option<IndexEntry>) {
        if let Some(entry) = &entry {
            entry.check(chunk, self.entries.get(&chunk));
        }
        let counts = |entry: Option<&IndexEntry>| {
            let counted = |what: fn(&IndexEntry) -> bool| u64::from(entry.is_some_and(what));
            (
                entry.map_or(0, |e| e.length),
                counted(is_replica),
                counted(is_open),
            )
        };
        let (content, chunks, open) = counts(entry.as_ref());
        let old = match entry {
            Some(entry) => self.entries.insert(chunk, entry),
            None => self.entries.remove(&chunk),
        };
        let (old_content, old_chunks, old_open) = counts(old.as_ref());
        self.content_bytes = self.content_bytes + content - old_content;
        self.chunks = self.chunks + chunks - old_chunks;
        self.open_chunks = self.open_chunks + open - old_open;
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

    /// What is held, without looking at the entries. With debug assertions it is compared with a recount.
    pub(crate) fn counts(&self) -> IndexCounts {
        let counts = IndexCounts {
            chunks: self.chunks,
            open_chunks: self.open_chunks,
            content_bytes: self.content_bytes,
        };
        debug_assert_eq!(counts, self.recount(), "the counts follow the entries");
        counts
    }

    fn recount(&self) -> IndexCounts {
        let count = |what: fn(&IndexEntry) -> bool| self.entries.values().filter(|e| what(e)).count() as u64;
        IndexCounts {
            chunks: count(is_replica),
            open_chunks: count(is_open),
            content_bytes: self.entries.values().map(|e| e.length).sum(),
        }
    }
}
