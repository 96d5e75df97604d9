//! Enters the chunks with which replay ended.

use super::fault::damaged;
use super::replay::ReplayedPart;
use crate::active::{ActiveChunk, ActiveChunks, ChunkBuffer};
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::format::{BLOCK, tail_bytes, tail_offset};
use crate::index::{EntryState, Index, IndexEntry};
use crate::space::{Arenas, Claim};
use crate::write::Mover;
use drystone_env::Monotonic;
use drystone_proto::checksum;
use drystone_types::{ChunkId, DiskRef, MAX_CHUNK_BYTES};
use std::collections::BTreeMap;

/// The parts of a store that chunks are entered in.
pub(super) struct Adopted<'a> {
    pub(super) config: &'a StoreConfig,
    pub(super) me: DiskRef,
    pub(super) arenas: Arenas,
    pub(super) active: ActiveChunks,
    pub(super) mover: Mover,
}

/// Enters all chunks that replay ended with.
pub(super) fn adopt_all(
    adopted: &mut Adopted<'_>,
    index: &Index,
    mut parts: BTreeMap<ChunkId, ReplayedPart>,
) -> Result<(), OpenError> {
    for (chunk, entry) in index.entries(ChunkId(0)) {
        adopt(adopted, chunk, entry, parts.remove(&chunk).unwrap_or_default())?;
    }
    Ok(())
}

fn adopt(
    parts: &mut Adopted<'_>,
    chunk: ChunkId,
    entry: IndexEntry,
    part: ReplayedPart,
) -> Result<(), OpenError> {
    let Some(runs) = entry.runs.clone() else {
        return Ok(());
    };
    let mut is_missing = false;
    for run in runs.as_slice() {
        match parts.arenas.claim(*run) {
            Claim::Taken => {}
            Claim::Missing => is_missing = true,
            Claim::Owned => {
                let place = format!("chunk {chunk} in {run:?}");
                return Err(damaged(place, "units of its own", "another chunk's units"));
            }
        }
    }
    if is_missing {
        // These chunks are lost, not the disk.
        tracing::error!(disk = %parts.me, %chunk, ?runs, "arena is missing or cut off");
    }
    if entry.is_settled() {
        return Ok(());
    }
    let most = match entry.state {
        EntryState::Sealed => entry.length,
        // What it was granted is not known any more: as much as it has space for.
        _ => longest_in(runs.bytes()),
    };
    let mut live = parts.active.create(entry.placement, entry.epoch, most);
    live.runs = Some(runs);
    live.tail_at = entry.tail_at;
    live.recorded = true;
    live.durable = entry.length;
    live.received = entry.length;
    live.journal_from = part.from;
    let start = if entry.state == EntryState::Sealed {
        0
    } else {
        entry.stored / BLOCK * BLOCK
    };
    live.stored = start;
    live.buffer = ChunkBuffer::starting_at(start);
    let mut at = part.start;
    for piece in part.data {
        let end = at + piece.len() as u64;
        let (low, high) = (at.max(start), end.min(entry.length));
        if low < high && low == live.buffer.end() {
            live.buffer
                .push(piece.slice((low - at) as usize..(high - at) as usize));
        }
        at = end;
    }
    if live.buffer.end() != entry.length {
        let found = format!("{} to {}", part.start, part.end);
        return Err(damaged(
            format!("journal, chunk {chunk}"),
            format!("bytes {start} to {}", entry.length),
            found,
        ));
    }
    live.durable_tail = live.copy_tail(entry.length);
    complete_sums(&mut live, part.sums, start);
    live.sums_logged = live.sums.len();
    if (live.sums.len() as u64) < entry.length / BLOCK {
        let found = format!("{} checksums", live.sums.len());
        return Err(damaged(
            format!("journal, chunk {chunk}"),
            format!("{} bytes", entry.length),
            found,
        ));
    }
    live.fenced = entry.state == EntryState::Fenced;
    live.stopped = entry.state != EntryState::Open;
    if entry.state == EntryState::Sealed {
        live.sealed = entry.sealed();
        let found = checksum::combine(&live.all_sums(), entry.length);
        if found != entry.checksum {
            let place = format!("journal, chunk {chunk}");
            return Err(damaged(
                place,
                format!("checksum {:#010x}", entry.checksum),
                format!("{found:#010x}"),
            ));
        }
    }
    let unmoved = match entry.state {
        EntryState::Sealed => entry.length,
        _ if entry.length / BLOCK * BLOCK > live.stored => entry.length - live.stored,
        _ => 0,
    };
    if unmoved > 0 || entry.state == EntryState::Sealed {
        parts.mover.add(Monotonic(0), parts.config, chunk, unmoved);
    }
    parts.active.add(chunk, live);
    Ok(())
}

/// The longest chunk that fits into `bytes` with its tail.
fn longest_in(bytes: u64) -> u64 {
    let mut longest = bytes.min(MAX_CHUNK_BYTES) / BLOCK * BLOCK;
    while longest > 0 && tail_offset(longest) + tail_bytes(longest) > bytes {
        longest -= BLOCK;
    }
    longest
}

/// The checksums of whole blocks: those known of the runs' part, computed of what is in memory.
fn complete_sums(live: &mut ActiveChunk, known: Vec<u32>, start: u64) {
    live.sums = known;
    live.sums.truncate((start / BLOCK) as usize);
    if live.sums.len() as u64 == start / BLOCK {
        let end = live.received / BLOCK * BLOCK;
        let bytes = live.buffer.slice(start, end).concat();
        live.sums
            .extend(bytes.chunks_exact(BLOCK as usize).map(crc32c::crc32c));
    }
}
