//! Block checksums of sealed chunks that were read lately.

use drystone_types::ChunkId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bounded by bytes; what was used longest ago goes first.
pub(crate) struct SumCache {
    limit: u64,
    bytes: u64,
    clock: u64,
    by_chunk: BTreeMap<ChunkId, (u64, Arc<[u32]>)>,
    by_use: BTreeMap<u64, ChunkId>,
}

fn cost(sums: &[u32]) -> u64 {
    sums.len() as u64 * 4 + 128
}

impl SumCache {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            bytes: 0,
            clock: 0,
            by_chunk: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    pub(crate) fn get(&mut self, chunk: ChunkId) -> Option<Arc<[u32]>> {
        let (used, sums) = self.by_chunk.get_mut(&chunk)?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, chunk);
        Some(Arc::clone(sums))
    }

    pub(crate) fn put(&mut self, chunk: ChunkId, sums: Arc<[u32]>) {
        self.remove(chunk);
        self.clock += 1;
        self.bytes += cost(&sums);
        self.by_chunk.insert(chunk, (self.clock, sums));
        self.by_use.insert(self.clock, chunk);
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.by_use.first_key_value() else {
                break;
            };
            self.remove(*oldest);
        }
    }

    pub(crate) fn remove(&mut self, chunk: ChunkId) {
        if let Some((used, sums)) = self.by_chunk.remove(&chunk) {
            self.by_use.remove(&used);
            self.bytes -= cost(&sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_no_more_than_its_limit_and_forgets_the_oldest() {
        let mut cache = SumCache::new(300);
        for id in 1..=2 {
            cache.put(ChunkId(id), vec![id as u32].into());
        }
        assert!(cache.get(ChunkId(1)).is_some());
        cache.put(ChunkId(3), vec![3].into());
        assert!(cache.get(ChunkId(2)).is_none());
        assert!(cache.get(ChunkId(1)).is_some() && cache.get(ChunkId(3)).is_some());
        cache.remove(ChunkId(1));
        assert_eq!(cache.bytes, cost(&[3]));
    }
}
