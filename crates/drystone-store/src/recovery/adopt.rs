//! Enters the chunks with which replay ended.

use super::fault::damaged;
use super::replay::ReplayedPart;
use crate::active::{ActiveChunk, ActiveChunks, ChunkBuffer};
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::format::BLOCK;
use crate::index::{EntryState, Index, IndexEntry};
use crate::space::Slots;
use crate::write::Mover;
use drystone_env::Monotonic;
use drystone_proto::checksum;
use drystone_types::{ChunkId, DiskRef};

/// The parts of a store that chunks are entered in.
pub(super) struct Adopted<'a> {
    pub(super) config: &'a StoreConfig,
    pub(super) me: DiskRef,
    pub(super) slots: Slots,
    pub(super) index: Index,
    pub(super) active: ActiveChunks,
    pub(super) mover: Mover,
}

/// Enters a chunk that replay ended with.
pub(super) fn adopt(
    parts: &mut Adopted<'_>,
    chunk: ChunkId,
    entry: IndexEntry,
    part: ReplayedPart,
) -> Result<(), OpenError> {
    parts.index.set(chunk, Some(entry));
    let Some(slot) = entry.slot else { return Ok(()) };
    if !parts.slots.claim(slot) {
        if parts.slots.exists(slot) {
            let place = format!("chunk {chunk} in {slot:?}");
            return Err(damaged(place, "a slot of its own", "another chunk's slot"));
        }
        // The file is gone: these chunks are lost, not the disk.
        parts.slots.avoid(slot);
        tracing::error!(disk = %parts.me, %chunk, ?slot, "slot file is missing or cut off");
    }
    if entry.state == EntryState::Sealed && entry.slot_len == entry.length {
        return Ok(());
    }
    let mut live = parts.active.create(entry.placement, entry.epoch, slot.class);
    live.slot = Some(slot);
    live.recorded = true;
    live.durable = entry.length;
    live.received = entry.length;
    live.journal_from = part.from;
    let start = if entry.state == EntryState::Sealed {
        0
    } else {
        entry.slot_len / BLOCK * BLOCK
    };
    live.slot_synced = start;
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
        _ if entry.length / BLOCK * BLOCK > live.slot_synced => entry.length - live.slot_synced,
        _ => 0,
    };
    if unmoved > 0 || entry.state == EntryState::Sealed {
        parts.mover.add(Monotonic(0), parts.config, chunk, unmoved);
    }
    parts.active.add(chunk, live);
    Ok(())
}

/// The checksums of whole blocks: those known of the slot's part, computed of what is in memory.
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
