//! How bytes become durable: each chunk's operations, one after another.
//!
//! *Journal path*: what is not durable yet is little and still in memory: it goes into the record; one sync. *Slot
//! path*: whole blocks are in the slot or on their way; when they are written the slot file is synced, and then the
//! record says how long the chunk is, with the checksums that it does not know yet and the partial block.

use crate::format::{BLOCK, Head};
use crate::index::{Entry, State};
use crate::input::{Reply, Sealed};
use crate::journal::Pending;
use crate::live::{Live, Op, OpKind, Stage, whole_blocks};
use crate::record::Record;
use crate::{Store, StoreError};
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_proto::checksum;
use drystone_types::{ChunkId, Epoch};
use drystone_wal::Lsn;

/// What became of one step.
enum Step {
    /// Look again.
    Again,
    /// Something must happen first.
    Wait,
    /// A fence is durable: verify what is here for its answer.
    Verify(crate::RequestId),
    /// Read the block that this length cuts.
    Cut(u64),
    /// The chunk is not in memory any more.
    Gone,
}

impl Store {
    /// Does what can be done for the chunk's operations.
    pub(crate) fn drive(&mut self, chunk: ChunkId) {
        let Some(mut live) = self.live.remove(&chunk) else {
            return;
        };
        loop {
            let step = if self.failed.is_some() {
                Step::Wait
            } else {
                self.step(chunk, &mut live)
            };
            match step {
                Step::Again => {}
                Step::Wait => {
                    self.keep_live(chunk, live);
                    return;
                }
                Step::Verify(request) => {
                    self.keep_live(chunk, live);
                    self.begin_verify(request, chunk);
                    return self.drive(chunk);
                }
                Step::Cut(length) => {
                    self.keep_live(chunk, live);
                    return self.begin_cut(chunk, length);
                }
                Step::Gone => {
                    self.drop_live(&live);
                    for job in std::mem::take(&mut live.waiting_reads) {
                        self.begin_read(job);
                    }
                    return;
                }
            }
        }
    }

    fn step(&mut self, chunk: ChunkId, live: &mut Live) -> Step {
        if live.slot.is_none() {
            return Step::Wait;
        }
        let Some(op) = live.ops.front().copied() else {
            // Frames came before there was a slot.
            if !live.stopped && live.buffer.len() > self.config.small_bytes {
                self.issue(chunk, live, live.received / BLOCK * BLOCK);
            }
            return Step::Wait;
        };
        if op.stage == Stage::Start
            && let Some(refusal) = self.late(chunk, live, op)
        {
            return refusal;
        }
        match (op.kind, op.stage) {
            (OpKind::Sync { end }, Stage::Start) if end <= live.durable => {
                live.ops.pop_front();
                let reply = Reply::Appended {
                    received: live.received,
                    durable: live.durable,
                    sealed: None,
                };
                self.reply(op.request, Ok(reply));
                Step::Again
            }
            (OpKind::Sync { .. }, Stage::Start) => self.start_sync(chunk, live),
            (OpKind::Seal { .. }, Stage::Start) => self.start_seal(chunk, live, op),
            (OpKind::Fence { epoch }, Stage::Start) => {
                let entry = Entry {
                    epoch,
                    ..self.entry(live, State::Fenced, live.durable)
                };
                live.epoch = epoch;
                self.log_replica(chunk, live, entry, 0, Vec::new());
                set_stage(live, Stage::Journal);
                Step::Wait
            }
            (_, Stage::Cut | Stage::Journal) => Step::Wait,
            (_, Stage::Writes) => {
                if live.is_writing_below(op.target.max(1)) {
                    return Step::Wait;
                }
                let Some(slot) = live.slot else { return Step::Wait };
                if planted(Bug::SlotBeforeSync) {
                    self.slot_is_synced(chunk, live, op.kind, op.target);
                    return Step::Wait;
                }
                let number = self.sync_slot(slot, Some(chunk));
                set_stage(live, Stage::Syncing(number));
                Step::Wait
            }
            (kind, Stage::Syncing(number)) => {
                let synced = live.slot.is_some_and(|slot| self.is_synced(slot, number));
                if !synced {
                    if let Some(slot) = live.slot
                        && let Some(file) = self.slots.files.get_mut(&(slot.class, slot.file))
                    {
                        file.waiters.insert(chunk);
                    }
                    return Step::Wait;
                }
                self.slot_is_synced(chunk, live, kind, op.target);
                Step::Wait
            }
            (_, Stage::Durable) => self.finish_op(chunk, live, op),
        }
    }

