//! From bytes to frames: a synchronous decoder with bounded memory, shared by both sides and by fuzz targets.
//!
//! Small frames are cut out of one reused buffer, many per read. The rest of a payload is read straight into its
//! pooled, aligned buffer: [`FrameDecoder::target`] says where the next bytes go.

use bytes::Bytes;
use drystone_env::{BufferMut, BufferPool};
use drystone_proto::checksum::{Checksums, first_mismatch};
use drystone_proto::frame::{HEADER_BYTES, MAX_BODY_BYTES};
use drystone_proto::{FrameError, FrameHeader};
use drystone_types::MAX_PAYLOAD_BYTES;

/// The reused buffer: some hundred small frames per read, and little of a bulk frame is copied.
const BUFFER_BYTES: usize = 64 << 10;
/// A large body's memory grows by this much as its bytes arrive, so that an announcement alone costs nothing.
const BODY_STEP: usize = 256 << 10;

/// A whole, verified frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its encoded message.
    pub body: Bytes,
    /// Its raw bytes.
    pub payload: Bytes,
    /// One for each 4 KiB of the payload.
    pub checksums: Checksums,
}

/// What a frame may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Bytes of body.
    pub body: usize,
    /// Bytes of payload.
    pub payload: usize,
}

impl FrameLimits {
    /// What the wire allows.
    pub const WIRE: Self = Self {
        body: MAX_BODY_BYTES,
        payload: MAX_PAYLOAD_BYTES,
    };
    /// What a peer may send before it has introduced itself.
    pub const HELLO: Self = Self {
        body: 4 << 10,
        payload: 0,
    };
}

enum State {
    /// Waiting for a header; it will be in the buffer.
    Header,
    /// Waiting for body and checksums in the buffer, or in `large` when they do not fit there.
    Body {
        header: FrameHeader,
        large: Option<Large>,
    },
    /// Waiting for the payload.
    Payload {
        header: FrameHeader,
        body: Bytes,
        checksums: Checksums,
        data: BufferMut,
        filled: usize,
    },
    /// Nothing can be trusted any more.
    Failed(FrameError),
}

struct Large {
    bytes: Vec<u8>,
    filled: usize,
}

/// Bytes in, frames out; the first fault is final.
pub struct FrameDecoder {
    pool: BufferPool,
    limits: FrameLimits,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    state: State,
}

impl FrameDecoder {
    /// A decoder at the start of a stream; payloads live in buffers of `pool`.
    pub fn new(pool: BufferPool, limits: FrameLimits) -> Self {
        Self {
            pool,
            limits,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            state: State::Header,
        }
    }

