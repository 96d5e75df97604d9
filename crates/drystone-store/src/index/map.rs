//! The index: every chunk that the journal and the checkpoints speak of, and what is on its way out.
//!
//! Nearly all chunks are *settled*: sealed, with all bytes in their runs. They lie packed in leaves, each of which covers the
//! ids from where it begins to where the next one does. The others, few, are kept beside them. Leaves are split whenever one
//! is full, and joined or dropped only where a sweep for a checkpoint comes to them ([`Index::sweep`]).

use super::entry::{EntryState, IndexEntry};
use super::leaf::{LEAF_BYTES, Leaf, LeafEntry};
use drystone_types::ChunkId;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound::{Excluded, Unbounded};

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
pub(crate) struct Index {
    /// By the id from which on each covers; the first one covers from 0 on and is always there.
    leaves: BTreeMap<ChunkId, Leaf>,
    unsettled: BTreeMap<ChunkId, IndexEntry>,
    /// Of a leaf at most.
    leaf_bytes: usize,
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
    /// Empty, of leaves of at most `leaf_bytes`.
    pub(crate) fn new(leaf_bytes: usize) -> Self {
        Self {
            leaves: BTreeMap::from([(ChunkId(0), Leaf::new())]),
            unsettled: BTreeMap::new(),
            leaf_bytes: leaf_bytes.min(LEAF_BYTES),
            deleting: BTreeMap::new(),
            floor: ChunkId(0),
            content_bytes: 0,
            chunks: 0,
            open_chunks: 0,
        }
    }

    /// Of what a checkpoint says. The leaves were written after the others were told: where both know a chunk the leaf
    /// knows better.
    pub(crate) fn load(
        leaf_bytes: usize,
        leaves: Vec<(ChunkId, Leaf)>,
        unsettled: BTreeMap<ChunkId, IndexEntry>,
    ) -> Self {
        let mut index = Self::new(leaf_bytes);
        index.leaves.extend(leaves);
        let lengths = index.settled(ChunkId(0)).map(|(_, entry)| entry.length);
        (index.chunks, index.content_bytes) =
            lengths.fold((0, 0), |(chunks, bytes), length| (chunks + 1, bytes + length));
        for (chunk, entry) in unsettled {
            if !index.contains(chunk) {
                index.put(chunk, Some(entry));
            }
        }
        index
    }

    pub(crate) fn get(&self, chunk: ChunkId) -> Option<IndexEntry> {
        let found = self.unsettled.get(&chunk).cloned();
        found.or_else(|| self.leaf(chunk)?.get(chunk))
    }

    fn leaf(&self, chunk: ChunkId) -> Option<&Leaf> {
        self.leaves.range(..=chunk).next_back().map(|(_, leaf)| leaf)
    }

    fn leaf_mut(&mut self, chunk: ChunkId) -> &mut Leaf {
        let found = self.leaves.range_mut(..=chunk).next_back();
        found.expect("the first leaf covers from 0 on").1
    }

    pub(crate) fn contains(&self, chunk: ChunkId) -> bool {
        self.get(chunk).is_some()
    }

    /// Enters what is durable of a chunk; `None`: nothing is here any more.
    ///
    /// # Panics
    /// If the entry contradicts itself, or takes a seal back: no record may say that.
    pub(crate) fn set(&mut self, chunk: ChunkId, entry: Option<IndexEntry>) {
        let old = self.get(chunk);
        if let Some(entry) = &entry {
            entry.check(chunk, old.as_ref());
        }
        self.replace(chunk, old, entry);
    }

    /// As [`Index::set`], for replay: what records say one by one need not fit together.
    pub(crate) fn put(&mut self, chunk: ChunkId, entry: Option<IndexEntry>) {
        let old = self.get(chunk);
        self.replace(chunk, old, entry);
    }

    fn replace(&mut self, chunk: ChunkId, old: Option<IndexEntry>, entry: Option<IndexEntry>) {
        let counts = |entry: Option<&IndexEntry>| {
            let counted = |what: fn(&IndexEntry) -> bool| u64::from(entry.is_some_and(what));
            (
                entry.map_or(0, |e| e.length),
                counted(is_replica),
                counted(is_open),
            )
        };
        let (content, chunks, open) = counts(entry.as_ref());
        let (old_content, old_chunks, old_open) = counts(old.as_ref());
        self.content_bytes = self.content_bytes + content - old_content;
        self.chunks = self.chunks + chunks - old_chunks;
        self.open_chunks = self.open_chunks + open - old_open;
        match entry.as_ref().and_then(|entry| LeafEntry::of(chunk, entry)) {
            Some(settled) => {
                self.unsettled.remove(&chunk);
                self.settle(chunk, settled);
            }
            None => {
                self.leaf_mut(chunk).remove(chunk);
                match entry {
                    Some(entry) => self.unsettled.insert(chunk, entry),
                    None => self.unsettled.remove(&chunk),
                };
            }
        }
    }

