//! Pooled buffers whose memory is aligned to 4 KiB.
//!
//! First touch of fresh memory costs about ten times a copy, so bulk data lives in buffers that return to a
//! pool when the last [`Bytes`] over them is dropped, and their alignment lets one buffer go from socket to
//! O_DIRECT disk without a copy.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

const BLOCK: usize = 4096;

/// Memory with room for whole blocks from the first boundary of a block on. As bytes of zeros the system gives it
/// without touching it, so that whoever fills it is the first to do so.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    start: usize,
    blocks: usize,
}

impl Memory {
    fn of_blocks(blocks: usize) -> Self {
        let bytes = vec![0; blocks * BLOCK + BLOCK - 1];
        let start = bytes.as_ptr().align_offset(BLOCK);
        assert!(start < BLOCK, "a boundary of a block is found");
        Self { bytes, start, blocks }
    }
}

/// A pool of aligned buffers. Cloning shares it. It never refuses: beyond its limit buffers are simply not
/// kept, so that memory in use is bounded by the windows of those who take buffers, and memory kept by the pool.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    keep_bytes: usize,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    bytes: usize,
    // Buffers by size in blocks, smallest first; sizes are powers of two.
    by_blocks: std::collections::BTreeMap<usize, Vec<Memory>>,
}

impl BufferPool {
    /// A pool that keeps at most `keep_bytes` of unused buffers.
    pub fn new(keep_bytes: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                keep_bytes,
                free: Mutex::default(),
            }),
        }
    }

    /// A buffer of `length` bytes, aligned to 4 KiB, with undefined (old) contents.
    pub fn take(&self, length: usize) -> BufferMut {
        let blocks = length.div_ceil(BLOCK).max(1).next_power_of_two();
        let reused = {
            let mut free = self.shared.free.lock().unwrap_or_else(PoisonError::into_inner);
            let found = free.by_blocks.get_mut(&blocks).and_then(Vec::pop);
            if found.is_some() {
                free.bytes -= blocks * BLOCK;
            }
            found
        };
        BufferMut {
            memory: reused.unwrap_or_else(|| Memory::of_blocks(blocks)),
            length,
            pool: Arc::clone(&self.shared),
        }
    }

    /// A buffer that holds a copy of `data`.
    pub fn copy(&self, data: &[u8]) -> BufferMut {
        let mut buffer = self.take(data.len());
        buffer.copy_from_slice(data);
        buffer
    }
}

/// A buffer with one owner; [`BufferMut::freeze`] makes it shareable.
pub struct BufferMut {
    memory: Memory,
    length: usize,
    pool: Arc<Shared>,
}

impl BufferMut {
    /// Bytes that it can hold without moving.
    pub fn capacity(&self) -> usize {
        self.memory.blocks * BLOCK
    }

    /// Shortens or lengthens it within its capacity.
    ///
    /// # Panics
    /// If `length` exceeds the capacity.
    pub fn set_len(&mut self, length: usize) {
        assert!(
            length <= self.capacity(),
            "length {length} exceeds capacity {}",
            self.capacity()
        );
        self.length = length;
    }

    /// Shareable, immutable; the memory returns to its pool when the last clone or slice is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for BufferMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory.bytes[self.memory.start..][..self.length]
    }
}

impl DerefMut for BufferMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes[self.memory.start..][..self.length]
    }
}

impl AsRef<[u8]> for BufferMut {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for BufferMut {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let bytes = memory.blocks * BLOCK;
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > 0 && free.bytes + bytes <= self.pool.keep_bytes {
            free.bytes += bytes;
            free.by_blocks.entry(memory.blocks).or_default().push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_comes_back() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(5000);
        assert_eq!((buffer.len(), buffer.capacity()), (5000, 8192));
        buffer.fill(7);
        let at = buffer.as_ptr();
        let bytes = buffer.freeze();
        assert_eq!(bytes.as_ptr().align_offset(4096), 0);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(&part[..], &[7; 10]);
        drop(part);
        assert_eq!(pool.take(8000).as_ptr(), at);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let pool = BufferPool::new(8192);
        let (a, b) = (pool.take(8192), pool.take(8192));
        drop(a);
        drop(b);
        assert_eq!(pool.shared.free.lock().unwrap().bytes, 8192);
    }
}
