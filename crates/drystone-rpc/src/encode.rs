//! From frames to bytes: an outbox that gathers many frames for one vectored write.

use bytes::{Buf, Bytes, BytesMut};
use drystone_proto::FrameHeader;
use drystone_proto::checksum::Checksums;
use drystone_proto::frame::HEADER_BYTES;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bodies up to this size are copied beside their header: cheaper than a segment of their own.
const COPY_BYTES: usize = 4 << 10;
/// Segments of one write: a bulk frame takes two, and the kernel takes at most 1,024.
const SEGMENTS: usize = 64;
/// The buffer of headers and small bodies is taken anew in pieces of this size.
const HEAD_BYTES: usize = 32 << 10;

/// A frame to be sent but for what is only known when it is written.
#[derive(Clone, Debug)]
pub struct OutFrame {
    /// Its header; lengths and CRC are set by [`OutFrame::new`].
    pub header: FrameHeader,
    /// Its encoded message.
    pub body: Bytes,
    /// Its raw bytes.
    pub payload: Bytes,
    /// One for each 4 KiB of the payload.
    pub checksums: Checksums,
}

impl OutFrame {
    /// Sets the lengths and the body's CRC in `header`. The caller has checked the limits.
    pub fn new(
        mut header: FrameHeader,
        body: Bytes,
        payload: Bytes,
        checksums: impl Into<Checksums>,
    ) -> Self {
        let checksums = checksums.into();
        header.body_len = body.len() as u32;
        header.payload_len = payload.len() as u32;
        header.body_crc = checksums.iter().fold(crc32c::crc32c(&body), |crc, sum| {
            crc32c::crc32c_append(crc, &sum.to_le_bytes())
        });
        Self {
            header,
            body,
            payload,
            checksums,
        }
    }

    /// Bytes on the wire.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.body.len() + 4 * self.checksums.len() + self.payload.len()
    }
}

/// Encoded frames that wait to be written.
#[derive(Default)]
pub struct Outbox {
    head: BytesMut,
    segments: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Encodes a frame behind those that wait.
    pub fn push(&mut self, frame: OutFrame) {
        self.bytes += frame.bytes();
        if self.head.capacity() - self.head.len() < HEADER_BYTES + COPY_BYTES {
            self.cut();
            self.head.reserve(HEAD_BYTES);
        }
        self.head.extend_from_slice(&frame.header.encode());
        if frame.body.len() <= COPY_BYTES {
            self.head.extend_from_slice(&frame.body);
        } else {
            self.cut();
            self.segments.push_back(frame.body);
        }
        for sum in frame.checksums.iter() {
            self.head.extend_from_slice(&sum.to_le_bytes());
        }
        if !frame.payload.is_empty() {
            self.cut();
            self.segments.push_back(frame.payload);
        }
    }

    fn cut(&mut self) {
        if !self.head.is_empty() {
            self.segments.push_back(self.head.split().freeze());
        }
    }

    /// Gives what comes first to `write`, as slices for one vectored write.
    pub fn with_slices<T>(&mut self, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        self.cut();
        let mut slices = [IoSlice::new(&[]); SEGMENTS];
        let count = self.segments.len().min(SEGMENTS);
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(segment);
        }
        write(&slices[..count])
    }

    /// Forgets the first `count` bytes: they have been written.
    ///
    /// # Panics
    /// If fewer wait.
    pub fn written(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "wrote {count} of {} bytes", self.bytes);
        self.bytes -= count;
        while count > 0 {
            let Some(first) = self.segments.front_mut() else {
                break;
            };
            if first.len() > count {
                first.advance(count);
                break;
            }
            count -= first.len();
            self.segments.pop_front();
        }
    }
}
