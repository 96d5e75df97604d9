//! The open batch: records are copied and checksummed as they come; the header is put in front when it is written.

use crate::format::{BLOCK_BYTES, HEADER_BYTES, Header, RECORD_HEADER_BYTES};
use bytes::Bytes;
use drystone_env::{BufferMut, BufferPool};

/// Sizes of the buffers of one batch, in order; the last one repeats. Small batches take a small buffer, large
/// ones few writes.
const BUFFER_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];

pub(crate) struct OpenBatch {
    pool: BufferPool,
    limit: usize,
    // All but the last are full. The first begins with room for the header.
    buffers: Vec<BufferMut>,
    // Bytes with the header.
    length: usize,
    // Used in the last buffer.
    used: usize,
    crc: u32,
    records: u32,
}

impl OpenBatch {
    /// An empty batch of at most `limit` bytes, a multiple of the block size.
    pub(crate) fn new(pool: BufferPool, limit: usize) -> Self {
        Self {
            pool,
            limit,
            buffers: Vec::new(),
            length: HEADER_BYTES,
            used: 0,
            crc: 0,
            records: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.length.div_ceil(BLOCK_BYTES) as u32
    }

    /// Bytes of the longest record that fits.
    pub(crate) fn room(&self) -> usize {
        (self.limit - self.length).saturating_sub(RECORD_HEADER_BYTES)
    }

    /// True if a record of `length` bytes fits; an empty one needs its framing too.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.length + RECORD_HEADER_BYTES + length <= self.limit
    }

    /// Adds a record of `length` bytes in all, which must fit.
    pub(crate) fn push(&mut self, parts: &[Bytes], length: usize) {
        assert!(self.has_room(length), "the caller has checked the room");
        self.put(&(length as u32).to_le_bytes());
        parts.iter().for_each(|part| self.put(part));
        self.records += 1;
    }

    fn put(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.buffers.last().is_none_or(|last| self.used == last.len()) {
                self.grow();
            }
            let last = self.buffers.last_mut().expect("just grown");
            let here = data.len().min(last.len() - self.used);
            let place = &mut last[self.used..self.used + here];
            place.copy_from_slice(&data[..here]);
            // While it is in the processor's cache.
            self.crc = crc32c::crc32c_append(self.crc, place);
            self.used += here;
            self.length += here;
            data = &data[here..];
        }
    }

    fn grow(&mut self) {
        let held: usize = self.buffers.iter().map(|buffer| buffer.len()).sum();
        let size = BUFFER_BYTES[self.buffers.len().min(BUFFER_BYTES.len() - 1)].min(self.limit - held);
        self.used = if self.buffers.is_empty() { HEADER_BYTES } else { 0 };
        self.buffers.push(self.pool.take(size));
    }

    /// An empty batch like this one was.
    pub(crate) fn successor(&self) -> Self {
        Self::new(self.pool.clone(), self.limit)
    }

    /// The batch as whole blocks, headed by `header` (what it says of the records is filled in here), with the
    /// header's CRC. Without records it is a mark.
    pub(crate) fn finish(mut self, mut header: Header) -> (Vec<Bytes>, u32) {
        if self.buffers.is_empty() {
            self.grow();
        }
        let padded = self.used.next_multiple_of(BLOCK_BYTES);
        let last = self.buffers.last_mut().expect("not empty");
        last.set_len(padded);
        last[self.used..].fill(0);
        header.body_crc = crc32c::crc32c_append(self.crc, &last[self.used..]);
        header.body_bytes = (self.length - HEADER_BYTES) as u32;
        header.records = self.records;
        let (bytes, crc) = header.encode();
        self.buffers[0][..HEADER_BYTES].copy_from_slice(&bytes);
        (self.buffers.into_iter().map(BufferMut::freeze).collect(), crc)
    }
}
