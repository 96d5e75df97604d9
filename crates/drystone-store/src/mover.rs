//! Moves bytes that were acknowledged from the journal to their slots, in batches with one sync for each file.

use crate::Store;
use crate::format::{BLOCK, SlotRef, head_bytes};
use crate::live::{Live, OpKind, Stage, whole_blocks};
use drystone_env::Monotonic;
use drystone_types::ChunkId;
use std::collections::{BTreeMap, BTreeSet};

/// Chunks in one batch: enough to share a sync, few enough not to hold up other work for long.
const MOST_CHUNKS: usize = 256;

/// What is to be moved, and the batch under way.
#[derive(Default)]
pub(crate) struct Mover {
    waiting: BTreeMap<ChunkId, u64>,
    waiting_bytes: u64,
    due: Option<Monotonic>,
    batch: Vec<Item>,
    writes: BTreeSet<u64>,
    syncs: Option<BTreeMap<SlotRef, u64>>,
    /// A checkpoint waits.
    pub(crate) urged: bool,
}

struct Item {
    chunk: ChunkId,
    live: u64,
    slot: SlotRef,
    /// Durable in the slot when the batch is done.
    end: u64,
    sealed: bool,
}

impl Mover {
    pub(crate) fn written(&mut self, token: u64) {
        self.writes.remove(&token);
    }

    /// When the next batch begins; the end of the one under way is heard of without being woken.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.due.filter(|_| self.batch.is_empty())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.waiting.is_empty()
    }
}

impl Store {
    pub(crate) fn must_move(&mut self, chunk: ChunkId, bytes: u64) {
        let mover = &mut self.mover;
        let old = mover.waiting.insert(chunk, bytes).unwrap_or(0);
        mover.waiting_bytes = mover.waiting_bytes + bytes - old;
        mover.due.get_or_insert(self.now.plus(self.config.move_after));
    }

    pub(crate) fn run_mover(&mut self) {
        if self.mover.batch.is_empty() {
            let mover = &self.mover;
            let due = mover.due.is_some_and(|due| due <= self.now);
            let wanted = due || mover.urged || mover.waiting_bytes >= self.config.move_bytes;
            if !wanted || mover.waiting.is_empty() {
                return;
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
                .map(|slot| (slot, self.sync_slot(slot, None)))
                .collect();
            self.mover.syncs = Some(syncs);
        }
        let done = self
            .mover
            .syncs
            .as_ref()
            .is_some_and(|syncs| syncs.iter().all(|(s, n)| self.is_synced(*s, *n)));
        if done {
            self.finish_batch();
        }
    }

    fn start_batch(&mut self) {
        let mut batch = Vec::new();
        while batch.len() < MOST_CHUNKS {
            let Some((chunk, bytes)) = self.mover.waiting.pop_first() else {
                break;
            };
            self.mover.waiting_bytes -= bytes;
            let Some(mut live) = self.live.remove(&chunk) else {
                continue;
            };
            batch.extend(self.start_item(chunk, &mut live));
            self.keep_live(chunk, live);
        }
        self.mover.due = (!self.mover.waiting.is_empty()).then(|| self.now.plus(self.config.move_after));
        self.mover.batch = batch;
        self.mover.syncs = None;
    }

    fn start_item(&mut self, chunk: ChunkId, live: &mut Live) -> Option<Item> {
        let slot = live.slot?;
        let end = match live.sealed {
            Some(sealed) => {
                let sums = live.all_sums();
                let head = self
                    .head(chunk, live, sealed.checksum)
                    .encode(slot.class, &sums, &self.pool);
                let data = whole_blocks(live.buffer.slice(0, sealed.length), &self.pool);
                let full_head = head_bytes(slot.class, slot.class.bytes());
                if head.len() as u64 == full_head {
                    // Head and data lie side by side: one write.
                    let parts = whole_blocks(std::iter::once(head).chain(data).collect(), &self.pool);
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
        live.moving = true;
        Some(Item {
            chunk,
            live: live.id,
            slot,
            end,
            sealed: live.sealed.is_some(),
        })
    }

    fn finish_batch(&mut self) {
        self.mover.syncs = None;
        for item in std::mem::take(&mut self.mover.batch) {
            let Some(mut live) = self.live.remove(&item.chunk) else {
                continue;
            };
            if live.id != item.live {
                self.live.insert(item.chunk, live);
                continue;
            }
            live.moving = false;
            if let Some(mut entry) = self.index.get(&item.chunk).copied() {
                entry.slot_len = match (item.sealed, live.sealed.is_some()) {
                    (true, _) => entry.length,
                    // Sealed from memory since: it is moved as a whole.
                    (false, true) => entry.slot_len,
                    (false, false) => entry.slot_len.max(item.end.min(entry.length)),
                };
                self.set_entry(item.chunk, Some(entry));
            }
            if !item.sealed {
                live.slot_synced = live.slot_synced.max(item.end.min(live.received / BLOCK * BLOCK));
                if live.durable <= live.slot_synced {
                    live.journal_from = None;
                }
                self.keep_live(item.chunk, live);
                self.drive(item.chunk);
                continue;
            }
            if let Some(sealed) = live.sealed {
                self.answer_sealed(item.chunk, &mut live, sealed);
            }
            self.cache.put(item.chunk, live.all_sums().into());
            self.drop_live(&live);
            for job in std::mem::take(&mut live.waiting_reads) {
                self.begin_read(job);
            }
        }
    }
}

fn is_sealing(live: &Live) -> bool {
    live.ops
        .front()
        .is_some_and(|op| matches!(op.kind, OpKind::Seal { .. }) && op.stage != Stage::Start)
}
