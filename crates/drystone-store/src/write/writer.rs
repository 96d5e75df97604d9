//! The parts of a store that changing a chunk needs, and what all changes have in common.

use super::emptier::Emptier;
use super::mover::Mover;
use crate::active::{ActiveChunk, ActiveChunks, ChunkOp, ChunkOpKind, OpStage, whole_blocks};
use crate::class::IoClass;
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::format::{Tail, UNIT};
use crate::held::Sealed;
use crate::index::{EntryState, Index, IndexEntry};
use crate::input::{RequestId, StoreReply};
use crate::journal::{AfterRecord, Journal, JournalRecord};
use crate::space::ChunkSpace;
use crate::sums::SumCache;
use crate::work::{DiskHealth, DiskTask, DiskWork, Replies};
use bytes::Bytes;
use drystone_env::{BufferPool, Monotonic};
use drystone_types::{ChunkId, DiskRef, Epoch};

/// Borrowed for one step. What it cannot do itself (reads, work on other chunks) its functions return.
pub(crate) struct ChunkWriter<'a> {
    pub(crate) config: &'a StoreConfig,
    pub(crate) me: DiskRef,
    pub(crate) pool: &'a BufferPool,
    pub(crate) now: Monotonic,
    pub(crate) index: &'a mut Index,
    pub(crate) active: &'a mut ActiveChunks,
    pub(crate) space: &'a mut ChunkSpace,
    pub(crate) journal: &'a mut Journal,
    pub(crate) mover: &'a mut Mover,
    pub(crate) emptier: &'a mut Emptier,
    pub(crate) sums: &'a mut SumCache,
    pub(crate) work: &'a mut DiskWork,
    pub(crate) replies: &'a mut Replies,
    pub(crate) health: &'a mut DiskHealth,
}

