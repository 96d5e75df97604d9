//! How bytes become durable: each chunk's operations, one after another.
//!
//! *Journal path*: what is not durable yet is little and still in memory: it goes into the record; one sync. *Direct
//! path*: whole blocks are in the runs or on their way; when they are written the arenas are synced, and then the
//! record says how long the chunk is, with the checksums that it does not know yet and the partial block.

use super::writer::{ChunkWriter, conflict, seal_reply};
use crate::active::{ActiveChunk, ChunkOp, ChunkOpKind, OpStage, whole_blocks};
use crate::error::StoreError;
use crate::format::{BLOCK, Runs, tail_bytes, tail_offset, units_to};
use crate::index::{EntryState, IndexEntry};
use crate::input::{RequestId, StoreReply};
use crate::journal::{AfterRecord, JournalRecord};
use crate::read::CutBlock;
use crate::space::Owner;
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_proto::checksum;
use drystone_types::{ChunkId, Epoch};
use drystone_wal::Lsn;

/// How far a chunk's operations got.
pub(crate) enum Driven {
    /// Something must happen first.
    Waits,
    /// A fence of this epoch is durable: verify what is here for its answer, and go on.
    Verify(RequestId, Epoch),
    /// Read the block that this length cuts.
    Cut(u64),
    /// The chunk is not active any more: look again at the reads that waited for it.
    Gone(Vec<u64>),
}

/// What became of one step.
enum OpStep {
    /// Look again.
    Again,
    /// Something must happen first.
    Wait,
    /// A fence of this epoch is durable: verify what is here for its answer.
    Verify(RequestId, Epoch),
    /// Read the block that this length cuts.
    Cut(u64),
    /// The chunk is not in memory any more.
    Gone,
}

