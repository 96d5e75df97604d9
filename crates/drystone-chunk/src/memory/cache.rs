//! Verified blocks of sealed replicas, kept for readers.
//!
//! Owns blocks of 1 MiB (the last of a chunk is shorter) that the store has verified, bounded by bytes, the least
//! recently used first to go. Sealed replicas are immutable, so nothing here is ever stale: the key holds the
//! placement, and a deleted replica's blocks are dropped. Which reads are worth a whole block is decided here too:
//! those that ask for one and those that go on where the last read of the chunk ended.

use crate::locks;
use bytes::Bytes;
use drystone_env::sync::{Mutex, MutexGuard};
use drystone_proto::checksum::Checksums;
use drystone_proto::record::ReplicaRecord;
use drystone_types::CHECKSUM_BLOCK;
use std::collections::BTreeMap;

/// The unit of the cache: what the largest read takes.
pub(crate) const BLOCK: u64 = 1 << 20;
/// Chunks whose last read is remembered; more readers at once than this read without reading ahead.
const TRACKED: usize = 1024;

/// A replica, as cached blocks are found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ReplicaKey {
    pub(crate) disk: u64,
    pub(crate) chunk: u64,
    pub(crate) placement: u64,
}

impl ReplicaKey {
    pub(crate) fn new(chunk: u64, replica: &ReplicaRecord) -> Self {
        Self {
            disk: replica.disk,
            chunk,
            placement: replica.placement,
        }
    }
}

/// A block and what a reader is told with it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Block {
    pub(crate) data: Bytes,
    /// One for each 4 KiB.
    pub(crate) checksums: Checksums,
    /// The sealed length of the chunk.
    pub(crate) chunk_length: u64,
}

impl Block {
    /// `length` bytes from `offset` in this block, with their checksums if they begin at a 4 KiB boundary and
    /// end at one or at the block's end.
    pub(crate) fn part(&self, offset: usize, length: usize) -> Option<(Bytes, Option<Checksums>)> {
        let end = offset.checked_add(length).filter(|end| *end <= self.data.len())?;
        let whole = offset.is_multiple_of(CHECKSUM_BLOCK)
            && (end.is_multiple_of(CHECKSUM_BLOCK) || end == self.data.len());
        let sums = if !whole {
            None
        } else if length == self.data.len() {
            Some(self.checksums.clone())
        } else {
            let blocks = offset / CHECKSUM_BLOCK..end.div_ceil(CHECKSUM_BLOCK);
            self.checksums.get(blocks).map(Checksums::from)
        };
        Some((self.data.slice(offset..end), sums))
    }
}

/// The cache of one server.
pub(crate) struct Cache {
    limit: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    bytes: u64,
    stamp: u64,
    blocks: BTreeMap<(ReplicaKey, u64), (u64, Block)>,
    by_age: BTreeMap<u64, (ReplicaKey, u64)>,
    /// Where the last read of a replica ended.
    ends: BTreeMap<ReplicaKey, u64>,
    /// Sealed lengths.
    lengths: BTreeMap<ReplicaKey, u64>,
}

impl Cache {
    /// A cache of at most `limit` bytes; 0 keeps nothing.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            inner: Mutex::new(locks::CACHE, Inner::default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// The block with this number, if it is here.
    pub(crate) fn get(&self, key: ReplicaKey, number: u64) -> Option<Block> {
        let mut inner = self.lock();
        inner.stamp += 1;
        let stamp = inner.stamp;
        let (used, block) = inner.blocks.get_mut(&(key, number))?;
        let before = std::mem::replace(used, stamp);
        let block = block.clone();
        inner.by_age.remove(&before);
        inner.by_age.insert(stamp, (key, number));
        Some(block)
    }

    /// Keeps a block.
    pub(crate) fn put(&self, key: ReplicaKey, number: u64, block: Block) {
        let size = block.data.len() as u64;
        if size > self.limit {
            return;
        }
        let mut inner = self.lock();
        inner.remove(key, number);
        inner.stamp += 1;
        let stamp = inner.stamp;
        inner.bytes += size;
        inner.blocks.insert((key, number), (stamp, block));
        inner.by_age.insert(stamp, (key, number));
        while inner.bytes > self.limit {
            let Some((_, (key, number))) = inner.by_age.pop_first() else {
                break;
            };
            inner.remove(key, number);
        }
    }