impl ChunkWriter<'_> {
    pub(super) fn reply(&mut self, request: RequestId, result: Result<StoreReply, StoreError>) {
        self.replies.send(request, result);
    }

    /// A write or sync failed: nothing is written any more, reads go on. Whoever waits learns it at the end of this
    /// step, see [`ChunkWriter::refuse_all_waiting`]: until then a chunk may be out of its place.
    pub(crate) fn fail(&mut self, reason: String) {
        if self.health.failed.is_some() {
            return;
        }
        tracing::error!(disk = %self.me, reason, "disk takes no writes any more");
        self.health.failed = Some(reason);
    }

    /// Answers everybody who waits for something to become durable, once the disk has failed.
    pub(crate) fn refuse_all_waiting(&mut self) {
        let Some(reason) = self.health.failed.clone() else {
            return;
        };
        let mut waiting = self.journal.take_requests();
        waiting.extend(self.active.take_requests());
        for request in waiting {
            let reason = reason.clone();
            self.reply(request, Err(StoreError::ReadOnly { reason }));
        }
    }

    /// The answer to whatever would write, once the disk has failed.
    pub(super) fn refuse_if_failed(&mut self, request: RequestId) -> bool {
        let Some(reason) = self.health.failed.clone() else {
            return false;
        };
        self.reply(request, Err(StoreError::ReadOnly { reason }));
        true
    }

    pub(super) fn no_space(&self, units: u64, class: IoClass) -> StoreError {
        StoreError::NoSpace {
            needed: units * UNIT,
            free: self.space.free_bytes(self.config, class),
        }
    }

    pub(super) fn must_move(&mut self, chunk: ChunkId, bytes: u64) {
        self.mover.add(self.now, self.config, chunk, bytes);
    }

    pub(super) fn push_op(&mut self, live: &mut ActiveChunk, request: RequestId, kind: ChunkOpKind) {
        if !matches!(kind, ChunkOpKind::Space { .. } | ChunkOpKind::Sync { .. }) {
            live.stopped = true;
        }
        live.ops.push_back(ChunkOp {
            request,
            kind,
            stage: OpStage::Start,
            target: 0,
        });
    }

    /// Writes the whole blocks below `to` that are in the buffer to the runs.
    pub(super) fn issue(&mut self, chunk: ChunkId, live: &mut ActiveChunk, to: u64) {
        let start = live.buffer.start;
        if to <= start {
            return;
        }
        let parts = whole_blocks(live.buffer.take(to), self.pool);
        self.write_runs(chunk, live, parts, (start, to));
    }

    /// Writes `parts`, whole blocks, to the chunk's runs from `start` on, for its bytes from `start` to `end`; what is
    /// behind them is padding and tail. The tokens of the writes.
    pub(super) fn write_runs(
        &mut self,
        chunk: ChunkId,
        live: &mut ActiveChunk,
        parts: Vec<Bytes>,
        (start, end): (u64, u64),
    ) -> Vec<u64> {
        let runs = live.runs.as_ref().expect("writes only begin with runs");
        assert!(
            start == end || start >= live.stored,
            "chunk {chunk}: bytes {start} to {end} go where those below {} are durable",
            live.stored
        );
        debug_assert!(
            (live.writes.values())
                .all(|(low, high)| low == high || start == end || end <= *low || *high <= start),
            "chunk {chunk}: bytes {start} to {end} are being written"
        );
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let id = live.id;
        let task = |owner, bytes| DiskTask::Write {
            chunk,
            live: id,
            owner,
            bytes,
        };
        let written = self
            .space
            .write(runs, (start, end), parts, live.io_class, task, self.work);
        let Some(written) = written else {
            self.fail(format!("an arena of {runs:?} is gone"));
            return Vec::new();
        };
        live.writing_bytes += bytes;
        let tokens = written.iter().map(|write| write.token).collect();
        live.writes.extend(
            written
                .iter()
                .map(|write| (write.token, (write.start, write.end))),
        );
        tokens
    }

    pub(super) fn tail(&self, chunk: ChunkId, live: &ActiveChunk, checksum: u32) -> Tail {
        let (placement, length) = (live.placement, live.received);
        Tail {
            chunk,
            placement,
            incarnation: self.me.incarnation,
            length,
            checksum,
        }
    }

    /// Answers the operations behind a seal; the chunk leaves memory.
    pub(super) fn answer_sealed(&mut self, chunk: ChunkId, live: &mut ActiveChunk, sealed: Sealed) {
        for op in std::mem::take(&mut live.ops) {
            match op.kind {
                ChunkOpKind::Space { end } | ChunkOpKind::Sync { end } if end <= sealed.length => {
                    let reply = StoreReply::Appended {
                        received: sealed.length,
                        durable: sealed.length,
                        sealed: Some(sealed),
                    };
                    self.reply(op.request, Ok(reply));
                }
                ChunkOpKind::Seal {
                    length,
                    expect,
                    as_append,
                    ..
                } if length == sealed.length && expect.is_none_or(|sum| sum == sealed.checksum) => {
                    self.reply(op.request, Ok(seal_reply(sealed, as_append)));
                }
                ChunkOpKind::Fence { epoch } => self.fence_sealed(op.request, chunk, epoch),
                _ => self.reply(op.request, Err(conflict(chunk, sealed.length, Some(sealed)))),
            }
        }
    }

    /// A fence of a chunk that is sealed: raises the epoch and nothing else.
    pub(super) fn fence_sealed(&mut self, request: RequestId, chunk: ChunkId, epoch: Epoch) {
        let Some(mut entry) = self.index.get(chunk) else {
            self.leave_marker(request, chunk, epoch);
            return;
        };
        entry.epoch = entry.epoch.max(epoch);
        self.index.set(chunk, Some(entry.clone()));
        if let Some(live) = self.active.get_mut(chunk) {
            live.epoch = entry.epoch;
            live.sealed = entry.sealed();
        }
        let epoch = entry.epoch;
        let record = entry_record(chunk, self.with_coming_runs(chunk, entry));
        let after = AfterRecord::FenceSealed {
            request,
            chunk,
            epoch,
        };
        self.journal.log(&record, after);
    }

    /// A fence of a chunk that is not here.
    pub(super) fn leave_marker(&mut self, request: RequestId, chunk: ChunkId, epoch: Epoch) {
        let entry = IndexEntry {
            placement: Default::default(),
            epoch,
            state: EntryState::Marker,
            runs: None,
            length: 0,
            stored: 0,
            checksum: 0,
            tail_at: 0,
        };
        self.index.set(chunk, Some(entry.clone()));
        let record = entry_record(chunk, entry.clone());
        self.journal.log(&record, AfterRecord::Marker { request, entry });
    }
}

/// Says how the chunk stands; brings no bytes and no checksums.
pub(super) fn entry_record(chunk: ChunkId, entry: IndexEntry) -> JournalRecord {
    JournalRecord::Replica {
        chunk,
        entry,
        first: 0,
        sums: Vec::new(),
        offset: 0,
        data: Vec::new(),
    }
}

pub(super) fn seal_reply(sealed: Sealed, as_append: bool) -> StoreReply {
    if as_append {
        StoreReply::Appended {
            received: sealed.length,
            durable: sealed.length,
            sealed: Some(sealed),
        }
    } else {
        StoreReply::Sealed(sealed)
    }
}

pub(super) fn conflict(chunk: ChunkId, expected: u64, sealed: Option<Sealed>) -> StoreError {
    StoreError::Conflict {
        chunk,
        expected,
        sealed,
        reason: "another length",
    }
}
