//! Blocking helpers for tests and tools: the shell's loop in one call.

use crate::format::{BLOCK_BYTES, HEADER_BYTES};
use crate::{Lsn, Wal, WalError};
use drystone_env::{BufferPool, IoRequest, Monotonic};
use std::collections::VecDeque;

/// Flushes `wal` and executes its requests, one after another on this thread, until nothing is open or in
/// flight, or the log is [starved](Wal::starved). Returns the highest durable record.
///
/// # Errors
/// [`WalError::Failed`] as from [`Wal::on_completion`].
pub fn drain(wal: &mut Wal, now: Monotonic, pool: &BufferPool) -> Result<Lsn, WalError> {
    let mut out = Vec::new();
    wal.flush(now, &mut out);
    run(wal, now, out, pool)
}

/// Executes `requests`, all of them the log's own, and those that follow from them, until none is left. Returns
/// the highest durable record.
///
/// # Errors
/// [`WalError::Failed`] as from [`Wal::on_completion`].
pub fn run(
    wal: &mut Wal,
    now: Monotonic,
    requests: Vec<IoRequest>,
    pool: &BufferPool,
) -> Result<Lsn, WalError> {
    let mut queue = VecDeque::from(requests);
    let mut out = Vec::new();
    while let Some(request) = queue.pop_front() {
        let completion = request.execute(pool);
        wal.on_completion(now, completion, &mut out)?;
        queue.extend(out.drain(..));
    }
    Ok(wal.durable())
}

/// Makes the checksums of a segment's batches fit, from the one that covers the byte at `at` to the last one that
/// still follows; for tests and fuzzers that forge what the checksums would hide.
pub fn reseal(segment: &mut [u8], at: usize) {
    let (mut offset, mut previous) = (0, None);
    while let Some(head) = segment.get(offset..offset + HEADER_BYTES)
        && head[..4] == *b"DWAL"
    {
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let bytes = (HEADER_BYTES + number(76) as usize).next_multiple_of(BLOCK_BYTES);
        let end = segment.len().min(offset + bytes);
        if previous.is_some() || at < end {
            let body = crc32c::crc32c(&segment[offset + HEADER_BYTES..end]);
            let head = &mut segment[offset..offset + HEADER_BYTES];
            head[12..16].copy_from_slice(&body.to_le_bytes());
            if let Some(previous) = previous {
                head[88..92].copy_from_slice(&u32::to_le_bytes(previous));
            }
            let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..8]), &head[12..]);
            head[8..12].copy_from_slice(&crc.to_le_bytes());
            previous = Some(crc);
        }
        offset = end;
    }
}