    fn settle(&mut self, chunk: ChunkId, entry: LeafEntry) {
        self.leaf_mut(chunk).remove(chunk);
        let most = self.leaf_bytes;
        if !self.leaf_mut(chunk).has_room(&entry, most) {
            let (first, right) = self.leaf_mut(chunk).split(chunk);
            let old = self.leaves.insert(first, right);
            assert!(old.is_none(), "two leaves begin at chunk {first}");
            // A long entry may need more room than half a leaf gives.
            if !self.leaf_mut(chunk).has_room(&entry, most) {
                return self.settle(chunk, entry);
            }
        }
        self.leaf_mut(chunk).add(entry);
    }

    fn settled(&self, from: ChunkId) -> impl Iterator<Item = (ChunkId, IndexEntry)> + '_ {
        let first = self
            .leaves
            .range(..=from)
            .next_back()
            .map_or(from, |(first, _)| *first);
        self.leaves
            .range(first..)
            .flat_map(move |(_, leaf)| leaf.from(from))
    }

    /// All entries from `from` on, in order of ids.
    pub(crate) fn entries(&self, from: ChunkId) -> impl Iterator<Item = (ChunkId, IndexEntry)> + '_ {
        let unsettled = self.unsettled.range(from..);
        Merged {
            one: self.settled(from).peekable(),
            two: unsettled.map(|(chunk, entry)| (*chunk, entry.clone())).peekable(),
        }
    }

    /// The entries above `chunk`, in order of ids.
    pub(crate) fn after(&self, chunk: ChunkId) -> impl Iterator<Item = (ChunkId, IndexEntry)> + '_ {
        let next = chunk.0.checked_add(1).map(ChunkId);
        next.into_iter().flat_map(|from| self.entries(from))
    }

    /// What is not in leaves.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = (&ChunkId, &IndexEntry)> {
        self.unsettled.iter()
    }

    /// The first leaf that covers from `from` or a higher id on, where that is, and where to go on: the next step of a sweep
    /// over all leaves, which goes over each id once. Small leaves from there on are joined, empty ones dropped:
    /// never leaves that the sweep has passed, which are on their way to the disk as they were.
    pub(crate) fn sweep(&mut self, from: ChunkId) -> Option<(ChunkId, &mut Leaf, Option<ChunkId>)> {
        loop {
            let first = *self.leaves.range(from..).next()?.0;
            let next = self.leaves.range((Excluded(first), Unbounded)).next();
            let next = next.map(|(next, leaf)| (*next, self.leaves[&first].joins(leaf, self.leaf_bytes)));
            if let Some((joined, true)) = next
                && let Some(leaf) = self.leaves.remove(&joined)
            {
                self.leaf_mut(first).join(leaf);
            } else if self.leaves[&first].is_empty() && first != ChunkId(0) {
                self.leaves.remove(&first);
            } else {
                return Some((first, self.leaf_mut(first), next.map(|(next, _)| next)));
            }
        }
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

    /// What is held, without looking at the entries.
    pub(crate) fn counts(&self) -> IndexCounts {
        IndexCounts {
            chunks: self.chunks,
            open_chunks: self.open_chunks,
            content_bytes: self.content_bytes,
        }
    }
}

/// Two iterators in order of ids as one.
struct Merged<A: Iterator, B: Iterator> {
    one: Peekable<A>,
    two: Peekable<B>,
}

impl<T, A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = (ChunkId, T)>,
    B: Iterator<Item = (ChunkId, T)>,
{
    type Item = (ChunkId, T);

    fn next(&mut self) -> Option<Self::Item> {
        match (self.one.peek(), self.two.peek()) {
            (Some((one, _)), Some((two, _))) if two < one => self.two.next(),
            (Some(_), _) => self.one.next(),
            (None, _) => self.two.next(),
        }
    }
}

#[cfg(test)]
mod tests;
