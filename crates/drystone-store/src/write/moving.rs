//! Moves bytes that were acknowledged from the journal to their slots, in batches with one sync for each file.

use super::mover::MovedChunk;
use super::writer::ChunkWriter;
use crate::active::{ActiveChunk, ChunkOpKind, OpStage, whole_blocks};
use crate::format::{BLOCK, head_bytes};
use drystone_types::ChunkId;
use std::collections::BTreeMap;

/// Chunks in one batch: enough to share a sync, few enough not to hold up other work for long.
const MOST_CHUNKS: usize = 256;

/// What follows when a chunk's bytes are in its slot.
pub(crate) enum Moved {
    /// Nothing: the chunk was deleted meanwhile.
    Nothing,
    /// The chunk's operations can go on.
    Drive(ChunkId),
    /// The chunk is not active any more: look again at the reads that waited for it.
    Gone(Vec<u64>),
}

impl ChunkWriter<'_> {
    /// Begins the next batch if it is time, and takes the one under way further. When it is done: its chunks, for
    /// [`ChunkWriter::finish_moved`], in this order.
    pub(crate) fn run_mover(&mut self) -> Vec<MovedChunk> {
        if self.mover.batch.is_empty() {
            if !self.mover.wants_batch(self.now, self.config) {
                return Vec::new();
            }
            self.start_batch();
        }
        if self.mover.writes.is_empty() && self.mover.syncs.is_none() {
            let slots: BTreeMap<_, _> = self
                .mover
                .batch
                .iter()
                .map(|i| ((i.slot.class, i.slot.file), i.slot))
                .collect();
            let syncs = slots
                .into_values()
                .map(|slot| (slot, self.space.sync(slot, None, self.work)))
                .collect();
            self.mover.syncs = Some(syncs);
        }
        let done = self
            .mover
            .syncs
            .as_ref()
            .is_some_and(|syncs| syncs.iter().all(|(s, n)| self.space.is_synced(*s, *n)));
        if !done {
            return Vec::new();
        }
        self.mover.syncs = None;
        std::mem::take(&mut self.mover.batch)
    }

    fn start_batch(&mut self) {
        let mut batch = Vec::new();
        while batch.len() < MOST_CHUNKS {
            let Some(chunk) = self.mover.pop() else {
                break;
            };
            let Some(mut live) = self.active.take(chunk) else {
                continue;
            };
            batch.extend(self.start_item(chunk, &mut live));
            self.active.put_back(chunk, live);
        }
        self.mover.begin(self.now, self.config, batch);
    }

    fn start_item(&mut self, chunk: ChunkId, live: &mut ActiveChunk) -> Option<MovedChunk> {
        let slot = live.slot?;
        let end = match live.sealed {
            Some(sealed) => {
                let sums = live.all_sums();
                let head = self
                    .head(chunk, live, sealed.checksum)
                    .encode(slot.class, &sums, self.pool);
                let data = whole_blocks(live.buffer.slice(0, sealed.length), self.pool);
                let full_head = head_bytes(slot.class, slot.class.bytes());
                if head.len() as u64 == full_head {
                    // Head and data lie side by side: one write.
                    let parts = whole_blocks(std::iter::once(head).chain(data).collect(), self.pool);
                    let token = self.write_slot(chunk, live, slot.head_offset(), parts, (0, sealed.length));
                    self.mover.writes.extend(token);
                } else {
                    let first = self.write_slot(chunk, live, slot.head_offset(), vec![head], (0, 0));
                    let second = self.write_slot(chunk, live, slot.data_offset(), data, (0, sealed.length));
                    self.mover.writes.extend(first.into_iter().chain(second));
                }
                sealed.length
            }
            // Its record is on its way with all that is in memory: it is moved as a whole, later.
            None if is_sealing(live) => return None,
            None => {
                let end = live.durable / BLOCK * BLOCK;
                if end <= live.slot_synced {
                    return None;
                }
                self.issue(chunk, live, end);
                self.mover.writes.extend(live.writes.keys().copied());
                end
            }
        };
        Some(MovedChunk {
            chunk,
            live: live.id,
            slot,
            end,
            sealed: live.sealed.is_some(),
        })
    }

    /// The batch is done that held the chunk.
    pub(crate) fn finish_moved(&mut self, item: &MovedChunk) -> Moved {
        let chunk = item.chunk;
        let Some(mut live) = self.active.take(chunk) else {
            return Moved::Nothing;
        };
        if live.id != item.live {
            self.active.put_back(chunk, live);
            return Moved::Nothing;
        }
        if let Some(mut entry) = self.index.get(chunk).copied() {
            entry.slot_len = match (item.sealed, live.sealed.is_some()) {
                (true, _) => entry.length,
                // Sealed from memory since: it is moved as a whole.
                (false, true) => entry.slot_len,
                (false, false) => entry.slot_len.max(item.end.min(entry.length)),
            };
            self.index.set(chunk, Some(entry));
        }
        if !item.sealed {
            live.slot_synced = live.slot_synced.max(item.end.min(live.received / BLOCK * BLOCK));
            if live.durable <= live.slot_synced {
                live.journal_from = None;
            }
            self.active.put_back(chunk, live);
            return Moved::Drive(chunk);
        }
        if let Some(sealed) = live.sealed {
            self.answer_sealed(chunk, &mut live, sealed);
        }
        self.sums.put(chunk, live.all_sums().into());
        self.active.forget(&live);
        Moved::Gone(live.waiting_reads)
    }
}

fn is_sealing(live: &ActiveChunk) -> bool {
    live.ops
        .front()
        .is_some_and(|op| matches!(op.kind, ChunkOpKind::Seal { .. }) && op.stage != OpStage::Start)
}