impl ChunkWriter<'_> {
    /// Does what can be done for the chunk's operations.
    pub(crate) fn drive(&mut self, chunk: ChunkId) -> Driven {
        let Some(mut live) = self.active.take(chunk) else {
            return Driven::Waits;
        };
        let driven = loop {
            let step = if self.health.failed.is_some() {
                OpStep::Wait
            } else {
                self.step(chunk, &mut live)
            };
            match step {
                OpStep::Again => {}
                OpStep::Wait => break Driven::Waits,
                OpStep::Verify(request, epoch) => break Driven::Verify(request, epoch),
                OpStep::Cut(length) => break Driven::Cut(length),
                OpStep::Gone => {
                    self.active.forget(&live);
                    return Driven::Gone(live.waiting_reads);
                }
            }
        };
        self.active.put_back(chunk, live);
        driven
    }

    fn step(&mut self, chunk: ChunkId, live: &mut ActiveChunk) -> OpStep {
        if live.runs.is_none() {
            return OpStep::Wait;
        }
        let Some(op) = live.ops.front().copied() else {
            // Frames came before there was space.
            if !live.stopped && live.buffer.len() > self.config.small_bytes {
                self.issue(chunk, live, live.received / BLOCK * BLOCK);
            }
            return OpStep::Wait;
        };
        if op.stage == OpStage::Start
            && let Some(refusal) = self.late(chunk, live, op)
        {
            return refusal;
        }
        match (op.kind, op.stage) {
            (ChunkOpKind::Space { .. }, _) => {
                live.ops.pop_front();
                let reply = appended(live);
                self.reply(op.request, Ok(reply));
                OpStep::Again
            }
            (ChunkOpKind::Sync { end }, OpStage::Start) if end <= live.durable => {
                live.ops.pop_front();
                let reply = appended(live);
                self.reply(op.request, Ok(reply));
                OpStep::Again
            }
            (ChunkOpKind::Sync { .. }, OpStage::Start) => self.start_sync(chunk, live),
            (ChunkOpKind::Seal { .. }, OpStage::Start) => self.start_seal(chunk, live, op),
            (ChunkOpKind::Fence { epoch }, OpStage::Start) => {
                let entry = IndexEntry {
                    epoch,
                    ..self.entry(live, EntryState::Fenced, live.durable)
                };
                live.epoch = epoch;
                self.log_replica(chunk, live, entry, 0, Vec::new());
                set_stage(live, OpStage::Journal);
                OpStep::Wait
            }
            (_, OpStage::Cut | OpStage::Journal) => OpStep::Wait,
            (_, OpStage::Writes) => {
                if live.is_writing_below(op.target.max(1)) {
                    return OpStep::Wait;
                }
                let Some(runs) = &live.runs else {
                    return OpStep::Wait;
                };
                if planted(Bug::RecordBeforeSync) {
                    self.runs_are_synced(chunk, live, op.kind, op.target);
                    return OpStep::Wait;
                }
                let end = match op.kind {
                    ChunkOpKind::Seal { .. } => live.tail_at + tail_bytes(op.target),
                    _ => op.target,
                };
                // What lies before is durable.
                let range = (live.stored, end);
                live.syncs = self.space.sync(runs, range, Some(chunk), self.work);
                set_stage(live, OpStage::Syncing);
                OpStep::Again
            }
            (kind, OpStage::Syncing) => {
                if !self.space.are_synced(&live.syncs) {
                    self.space.wait_for_syncs(&live.syncs, chunk);
                    return OpStep::Wait;
                }
                self.runs_are_synced(chunk, live, kind, op.target);
                OpStep::Wait
            }
            (_, OpStage::Durable) => self.finish_op(chunk, live, op),
        }
    }

    /// What became of the chunk since the operation was asked for may have answered it.
    fn late(&mut self, chunk: ChunkId, live: &mut ActiveChunk, op: ChunkOp) -> Option<OpStep> {
        if let Some(sealed) = live.sealed {
            self.answer_sealed(chunk, live, sealed);
            live.sealed = self.index.get(chunk).and_then(|e| e.sealed()).or(live.sealed);
            live.epoch = live.sealed.map_or(live.epoch, |s| s.epoch);
            return Some(OpStep::Again);
        }
        let offered = match op.kind {
            ChunkOpKind::Sync { end } if end <= live.durable => return None,
            ChunkOpKind::Space { .. } | ChunkOpKind::Sync { .. } => Epoch::FIRST,
            ChunkOpKind::Seal { epoch, .. } | ChunkOpKind::Fence { epoch } => epoch,
        };
        if !live.fenced || offered >= live.epoch {
            return None;
        }
        live.ops.pop_front();
        self.reply(
            op.request,
            Err(StoreError::Fenced {
                chunk,
                offered,
                current: live.epoch,
            }),
        );
        Some(OpStep::Again)
    }

    fn entry(&self, live: &ActiveChunk, state: EntryState, length: u64) -> IndexEntry {
        IndexEntry {
            placement: live.placement,
            epoch: live.epoch,
            state,
            runs: live.runs.clone(),
            length,
            stored: live.stored.min(length / BLOCK * BLOCK),
            checksum: 0,
            tail_at: 0,
        }
    }

    /// As it will be sealed at `length`: with no more space than that needs.
    fn sealed_entry(&self, live: &ActiveChunk, length: u64) -> IndexEntry {
        let units = units_to(live.tail_at, length);
        IndexEntry {
            runs: live.runs.as_ref().and_then(|runs| Runs::of(runs.split(units).0)),
            tail_at: live.tail_at,
            ..self.entry(live, EntryState::Sealed, length)
        }
    }

    /// True if what lies between what is durable and `target` fits into a record.
    fn goes_to_journal(&self, live: &ActiveChunk, target: u64) -> bool {
        let durable = live.durable.min(target);
        live.buffer.start <= live.stored.max(durable)
            && live.buffer.start <= durable
            && target - durable <= self.config.small_bytes
    }

    fn start_sync(&mut self, chunk: ChunkId, live: &mut ActiveChunk) -> OpStep {
        let target = live.received;
        set_target(live, target);
        live.next_tail = live.copy_tail(target);
        if self.goes_to_journal(live, target) {
            let entry = self.entry(live, EntryState::Open, target);
            let data = live.buffer.slice(live.durable, target);
            self.log_replica(chunk, live, entry, live.durable, data);
            set_stage(live, OpStage::Journal);
            return OpStep::Wait;
        }
        self.issue(chunk, live, target / BLOCK * BLOCK);
        set_stage(live, OpStage::Writes);
        OpStep::Again
    }

    fn start_seal(&mut self, chunk: ChunkId, live: &mut ActiveChunk, op: ChunkOp) -> OpStep {
        let ChunkOpKind::Seal {
            length,
            expect,
            epoch,
            ..
        } = op.kind
        else {
            return OpStep::Wait;
        };
        let most = if live.fenced { live.durable } else { live.received };
        if length > most {
            live.ops.pop_front();
            live.stopped = live.fenced;
            self.reply(op.request, Err(conflict(chunk, most, None)));
            return OpStep::Again;
        }
        let sums = live.sums_at(length);
        if (sums.len() as u64) < length.div_ceil(BLOCK) {
            // The block that is cut is in the runs, perhaps still on its way.
            if !live.writes.is_empty() {
                return OpStep::Wait;
            }
            set_stage(live, OpStage::Cut);
            return OpStep::Cut(length);
        }
        let checksum = checksum::combine(&sums, length);
        if let Some(expected) = expect.filter(|expected| *expected != checksum) {
            live.ops.pop_front();
            live.stopped = live.fenced;
            self.reply(
                op.request,
                Err(StoreError::Checksum {
                    chunk,
                    expected,
                    found: checksum,
                }),
            );
            return OpStep::Again;
        }
        live.cut_sum = sums
            .last()
            .filter(|_| length % BLOCK != 0)
            .map(|sum| (length, *sum));
        // Nothing is written where acknowledged bytes may be, also if it is sealed before them.
        live.tail_at = tail_offset(length.max(live.buffer.start));
        if length < live.received {
            cut(live, length);
        }
        live.epoch = live.epoch.max(epoch);
        set_target(live, length);
        if live.buffer.start == 0 && length <= self.config.small_bytes && self.goes_to_journal(live, length) {
            let from = live.durable.min(length);
            let entry = IndexEntry {
                checksum,
                stored: 0,
                ..self.sealed_entry(live, length)
            };
            let data = live.buffer.slice(from, length);
            self.log_replica(chunk, live, entry, from, data);
            set_stage(live, OpStage::Journal);
            return OpStep::Wait;
        }
        self.write_end(chunk, live, checksum, &sums);
        set_stage(live, OpStage::Writes);
        OpStep::Again
    }

    /// Writes what is left of the content, padded, and the tail.
    fn write_end(&mut self, chunk: ChunkId, live: &mut ActiveChunk, checksum: u32, sums: &[u32]) {
        let (start, end) = (live.buffer.start, live.buffer.end());
        let mut parts = whole_blocks(live.buffer.take(end), self.pool);
        parts.push(self.tail(chunk, live, checksum).encode(sums, self.pool));
        if start < end {
            // The tail follows at once.
            self.write_runs(chunk, live, parts, (start, end));
        } else {
            // All of the content is written, and perhaps more.
            self.write_runs(chunk, live, parts, (live.tail_at, live.tail_at));
        }
    }

    fn runs_are_synced(&mut self, chunk: ChunkId, live: &mut ActiveChunk, kind: ChunkOpKind, target: u64) {
        match kind {
            ChunkOpKind::Seal { .. } => {
                live.stored = live.stored.max(target / BLOCK * BLOCK);
                let checksum = checksum::combine(&live.all_sums(), target);
                let entry = IndexEntry {
                    checksum,
                    stored: target,
                    ..self.sealed_entry(live, target)
                };
                self.log_replica(chunk, live, entry, 0, Vec::new());
            }
            _ => {
                let whole = target / BLOCK * BLOCK;
                live.stored = live.stored.max(whole);
                let entry = self.entry(live, EntryState::Open, target);
                let data = Some(live.next_tail.clone())
                    .filter(|tail| !tail.is_empty())
                    .into_iter()
                    .collect();
                self.log_replica(chunk, live, entry, whole, data);
            }
        }
        set_stage(live, OpStage::Journal);
    }

    fn log_replica(
        &mut self,
        chunk: ChunkId,
        live: &mut ActiveChunk,
        entry: IndexEntry,
        offset: u64,
        data: Vec<Bytes>,
    ) {
        let whole = (entry.length / BLOCK) as usize;
        let (first, sums) = if entry.state == EntryState::Sealed {
            (0, Vec::new())
        } else {
            let first = live.sums_logged.min(whole);
            live.sums_logged = whole.max(first);
            (first as u32, live.sums[first..whole].to_vec())
        };
        live.recorded = true;
        let has_data = !data.is_empty();
        let after = AfterRecord::Replica {
            chunk,
            live: live.id,
            entry: entry.clone(),
            has_data,
        };
        let record = JournalRecord::Replica {
            chunk,
            entry,
            first,
            sums,
            offset,
            data,
        };
        self.journal.log(&record, after);
    }

    /// The record of the chunk's first operation is durable. True if the chunk goes on from there.
    pub(crate) fn on_replica_durable(
        &mut self,
        lsn: Lsn,
        chunk: ChunkId,
        id: u64,
        mut entry: IndexEntry,
        has_data: bool,
    ) -> bool {
        if let Some(old) = self
            .index
            .get(chunk)
            .filter(|old| old.placement == entry.placement)
        {
            entry.stored = entry.stored.max(old.stored.min(entry.length));
            if entry.state == EntryState::Sealed && entry.stored < entry.length {
                entry.stored = 0;
            }
        }
        let (length, state) = (entry.length, entry.state);
        self.index.set(chunk, Some(entry));
        let Some(live) = self.active.get_mut(chunk).filter(|live| live.id == id) else {
            return false;
        };
        if state == EntryState::Sealed
            && let Some(runs) = &live.runs
        {
            let units = units_to(live.tail_at, length);
            let (kept, rest) = runs.split(units);
            if planted(Bug::LastUnitGivenBack) {
                self.space.release(Owner::of(runs), runs.split(units - 1).1);
            } else {
                self.space.release(Owner::of(runs), rest);
            }
            live.runs = Runs::of(kept);
        }
        live.durable = length;
        if state == EntryState::Open {
            live.durable_tail = std::mem::take(&mut live.next_tail);
        }
        if has_data {
            live.journal_from.get_or_insert(lsn);
        }
        set_stage(live, OpStage::Durable);
        true
    }

    /// The block that a seal cuts was read.
    pub(crate) fn on_cut(&mut self, cut: CutBlock) {
        let CutBlock {
            chunk,
            live,
            length,
            block,
        } = cut;
        let Some(live) = self.active.get_mut(chunk).filter(|found| found.id == live) else {
            return;
        };
        let Some(op) = live.ops.front_mut().filter(|op| op.stage == OpStage::Cut) else {
            return;
        };
        debug_assert!(matches!(op.kind, ChunkOpKind::Seal { .. }), "only seals cut");
        match block {
            Ok(block) => {
                op.stage = OpStage::Start;
                live.cut_sum = Some((length, crc32c::crc32c(&block[..(length % BLOCK) as usize])));
            }
            Err(error) => {
                let request = op.request;
                live.ops.pop_front();
                self.reply(request, Err(error));
            }
        }
    }

    /// Panics unless the index, which is set when a record is durable and by nothing else, says that the chunk is
    /// durable to `end`: what is about to be acknowledged.
    fn assert_durable(&self, chunk: ChunkId, end: u64) {
        let durable = self.index.get(chunk).map(|entry| entry.length);
        assert!(
            durable.is_some_and(|durable| durable >= end),
            "chunk {chunk}: {end} bytes are to be acknowledged, {durable:?} are durable"
        );
    }

    fn finish_op(&mut self, chunk: ChunkId, live: &mut ActiveChunk, op: ChunkOp) -> OpStep {
        live.ops.pop_front();
        match op.kind {
            ChunkOpKind::Space { .. } => unreachable!("it has one stage only"),
            ChunkOpKind::Sync { end } => {
                self.assert_durable(chunk, end);
                let reply = appended(live);
                self.reply(op.request, Ok(reply));
                if live.durable / BLOCK * BLOCK > live.stored {
                    self.must_move(chunk, live.durable - live.stored);
                }
                OpStep::Again
            }
            ChunkOpKind::Fence { epoch } => {
                live.fenced = true;
                live.stopped = true;
                debug_assert!(live.epoch >= epoch, "the record named it");
                OpStep::Verify(op.request, epoch)
            }
            ChunkOpKind::Seal { as_append, .. } => {
                let entry = self.index.get(chunk);
                let is_stored = entry.as_ref().is_some_and(IndexEntry::is_settled);
                let Some(sealed) = entry.as_ref().and_then(IndexEntry::sealed) else {
                    return OpStep::Again;
                };
                live.sealed = Some(sealed);
                self.assert_durable(chunk, sealed.length);
                self.reply(op.request, Ok(seal_reply(sealed, as_append)));
                if is_stored {
                    // Whoever still waits asks about what is sealed now.
                    self.answer_sealed(chunk, live, sealed);
                    self.sums.put(chunk, live.all_sums().into());
                    return OpStep::Gone;
                }
                self.must_move(chunk, sealed.length);
                OpStep::Again
            }
        }
    }
}

/// How far the chunk is, to whoever appended.
pub(super) fn appended(live: &ActiveChunk) -> StoreReply {
    StoreReply::Appended {
        received: live.received,
        durable: live.durable,
        sealed: None,
    }
}

fn set_stage(live: &mut ActiveChunk, stage: OpStage) {
    if let Some(op) = live.ops.front_mut() {
        op.stage = stage;
    }
}

fn set_target(live: &mut ActiveChunk, target: u64) {
    if let Some(op) = live.ops.front_mut() {
        op.target = target;
    }
}

fn cut(live: &mut ActiveChunk, length: u64) {
    let whole = (length / BLOCK) as usize;
    live.buffer.truncate(length);
    live.sums.truncate(whole);
    live.sums_logged = live.sums_logged.min(whole);
    live.stored = live.stored.min(length / BLOCK * BLOCK);
    live.received = length;
}
