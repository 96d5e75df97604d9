//! What holds for every stream of bytes: the body of the fuzz target `frame`.

use drystone_env::{BufferPool, Rng, SeededRng};
use drystone_proto::FrameHeader;
use drystone_proto::frame::HEADER_BYTES;
use drystone_rpc::{Frame, FrameDecoder, FrameLimits, decode_stream};

const LONG: usize = 512;

/// Decoding never panics and says the same however the stream is cut; frames are as long as their headers say.
/// Then the same with checksums that fit, or nothing behind them would ever be tried.
pub fn frame(bytes: &[u8]) {
    check(bytes);
    check(&with_checksums(bytes));
}

fn check(bytes: &[u8]) {
    let whole = decode_stream(bytes);
    let mut rng = SeededRng::new(u64::from(crc32c::crc32c(bytes)));
    // Of a long stream the pieces tell as much, in a fraction of the time.
    if bytes.len() <= LONG {
        assert_eq!(cut(bytes, || 1), whole, "in single bytes");
    }
    assert_eq!(cut(bytes, || 1 + rng.below(300) as usize), whole, "in pieces");
    for frame in whole.iter().flatten() {
        let header = &frame.header;
        assert_eq!(
            (
                header.body_len as usize,
                header.payload_len as usize,
                header.checksums_len()
            ),
            (frame.body.len(), frame.payload.len(), frame.checksums.len() * 4)
        );
        assert_eq!(FrameHeader::decode(&header.encode()).as_ref(), Ok(header));
    }
}

/// Decodes the stream in pieces of these lengths.
fn cut(
    mut bytes: &[u8],
    mut length: impl FnMut() -> usize,
) -> Result<Vec<Frame>, drystone_proto::FrameError> {
    let mut decoder = FrameDecoder::new(BufferPool::new(0), FrameLimits::WIRE);
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(length().min(bytes.len()));
        decoder.feed(piece, &mut frames)?;
        bytes = rest;
    }
    Ok(frames)
}

/// The stream with the checksums that its lengths call for, frame by frame.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut rest = bytes.as_mut_slice();
    while let Some((head, after)) = rest.split_at_mut_checked(HEADER_BYTES) {
        let length =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, payload) = (length(56), length(60));
        let sums = payload.div_ceil(4096) * 4;
        if let Some((front, behind)) = after.split_at_mut_checked(body + sums) {
            let blocks = &behind[..payload.min(behind.len())];
            for (place, block) in front[body..].chunks_exact_mut(4).zip(blocks.chunks(4096)) {
                place.copy_from_slice(&crc32c::crc32c(block).to_le_bytes());
            }
            head[64..68].copy_from_slice(&crc32c::crc32c(front).to_le_bytes());
        }
        let crc = crc32c::crc32c(&head[..68]);
        head[68..72].copy_from_slice(&crc.to_le_bytes());
        let frame = body.saturating_add(sums).saturating_add(payload).min(after.len());
        rest = &mut after[frame..];
    }
    bytes
}
