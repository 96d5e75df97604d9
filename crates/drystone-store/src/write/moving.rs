//! Moves bytes that were acknowledged from the journal to their runs, in batches with one sync for each arena.

use super::mover::MovedChunk;
use super::writer::ChunkWriter;
use crate::active::{ActiveChunk, ChunkOpKind, OpStage, whole_blocks};
use crate::format::{BLOCK, tail_bytes, tail_offset};
use drystone_types::ChunkId;

/// Chunks in one batch: enough to share a sync, few enough not to hold up other work for long.
const MOST_CHUNKS: usize = 256;

/// What follows when a chunk's bytes are in its runs.
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
            let ranges = self.mover.batch.iter().map(|item| (&item.runs, item.written));
            self.mover.syncs = Some(self.space.sync_all(ranges, self.work));
        }
        let done = self
            .mover
            .syncs
            .as_ref()
            .is_some_and(|syncs| self.space.are_synced(syncs));
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
        let runs = live.runs.clone()?;
        let written;
        let end = match live.sealed {
            Some(sealed) => {
                let sums = live.all_sums();
                let tail = self.tail(chunk, live, sealed.checksum).encode(&sums, self.pool);
                let mut parts = whole_blocks(live.buffer.slice(0, sealed.length), self.pool);
                parts.push(tail);
                // It is little: one piece is written faster than two.
                let parts = whole_blocks(parts, self.pool);
                assert_eq!(
                    self.index.get(chunk).map(|entry| entry.tail_at),
                    Some(tail_offset(sealed.length)),
                    "chunk {chunk}: what is sealed from memory was never written to its runs"
                );
                let tokens = self.write_runs(chunk, live, parts, (0, sealed.length));
                self.mover.writes.extend(tokens);
                written = (0, tail_offset(sealed.length) + tail_bytes(sealed.length));
                sealed.length
            }
            // Its record is on its way with all that is in memory: it is moved as a whole, later.
            None if is_sealing(live) => return None,
            None => {
                let end = live.durable / BLOCK * BLOCK;
                if end <= live.stored {
                    return None;
                }
                written = (live.stored, end);
                self.issue(chunk, live, end);
                self.mover.writes.extend(live.writes.keys().copied());
                end
            }
        };
        Some(MovedChunk {
            chunk,
            live: live.id,
            runs,
            written,
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
        if let Some(mut entry) = self.index.get(chunk) {
            entry.stored = match (item.sealed, live.sealed.is_some()) {
                (true, _) => entry.length,
                // Sealed from memory since: it is moved as a whole.
                (false, true) => entry.stored,
                (false, false) => entry.stored.max(item.end.min(entry.length)),
            };
            self.index.set(chunk, Some(entry));
        }
        if !item.sealed {
            live.stored = live.stored.max(item.end.min(live.received / BLOCK * BLOCK));
            if live.durable <= live.stored {
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
