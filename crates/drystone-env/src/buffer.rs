//! Pooled buffers whose memory is aligned to 4 KiB.
//!
//! First touch of fresh memory costs about ten times a copy, so bulk data lives in buffers that return to a
//! pool when the last [`Bytes`] over them is dropped, and their alignment lets one buffer go from socket to
//! O_DIRECT disk without a copy.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

const BLOCK: usize = 4096;

#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

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
    by_blocks: std::collections::BTreeMap<usize, Vec<Vec<Block>>>,
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
        let blocks = reused.unwrap_or_else(|| vec![Block([0; BLOCK]); blocks]);
        BufferMut {
            blocks,
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
    blocks: Vec<Block>,
    length: usize,
    pool: Arc<Shared>,
}

impl BufferMut {
    /// Bytes that it can hold without moving.
    pub fn capacity(&self) -> usize {
        self.blocks.len() * BLOCK
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
        &bytemuck::cast_slice(&self.blocks)[..self.length]
    }
}

impl DerefMut for BufferMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.blocks)[..self.length]
    }
}

impl AsRef<[u8]> for BufferMut {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for BufferMut {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let bytes = blocks.len() * BLOCK;
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > 0 && free.bytes + bytes <= self.pool.keep_bytes {
            free.bytes += bytes;
            free.by_blocks.entry(blocks.len()).or_default().push(blocks);
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
