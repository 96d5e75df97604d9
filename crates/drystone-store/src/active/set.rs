//! All active chunks, and the memory that they take.

use super::chunk::ActiveChunk;
use crate::class::IoClass;
use crate::input::RequestId;
use drystone_types::{ChunkId, Epoch, PlacementIndex};
use std::collections::BTreeMap;

/// See the module. Whoever works on a chunk takes it out and puts it back with [`ActiveChunks::put_back`], which
/// keeps the account of memory.
pub(crate) struct ActiveChunks {
    chunks: BTreeMap<ChunkId, ActiveChunk>,
    next_id: u64,
    memory_bytes: [u64; 3],
}

impl Default for ActiveChunks {
    fn default() -> Self {
        Self {
            chunks: BTreeMap::new(),
            next_id: 1,
            memory_bytes: [0; 3],
        }
    }
}

impl ActiveChunks {
    /// A chunk that nothing is known of, to be entered with [`ActiveChunks::add`].
    pub(crate) fn create(&mut self, placement: PlacementIndex, epoch: Epoch, max_bytes: u64) -> ActiveChunk {
        let id = self.next_id;
        self.next_id += 1;
        ActiveChunk::new(id, placement, epoch, max_bytes)
    }

    pub(crate) fn get(&self, chunk: ChunkId) -> Option<&ActiveChunk> {
        self.chunks.get(&chunk)
    }

    pub(crate) fn get_mut(&mut self, chunk: ChunkId) -> Option<&mut ActiveChunk> {
        self.chunks.get_mut(&chunk)
    }

    pub(crate) fn contains(&self, chunk: ChunkId) -> bool {
        self.chunks.contains_key(&chunk)
    }

    pub(crate) fn take(&mut self, chunk: ChunkId) -> Option<ActiveChunk> {
        self.chunks.remove(&chunk)
    }

    /// Puts a chunk back whose state may have changed.
    pub(crate) fn put_back(&mut self, chunk: ChunkId, mut live: ActiveChunk) {
        let now = live.memory();
        let memory = &mut self.memory_bytes[live.io_class.number()];
        *memory = *memory + now - live.accounted;
        live.accounted = now;
        self.chunks.insert(chunk, live);
    }

    /// Enters a chunk that was not active.
    pub(crate) fn add(&mut self, chunk: ChunkId, live: ActiveChunk) {
        self.put_back(chunk, live);
    }

    /// Settles the account of a chunk that was taken out and does not come back.
    pub(crate) fn forget(&mut self, live: &ActiveChunk) {
        self.memory_bytes[live.io_class.number()] -= live.accounted;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChunkId, &ActiveChunk)> {
        self.chunks.iter()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut ActiveChunk> {
        self.chunks.values_mut()
    }

    /// The active chunks above `chunk`, in order.
    pub(crate) fn after(&self, chunk: ChunkId) -> impl Iterator<Item = (&ChunkId, &ActiveChunk)> {
        let range = (std::ops::Bound::Excluded(chunk), std::ops::Bound::Unbounded);
        self.chunks.range(range)
    }

    /// Bytes of appends of a class in memory.
    pub(crate) fn memory_bytes(&self, class: IoClass) -> u64 {
        self.memory_bytes[class.number()]
    }

    /// Bytes of appends in memory.
    pub(crate) fn all_memory_bytes(&self) -> u64 {
        self.memory_bytes.iter().sum()
    }

    /// Takes out every request that waits for an operation of a chunk.
    pub(crate) fn take_requests(&mut self) -> Vec<RequestId> {
        let chunks = self.chunks.values_mut();
        chunks
            .flat_map(|live| live.ops.drain(..).map(|op| op.request))
            .collect()
    }
}
