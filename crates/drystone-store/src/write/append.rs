//! Bytes for a chunk: which are taken, and where they go.

use super::step::appended;
use super::writer::ChunkWriter;
use crate::active::{ActiveChunk, ChunkOpKind};
use crate::error::StoreError;
use crate::format::{BLOCK, units_for};
use crate::held::Sealed;
use crate::index::EntryState;
use crate::input::{AppendFrame, RequestId, StoreReply};
use crate::read::CompareFrame;
use drystone_env::planted::{Bug, planted};
use drystone_types::{ChunkId, Epoch, MAX_CHUNK_BYTES};

/// What is still to be done for an append.
pub(crate) enum AfterAppend {
    /// Nothing: it was answered.
    Done,
    /// The chunk's operations can go on.
    Drive(ChunkId),
    /// The chunk is sealed and in its runs: compare the frame with what is there.
    Compare(Box<CompareFrame>),
}

impl ChunkWriter<'_> {
    pub(crate) fn on_append(&mut self, request: RequestId, frame: AppendFrame) -> AfterAppend {
        if self.refuse_if_failed(request) {
            return AfterAppend::Done;
        }
        if let Err(error) = self.check_append(&frame) {
            self.reply(request, Err(error));
            return AfterAppend::Done;
        }
        let chunk = frame.chunk;
        let sealed = self.index.get(chunk).and_then(|e| e.sealed());
        if !self.active.contains(chunk) && sealed.is_some() {
            return self.retry_sealed(request, frame);
        }
        if !self.active.contains(chunk)
            && let Err(error) = self.make_live(&frame)
        {
            self.reply(request, Err(error));
            return AfterAppend::Done;
        }
        let Some(mut live) = self.active.take(chunk) else {
            return AfterAppend::Done;
        };
        let result = self.take_frame(request, &mut live, frame);
        self.active.put_back(chunk, live);
        match result {
            Ok(Some(reply)) => self.reply(request, Ok(reply)),
            Ok(None) => {}
            Err(error) => self.reply(request, Err(error)),
        }
        AfterAppend::Drive(chunk)
    }

    /// What can be said before looking at the bytes.
    fn check_append(&self, frame: &AppendFrame) -> Result<(), StoreError> {
        let chunk = frame.chunk;
        let invalid = |reason| Err(StoreError::Invalid { chunk, reason });
        if frame.epoch != Epoch::FIRST {
            return invalid("appends are of the first epoch");
        }
        if frame.checksums.len() != frame.data.len().div_ceil(BLOCK as usize) {
            return invalid("one checksum for each 4 KiB is needed");
        }
        if frame.data.is_empty() && !frame.sync && frame.last.is_none() {
            return invalid("an append without bytes asks for nothing");
        }
        if self.index.is_deleting(chunk) {
            return Err(StoreError::Busy);
        }
        let found = self.index.get(chunk);
        let entry = found.as_ref();
        let live = self.active.get(chunk);
        let epoch = live.map(|l| l.epoch).max(entry.map(|e| e.epoch));
        let fenced = live.is_some_and(|l| l.fenced)
            || entry.is_some_and(|e| matches!(e.state, EntryState::Fenced | EntryState::Marker));
        if let Some(current) = epoch.filter(|current| *current > frame.epoch || fenced) {
            return Err(StoreError::Fenced {
                chunk,
                offered: frame.epoch,
                current,
            });
        }
        let held = live.map(|l| l.placement).or(entry.map(|e| e.placement));
        if let Some(held) = held.filter(|held| *held != frame.placement) {
            return Err(StoreError::Placement {
                chunk,
                offered: frame.placement,
                held,
            });
        }
        let most = live.map_or(frame.max_bytes.min(MAX_CHUNK_BYTES), |l| l.max_bytes);
        if frame.end() > most {
            return invalid("the chunk would be longer than its grant");
        }
        Ok(())
    }

    fn make_live(&mut self, frame: &AppendFrame) -> Result<(), StoreError> {
        if frame.offset != 0 {
            let reason = "nothing of the chunk is here";
            return Err(StoreError::Conflict {
                chunk: frame.chunk,
                expected: 0,
                sealed: None,
                reason,
            });
        }
        if self.active.all_memory_bytes() + frame.data.len() as u64 > self.config.memory_bytes {
            return Err(StoreError::Busy);
        }
        // A frame that is all of its chunk takes what it needs, others what their chunk may become.
        let most = match frame.last {
            Some(_) => frame.end(),
            None => frame.max_bytes.min(MAX_CHUNK_BYTES),
        };
        let (units, class) = (units_for(most), frame.io_class);
        // Whoever came before is served before.
        let runs = match self.space.is_idle() {
            true => self.space.take(self.config, units, class),
            false => None,
        };
        if runs.is_none() && !self.space.can_grow(self.config, units, class) {
            return Err(self.no_space(units, class));
        }
        let mut live = self.active.create(frame.placement, frame.epoch, most);
        live.io_class = class;
        if runs.is_none() {
            self.space.wait_for_space(frame.chunk, live.id, units);
        }
        live.runs = runs;
        self.active.add(frame.chunk, live);
        Ok(())
    }

    /// The chunk will get no space: if it still waits for some, it has nothing durable and goes.
    pub(crate) fn refuse_waiting(&mut self, chunk: ChunkId, id: u64, units: u64) {
        let found = self.active.get(chunk);
        if found.is_none_or(|live| live.id != id || live.runs.is_some()) {
            return;
        }
        let Some(mut live) = self.active.take(chunk) else {
            return;
        };
        self.active.forget(&live);
        let error = self.no_space(units, live.io_class);
        for op in live.ops.drain(..) {
            match op.kind {
                ChunkOpKind::Fence { epoch } => self.leave_marker(op.request, chunk, epoch),
                _ => self.reply(op.request, Err(error.clone())),
            }
        }
    }

    /// `Ok(None)`: the answer comes later.
    fn take_frame(
        &mut self,
        request: RequestId,
        live: &mut ActiveChunk,
        frame: AppendFrame,
    ) -> Result<Option<StoreReply>, StoreError> {
        let (chunk, end) = (frame.chunk, frame.end());
        let (expected, sealed) = (live.received, live.sealed);
        let conflict = |reason| StoreError::Conflict {
            chunk,
            expected,
            sealed,
            reason,
        };
        if frame.offset > live.received {
            return Err(conflict("bytes before it are missing"));
        }
        if end <= live.received && (frame.offset < live.received || frame.data.is_empty()) {
            if !holds(live, &frame) {
                return Err(conflict("other bytes are here, or it cannot be told"));
            }
        } else {
            if frame.offset < live.received {
                return Err(conflict("it begins before the end"));
            }
            if live.stopped {
                return Err(conflict("the chunk has ended"));
            }
            if self.active.all_memory_bytes() + frame.data.len() as u64 > self.config.memory_bytes {
                return Err(StoreError::Busy);
            }
            live.push(frame.data, &frame.checksums);
        }
        if let Some(last) = frame.last {
            if end != live.received {
                return Err(conflict("bytes after the last frame are here"));
            }
            let epoch = live.epoch;
            let kind = ChunkOpKind::Seal {
                length: end,
                expect: last.checksum,
                epoch,
                as_append: true,
            };
            self.push_op(live, request, kind);
            if planted(Bug::ReceiptBeforeDurable) {
                let checksum = drystone_proto::checksum::combine(&live.all_sums(), end);
                let (placement, length) = (live.placement, end);
                let sealed = Some(Sealed {
                    epoch,
                    placement,
                    length,
                    checksum,
                });
                return Ok(Some(StoreReply::Appended {
                    received: end,
                    durable: end,
                    sealed,
                }));
            }
            return Ok(None);
        }
        let kind = match frame.sync {
            true => Some(ChunkOpKind::Sync { end }),
            // Whether there will be space for it is not known yet.
            false => live.runs.is_none().then_some(ChunkOpKind::Space { end }),
        };
        if let Some(kind) = kind {
            self.push_op(live, request, kind);
        }
        if live.runs.is_some() && live.buffer.len() > self.config.small_bytes {
            self.issue(chunk, live, live.received / BLOCK * BLOCK);
        }
        Ok(kind.is_none().then(|| appended(live)))
    }

    /// An append to a chunk that is sealed and in its runs: a retry of a last or an earlier frame.
    fn retry_sealed(&mut self, request: RequestId, frame: AppendFrame) -> AfterAppend {
        let chunk = frame.chunk;
        let Some(entry) = self.index.get(chunk) else {
            return AfterAppend::Done;
        };
        let other = StoreError::Conflict {
            chunk,
            expected: entry.length,
            sealed: entry.sealed(),
            reason: "the chunk is sealed",
        };
        let inside = frame.end() <= entry.length && frame.offset.is_multiple_of(BLOCK);
        let whole = (frame.data.len() as u64).is_multiple_of(BLOCK) || frame.end() == entry.length;
        let ends = frame.last.is_none() || frame.end() == entry.length;
        let same = frame
            .last
            .and_then(|l| l.checksum)
            .is_none_or(|sum| sum == entry.checksum);
        if !(inside && whole && ends && same) {
            self.reply(request, Err(other));
            return AfterAppend::Done;
        }
        let same = StoreReply::Appended {
            received: entry.length,
            durable: entry.length,
            sealed: entry.sealed(),
        };
        if frame.data.is_empty() {
            self.reply(request, Ok(same));
            return AfterAppend::Done;
        }
        AfterAppend::Compare(Box::new(CompareFrame {
            request,
            frame,
            same,
            other,
        }))
    }
}

/// True if the frame's bytes are certainly those that are here already.
fn holds(live: &ActiveChunk, frame: &AppendFrame) -> bool {
    let mut at = frame.offset;
    let mut rest = &frame.data[..];
    while !rest.is_empty() {
        let here = ((BLOCK - at % BLOCK) as usize).min(rest.len());
        let (head, tail) = rest.split_at(here);
        let same = if here as u64 == BLOCK {
            live.sums.get((at / BLOCK) as usize) == Some(&crc32c::crc32c(head))
        } else if at >= live.buffer.start {
            live.buffer.slice(at, at + here as u64).concat() == head
        } else {
            at.is_multiple_of(BLOCK)
                && at + here as u64 == live.received
                && live.tail_sum() == Some(crc32c::crc32c(head))
        };
        if !same {
            return false;
        }
        at += here as u64;
        rest = tail;
    }
    true
}