    /// Notes a read and says whether it is worth a whole block: it begins one, or goes on where the last ended.
    pub(crate) fn is_sequential(&self, key: ReplicaKey, offset: u64, length: u64) -> bool {
        if self.limit < BLOCK {
            return false;
        }
        let mut inner = self.lock();
        if inner.ends.len() >= TRACKED && !inner.ends.contains_key(&key) {
            inner.ends.clear();
        }
        let before = inner.ends.insert(key, offset + length);
        before == Some(offset) || (offset.is_multiple_of(BLOCK) && length >= BLOCK / 4)
    }

    /// The sealed length of a replica, if it was noted.
    pub(crate) fn chunk_length(&self, key: ReplicaKey) -> Option<u64> {
        self.lock().lengths.get(&key).copied()
    }

    /// Notes the sealed length of a replica.
    pub(crate) fn note_length(&self, key: ReplicaKey, length: u64) {
        let mut inner = self.lock();
        if inner.lengths.len() >= TRACKED {
            inner.lengths.clear();
        }
        inner.lengths.insert(key, length);
    }

    /// Drops every block of a replica.
    pub(crate) fn forget(&self, key: ReplicaKey) {
        let mut inner = self.lock();
        inner.ends.remove(&key);
        inner.lengths.remove(&key);
        let numbers: Vec<u64> = inner
            .blocks
            .range((key, 0)..=(key, u64::MAX))
            .map(|((_, number), _)| *number)
            .collect();
        numbers.into_iter().for_each(|number| inner.remove(key, number));
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }
}

impl Inner {
    fn remove(&mut self, key: ReplicaKey, number: u64) {
        if let Some((stamp, block)) = self.blocks.remove(&(key, number)) {
            self.by_age.remove(&stamp);
            self.bytes -= block.data.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ReplicaKey = ReplicaKey {
        disk: 1,
        chunk: 2,
        placement: 3,
    };

    fn block(fill: u8, length: usize) -> Block {
        let data = Bytes::from(vec![fill; length]);
        let checksums = Checksums::of(&data);
        Block {
            data,
            checksums,
            chunk_length: 9 << 20,
        }
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let cache = Cache::new(3 << 20);
        (0..3).for_each(|n| cache.put(KEY, n, block(n as u8, 1 << 20)));
        assert!(cache.get(KEY, 0).is_some());
        cache.put(KEY, 3, block(3, 1 << 20));
        let there: Vec<u64> = (0..4).filter(|n| cache.get(KEY, *n).is_some()).collect();
        assert_eq!((there, cache.bytes()), (vec![0, 2, 3], 3 << 20));
        cache.put(KEY, 3, block(4, 10));
        assert_eq!(cache.bytes(), (2 << 20) + 10);
    }

    #[test]
    fn a_deleted_replica_leaves_nothing() {
        let cache = Cache::new(8 << 20);
        let other = ReplicaKey { placement: 4, ..KEY };
        (0..3).for_each(|n| cache.put(KEY, n, block(1, 100)));
        cache.put(other, 0, block(2, 100));
        cache.forget(KEY);
        assert_eq!((cache.get(KEY, 0), cache.bytes()), (None, 100));
        assert!(cache.get(other, 0).is_some());
    }

    #[test]
    fn whole_blocks_are_read_for_those_who_read_on() {
        let cache = Cache::new(8 << 20);
        assert!(!cache.is_sequential(KEY, 4096, 4096));
        assert!(cache.is_sequential(KEY, 8192, 4096));
        assert!(!cache.is_sequential(KEY, 900_000, 4096));
        assert!(cache.is_sequential(KEY, 2 << 20, 1 << 20));
        assert!(!Cache::new(0).is_sequential(KEY, 0, 1 << 20));
    }

    #[test]
    fn a_part_has_checksums_only_when_it_falls_on_blocks() {
        let block = block(7, 10_000);
        let (data, sums) = block.part(4096, 10_000 - 4096).unwrap();
        assert_eq!(
            drystone_proto::checksum::first_mismatch(&data, &sums.unwrap()),
            None
        );
        assert!(block.part(4096, 100).unwrap().1.is_none());
        assert!(block.part(10, 4096).unwrap().1.is_none());
        assert!(block.part(9_000, 1_001).is_none());
    }
}