    /// What frames may hold from the next header on.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// True between two frames: an end of the stream here is a clean one.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Header) && self.start == self.end
    }

    /// Where the next bytes of the stream belong; never empty, and all of it may be filled. Call
    /// [`FrameDecoder::next_frame`] until it gives none before.
    pub fn target(&mut self) -> &mut [u8] {
        // Both arms below leave room: what lies in the buffer is less than one header or one small body.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        match &mut self.state {
            State::Payload { data, filled, .. } => &mut data[*filled..],
            State::Body {
                header,
                large: Some(large),
            } => {
                let total = header.body_len as usize + header.checksums_len();
                if large.filled == large.bytes.len() {
                    large.bytes.resize(total.min(large.filled + BODY_STEP), 0);
                }
                &mut large.bytes[large.filled..]
            }
            _ => &mut self.buffer[self.end..],
        }
    }

    /// Says that the first `count` bytes of [`FrameDecoder::target`] have been filled.
    ///
    /// # Panics
    /// If that is more than the target had.
    pub fn filled(&mut self, count: usize) {
        match &mut self.state {
            State::Payload { data, filled, .. } => {
                assert!(count <= data.len() - *filled, "filled beyond the payload");
                *filled += count;
            }
            State::Body {
                large: Some(large), ..
            } => {
                assert!(
                    count <= large.bytes.len() - large.filled,
                    "filled beyond the body"
                );
                large.filled += count;
            }
            _ => {
                assert!(count <= self.buffer.len() - self.end, "filled beyond the buffer");
                self.end += count;
            }
        }
    }

    /// The next whole frame, or `None` until more bytes have come.
    ///
    /// # Errors
    /// What is wrong with the stream, again at every later call.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.advance()
            .inspect_err(|error| self.state = State::Failed(error.clone()))
    }

    fn advance(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            match std::mem::replace(&mut self.state, State::Header) {
                State::Failed(error) => return Err(error),
                State::Header => {
                    let Some(bytes) = self.buffer[self.start..self.end].first_chunk::<HEADER_BYTES>() else {
                        return Ok(None);
                    };
                    let header = FrameHeader::decode(bytes)?;
                    if header.body_len as usize > self.limits.body
                        || header.payload_len as usize > self.limits.payload
                    {
                        return Err(FrameError::TooLarge {
                            body: header.body_len,
                            payload: header.payload_len,
                        });
                    }
                    self.start += HEADER_BYTES;
                    self.state = self.begin_body(header);
                }
                State::Body { header, large } => {
                    let Some((body, checksums)) = self.take_body(&header, large)? else {
                        return Ok(None);
                    };
                    let length = header.payload_len as usize;
                    if length == 0 {
                        return Ok(Some(Frame {
                            header,
                            body,
                            payload: Bytes::new(),
                            checksums,
                        }));
                    }
                    let mut data = self.pool.take(length);
                    let here = length.min(self.end - self.start);
                    data[..here].copy_from_slice(&self.buffer[self.start..self.start + here]);
                    self.start += here;
                    self.state = State::Payload {
                        header,
                        body,
                        checksums,
                        data,
                        filled: here,
                    };
                }
                State::Payload {
                    header,
                    body,
                    checksums,
                    data,
                    filled,
                } => {
                    if filled < data.len() {
                        self.state = State::Payload {
                            header,
                            body,
                            checksums,
                            data,
                            filled,
                        };
                        return Ok(None);
                    }
                    if let Some(block) = first_mismatch(&data, &checksums) {
                        return Err(FrameError::PayloadChecksum {
                            kind: header.kind,
                            block,
                        });
                    }
                    return Ok(Some(Frame {
                        header,
                        body,
                        payload: data.freeze(),
                        checksums,
                    }));
                }
            }
        }
    }

    fn begin_body(&mut self, header: FrameHeader) -> State {
        let total = header.body_len as usize + header.checksums_len();
        // A small body is cut out of the buffer, which has room for it once compacted.
        let large = (total > BUFFER_BYTES / 2).then(|| {
            let here = total.min(self.end - self.start);
            let bytes = self.buffer[self.start..self.start + here].to_vec();
            self.start += here;
            Large { bytes, filled: here }
        });
        State::Body { header, large }
    }

    /// Body and checksums once they are whole; otherwise `None`, and the state waits on.
    fn take_body(
        &mut self,
        header: &FrameHeader,
        large: Option<Large>,
    ) -> Result<Option<(Bytes, Checksums)>, FrameError> {
        let body_len = header.body_len as usize;
        let total = body_len + header.checksums_len();
        let present = large.as_ref().map_or(self.end - self.start, |large| large.filled);
        if present < total {
            self.state = State::Body {
                header: header.clone(),
                large,
            };
            return Ok(None);
        }
        let bytes = match &large {
            Some(large) => &large.bytes[..total],
            None => &self.buffer[self.start..self.start + total],
        };
        if crc32c::crc32c(bytes) != header.body_crc {
            return Err(FrameError::BodyChecksum(header.kind));
        }
        let checksums = bytes[body_len..]
            .chunks_exact(4)
            .map(|word| word.try_into().map_or(0, u32::from_le_bytes))
            .collect();
        let body = match large {
            Some(mut large) => {
                large.bytes.truncate(body_len);
                Bytes::from(large.bytes)
            }
            None => {
                let body = Bytes::copy_from_slice(&self.buffer[self.start..self.start + body_len]);
                self.start += total;
                body
            }
        };
        Ok(Some((body, checksums)))
    }

    /// Takes all of `bytes`, as if they had been read in pieces, and appends whole frames to `frames`.
    ///
    /// # Errors
    /// As [`FrameDecoder::next_frame`].
    pub fn feed(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            let target = self.target();
            let count = target.len().min(bytes.len());
            target[..count].copy_from_slice(&bytes[..count]);
            self.filled(count);
            bytes = &bytes[count..];
            while let Some(frame) = self.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(())
    }
}

/// Every whole frame of a stream that begins with `bytes`; a partial one at the end is no fault. Pure: for fuzz
/// targets and tests.
///
/// # Errors
/// The first fault; the frames before it are lost.
pub fn decode_stream(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    FrameDecoder::new(BufferPool::new(0), FrameLimits::WIRE).feed(bytes, &mut frames)?;
    Ok(frames)
}

#[cfg(test)]
mod tests;