    /// What became of the chunk since the operation was asked for may have answered it.
    fn late(&mut self, chunk: ChunkId, live: &mut Live, op: Op) -> Option<Step> {
        if let Some(sealed) = live.sealed {
            self.answer_sealed(chunk, live, sealed);
            live.sealed = self.index.get(&chunk).and_then(|e| e.sealed()).or(live.sealed);
            live.epoch = live.sealed.map_or(live.epoch, |s| s.epoch);
            return Some(Step::Again);
        }
        let offered = match op.kind {
            OpKind::Sync { end } if end <= live.durable => return None,
            OpKind::Sync { .. } => Epoch::FIRST,
            OpKind::Seal { epoch, .. } | OpKind::Fence { epoch } => epoch,
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
        Some(Step::Again)
    }

    fn entry(&self, live: &Live, state: State, length: u64) -> Entry {
        Entry {
            placement: live.placement,
            epoch: live.epoch,
            state,
            slot: live.slot,
            length,
            slot_len: live.slot_synced.min(length / BLOCK * BLOCK),
            checksum: 0,
        }
    }

    /// True if what lies between what is durable and `target` fits into a record.
    fn goes_to_journal(&self, live: &Live, target: u64) -> bool {
        let durable = live.durable.min(target);
        live.buffer.start <= live.slot_synced.max(durable)
            && live.buffer.start <= durable
            && target - durable <= self.config.small_bytes
    }

    fn start_sync(&mut self, chunk: ChunkId, live: &mut Live) -> Step {
        let target = live.received;
        set_target(live, target);
        live.next_tail = live.copy_tail(target);
        if self.goes_to_journal(live, target) {
            let entry = self.entry(live, State::Open, target);
            let data = live.buffer.slice(live.durable, target);
            self.log_replica(chunk, live, entry, live.durable, data);
            set_stage(live, Stage::Journal);
            return Step::Wait;
        }
        self.issue(chunk, live, target / BLOCK * BLOCK);
        set_stage(live, Stage::Writes);
        Step::Again
    }

    fn start_seal(&mut self, chunk: ChunkId, live: &mut Live, op: Op) -> Step {
        let OpKind::Seal {
            length,
            expect,
            epoch,
            ..
        } = op.kind
        else {
            return Step::Wait;
        };
        let most = if live.fenced { live.durable } else { live.received };
        if length > most {
            live.ops.pop_front();
            live.stopped = live.fenced;
            self.reply(op.request, Err(conflict(chunk, most, None)));
            return Step::Again;
        }
        let sums = live.sums_at(length);
        if (sums.len() as u64) < length.div_ceil(BLOCK) {
            // The block that is cut is in the slot, perhaps still on its way.
            if !live.writes.is_empty() {
                return Step::Wait;
            }
            set_stage(live, Stage::Cut);
            return Step::Cut(length);
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
            return Step::Again;
        }
        live.cut_sum = sums
            .last()
            .filter(|_| length % BLOCK != 0)
            .map(|sum| (length, *sum));
        if length < live.received {
            cut(live, length);
        }
        live.epoch = live.epoch.max(epoch);
        set_target(live, length);
        if live.buffer.start == 0 && length <= self.config.small_bytes && self.goes_to_journal(live, length) {
            let from = live.durable.min(length);
            let entry = Entry {
                checksum,
                slot_len: 0,
                ..self.entry(live, State::Sealed, length)
            };
            let data = live.buffer.slice(from, length);
            self.log_replica(chunk, live, entry, from, data);
            set_stage(live, Stage::Journal);
            return Step::Wait;
        }
        self.write_end(chunk, live, checksum, &sums);
        set_stage(live, Stage::Writes);
        Step::Again
    }

    /// Writes what is left of the content, padded, and the head.
    fn write_end(&mut self, chunk: ChunkId, live: &mut Live, checksum: u32, sums: &[u32]) {
        let Some(slot) = live.slot else { return };
        let (start, end) = (live.buffer.start, live.buffer.end());
        if start < end {
            let parts = whole_blocks(live.buffer.take(end), &self.pool);
            self.write_slot(chunk, live, slot.data_offset() + start, parts, (start, end));
        }
        let head = self
            .head(chunk, live, checksum)
            .encode(slot.class, sums, &self.pool);
        self.write_slot(chunk, live, slot.head_offset(), vec![head], (0, 0));
    }

    pub(crate) fn head(&self, chunk: ChunkId, live: &Live, checksum: u32) -> Head {
        let (placement, length) = (live.placement, live.received);
        Head {
            chunk,
            placement,
            incarnation: self.me.incarnation,
            length,
            checksum,
        }
    }

    fn slot_is_synced(&mut self, chunk: ChunkId, live: &mut Live, kind: OpKind, target: u64) {
        match kind {
            OpKind::Seal { .. } => {
                live.slot_synced = live.slot_synced.max(target / BLOCK * BLOCK);
                let checksum = checksum::combine(&live.all_sums(), target);
                let entry = Entry {
                    checksum,
                    slot_len: target,
                    ..self.entry(live, State::Sealed, target)
                };
                self.log_replica(chunk, live, entry, 0, Vec::new());
            }
            _ => {
                let whole = target / BLOCK * BLOCK;
                live.slot_synced = live.slot_synced.max(whole);
                let entry = self.entry(live, State::Open, target);
                let data = Some(live.next_tail.clone())
                    .filter(|tail| !tail.is_empty())
                    .into_iter()
                    .collect();
                self.log_replica(chunk, live, entry, whole, data);
            }
        }
        set_stage(live, Stage::Journal);
    }

    fn log_replica(&mut self, chunk: ChunkId, live: &mut Live, entry: Entry, offset: u64, data: Vec<Bytes>) {
        let whole = (entry.length / BLOCK) as usize;
        let (first, sums) = if entry.state == State::Sealed {
            (0, Vec::new())
        } else {
            let first = live.sums_logged.min(whole);
            live.sums_logged = whole.max(first);
            (first as u32, live.sums[first..whole].to_vec())
        };
        live.recorded = true;
        let has_data = !data.is_empty();
        let pending = Pending::Replica {
            chunk,
            live: live.id,
            entry,
            has_data,
        };
        self.log(
            &Record::Replica {
                chunk,
                entry,
                first,
                sums,
                offset,
                data,
            },
            pending,
        );
    }

    /// The record of the chunk's first operation is durable.
    pub(crate) fn on_replica_durable(
        &mut self,
        lsn: Lsn,
        chunk: ChunkId,
        id: u64,
        mut entry: Entry,
        has_data: bool,
    ) {
        if let Some(old) = self
            .index
            .get(&chunk)
            .filter(|old| old.placement == entry.placement)
        {
            entry.slot_len = entry.slot_len.max(old.slot_len.min(entry.length));
            if entry.state == State::Sealed && entry.slot_len < entry.length {
                entry.slot_len = 0;
            }
        }
        self.set_entry(chunk, Some(entry));
        let Some(live) = self.live.get_mut(&chunk).filter(|live| live.id == id) else {
            return;
        };
        live.durable = entry.length;
        if entry.state == State::Open {
            live.durable_tail = std::mem::take(&mut live.next_tail);
        }
        if has_data {
            live.journal_from.get_or_insert(lsn);
        }
        set_stage(live, Stage::Durable);
        self.drive(chunk);
    }

    fn finish_op(&mut self, chunk: ChunkId, live: &mut Live, op: Op) -> Step {
        live.ops.pop_front();
        match op.kind {
            OpKind::Sync { .. } => {
                let reply = Reply::Appended {
                    received: live.received,
                    durable: live.durable,
                    sealed: None,
                };
                self.reply(op.request, Ok(reply));
                if live.durable / BLOCK * BLOCK > live.slot_synced {
                    self.must_move(chunk, live.durable - live.slot_synced);
                }
                Step::Again
            }
            OpKind::Fence { epoch } => {
                live.fenced = true;
                live.stopped = true;
                debug_assert!(live.epoch >= epoch, "the record named it");
                Step::Verify(op.request)
            }
            OpKind::Seal { as_append, .. } => {
                let entry = self.index.get(&chunk).copied();
                let Some(sealed) = entry.and_then(|e| e.sealed()) else {
                    return Step::Again;
                };
                live.sealed = Some(sealed);
                self.reply(op.request, Ok(seal_reply(sealed, as_append)));
                if entry.is_some_and(|e| e.slot_len == e.length) {
                    // Whoever still waits asks about what is sealed now.
                    self.answer_sealed(chunk, live, sealed);
                    self.cache.put(chunk, live.all_sums().into());
                    return Step::Gone;
                }
                self.must_move(chunk, sealed.length);
                Step::Again
            }
        }
    }

    /// Answers the operations behind a seal; the chunk leaves memory.
    pub(crate) fn answer_sealed(&mut self, chunk: ChunkId, live: &mut Live, sealed: Sealed) {
        for op in std::mem::take(&mut live.ops) {
            match op.kind {
                OpKind::Sync { end } if end <= sealed.length => {
                    let reply = Reply::Appended {
                        received: sealed.length,
                        durable: sealed.length,
                        sealed: Some(sealed),
                    };
                    self.reply(op.request, Ok(reply));
                }
                OpKind::Seal {
                    length,
                    expect,
                    as_append,
                    ..
                } if length == sealed.length && expect.is_none_or(|sum| sum == sealed.checksum) => {
                    self.reply(op.request, Ok(seal_reply(sealed, as_append)));
                }
                OpKind::Fence { epoch } => self.fence_sealed(op.request, chunk, epoch),
                _ => self.reply(op.request, Err(conflict(chunk, sealed.length, Some(sealed)))),
            }
        }
    }

    /// A fence of a chunk that is sealed: raises the epoch and nothing else.
    pub(crate) fn fence_sealed(&mut self, request: crate::RequestId, chunk: ChunkId, epoch: Epoch) {
        let Some(mut entry) = self.index.get(&chunk).copied() else {
            self.leave_marker(request, chunk, epoch);
            return;
        };
        entry.epoch = entry.epoch.max(epoch);
        self.set_entry(chunk, Some(entry));
        if let Some(live) = self.live.get_mut(&chunk) {
            live.epoch = entry.epoch;
            live.sealed = entry.sealed();
        }
        let record = Record::Replica {
            chunk,
            entry,
            first: 0,
            sums: Vec::new(),
            offset: 0,
            data: Vec::new(),
        };
        self.log(&record, Pending::FenceSealed { request, chunk });
    }

    /// A fence of a chunk that is not here.
    pub(crate) fn leave_marker(&mut self, request: crate::RequestId, chunk: ChunkId, epoch: Epoch) {
        let entry = Entry {
            placement: Default::default(),
            epoch,
            state: State::Marker,
            slot: None,
            length: 0,
            slot_len: 0,
            checksum: 0,
        };
        self.set_entry(chunk, Some(entry));
        let record = Record::Replica {
            chunk,
            entry,
            first: 0,
            sums: Vec::new(),
            offset: 0,
            data: Vec::new(),
        };
        self.log(&record, Pending::Marker { request, entry });
    }
}

fn set_stage(live: &mut Live, stage: Stage) {
    if let Some(op) = live.ops.front_mut() {
        op.stage = stage;
    }
}

fn set_target(live: &mut Live, target: u64) {
    if let Some(op) = live.ops.front_mut() {
        op.target = target;
    }
}

fn cut(live: &mut Live, length: u64) {
    let whole = (length / BLOCK) as usize;
    live.buffer.truncate(length);
    live.sums.truncate(whole);
    live.sums_logged = live.sums_logged.min(whole);
    live.slot_synced = live.slot_synced.min(length / BLOCK * BLOCK);
    live.received = length;
}

fn seal_reply(sealed: Sealed, as_append: bool) -> Reply {
    if as_append {
        Reply::Appended {
            received: sealed.length,
            durable: sealed.length,
            sealed: Some(sealed),
        }
    } else {
        Reply::Sealed(sealed)
    }
}

pub(crate) fn conflict(chunk: ChunkId, expected: u64, sealed: Option<Sealed>) -> StoreError {
    StoreError::Conflict {
        chunk,
        expected,
        sealed,
        reason: "another length",
    }
}
