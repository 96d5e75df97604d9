//! From bytes to frames: a synchronous, bounded decoder.

use bytes::Bytes;
use drystone_proto::{FrameError, FrameHeader};

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
    pub checksums: Vec<u32>,
}

/// What a frame may hold.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Bytes of body.
    pub body: usize,
    /// Bytes of payload.
    pub payload: usize,
}

/// A decoder.
pub struct FrameDecoder {}

/// Decodes a whole stream.
///
/// # Errors
/// [`FrameError`].
pub fn decode_stream(_bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
    unimplemented!()
}
