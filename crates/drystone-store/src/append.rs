//! Bytes for a chunk: which are taken, and where they go.

use crate::format::BLOCK;
use crate::index::State;
use crate::input::{LastFrame, Reply, RequestId, Sealed};
use crate::live::{Live, Op, OpKind, Stage, whole_blocks};
use crate::{Store, StoreError};
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_types::{ChunkId, Epoch, PlacementIndex, SizeClass};

/// An append.
pub(crate) struct Frame {
    pub(crate) request: RequestId,
    pub(crate) chunk: ChunkId,
    pub(crate) epoch: Epoch,
    pub(crate) placement: PlacementIndex,
    pub(crate) class: SizeClass,
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) checksums: Vec<u32>,
    pub(crate) sync: bool,
    pub(crate) last: Option<LastFrame>,
}

impl Frame {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

impl Store {
    pub(crate) fn on_append(&mut self, frame: Frame) {
        if self.refuse_if_failed(frame.request) {
            return;
        }
        let request = frame.request;
        if let Err(error) = self.check_append(&frame) {
            self.reply(request, Err(error));
            return;
        }
        let chunk = frame.chunk;
        let sealed = self.index.get(&chunk).and_then(|e| e.sealed());
        if !self.live.contains_key(&chunk) && sealed.is_some() {
            self.retry_sealed(frame);
            return;
        }
        if !self.live.contains_key(&chunk)
            && let Err(error) = self.make_live(&frame)
        {
            self.reply(request, Err(error));
            return;
        }
        let Some(mut live) = self.live.remove(&chunk) else {
            return;
        };
        let result = self.take_frame(&mut live, frame);
        self.keep_live(chunk, live);
        match result {
            Ok(Some(reply)) => self.reply(request, Ok(reply)),
            Ok(None) => {}
            Err(error) => self.reply(request, Err(error)),
        }
        self.drive(chunk);
    }

    /// What can be said before looking at the bytes.
    fn check_append(&self, frame: &Frame) -> Result<(), StoreError> {
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
        if self.deleting.contains_key(&chunk) {
            return Err(StoreError::Busy);
        }
        let entry = self.index.get(&chunk);
        let live = self.live.get(&chunk);
        let epoch = live.map(|l| l.epoch).max(entry.map(|e| e.epoch));
        let fenced = live.is_some_and(|l| l.fenced)
            || entry.is_some_and(|e| matches!(e.state, State::Fenced | State::Marker));
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
        let class = live.map_or(frame.class, |l| l.class);
        if frame.end() > class.bytes() {
            return invalid("the chunk would be longer than its slot");
        }
        Ok(())
    }

    fn make_live(&mut self, frame: &Frame) -> Result<(), StoreError> {
        if frame.offset != 0 {
            let reason = "nothing of the chunk is here";
            return Err(StoreError::Conflict {
                chunk: frame.chunk,
                expected: 0,
                sealed: None,
                reason,
            });
        }
        let class = frame.class;
        let slot = self.slots.take(class);
        if slot.is_none()
            && !self.slots.is_creating(class)
            && self.slots.plan_file(&self.config, class, usize::MAX).is_none()
        {
            self.slots.refresh(&self.disk);
            if self.slots.plan_file(&self.config, class, usize::MAX).is_none() {
                return Err(self.no_space(class));
            }
        }
        let id = self.next_live;
        self.next_live += 1;
        let mut live = Live::new(id, frame.placement, frame.epoch, class);
        live.slot = slot;
        if slot.is_none() {
            self.slot_queue[class.number() as usize].push_back((frame.chunk, id));
        }
        self.add_live(frame.chunk, live);
        Ok(())
    }

    /// `Ok(None)`: the answer comes later.
    fn take_frame(&mut self, live: &mut Live, frame: Frame) -> Result<Option<Reply>, StoreError> {
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
            if self.memory + frame.data.len() as u64 > self.config.memory_bytes {
                return Err(StoreError::Busy);
            }
            live.push(frame.data, &frame.checksums);
        }
        if let Some(last) = frame.last {
            if end != live.received {
                return Err(conflict("bytes after the last frame are here"));
            }
            let epoch = live.epoch;
            let kind = OpKind::Seal {
                length: end,
                expect: last.checksum,
                epoch,
                as_append: true,
            };
            self.push_op(live, frame.request, kind);
            if planted(Bug::ReceiptBeforeDurable) {
                let checksum = drystone_proto::checksum::combine(&live.all_sums(), end);
                let (placement, length) = (live.placement, end);
                let sealed = Some(Sealed {
                    epoch,
                    placement,
                    length,
                    checksum,
                });
                return Ok(Some(Reply::Appended {
                    received: end,
                    durable: end,
                    sealed,
                }));
            }
            return Ok(None);
        }
        if frame.sync {
            self.push_op(live, frame.request, OpKind::Sync { end });
        }
        if live.slot.is_some() && live.buffer.len() > self.config.small_bytes {
            self.issue(chunk, live, live.received / BLOCK * BLOCK);
        }
        let reply = Reply::Appended {
            received: live.received,
            durable: live.durable,
            sealed: None,
        };
        Ok((!frame.sync).then_some(reply))
    }

    pub(crate) fn push_op(&mut self, live: &mut Live, request: RequestId, kind: OpKind) {
        if !matches!(kind, OpKind::Sync { .. }) {
            live.stopped = true;
        }
        live.ops.push_back(Op {
            request,
            kind,
            stage: Stage::Start,
            target: 0,
        });
    }

    /// Writes the whole blocks below `to` that are in the buffer to the slot.
    pub(crate) fn issue(&mut self, chunk: ChunkId, live: &mut Live, to: u64) {
        let start = live.buffer.start;
        if to <= start {
            return;
        }
        let slot = live.slot.expect("the caller has seen the slot");
        let parts = whole_blocks(live.buffer.take(to), &self.pool);
        self.write_slot(chunk, live, slot.data_offset() + start, parts, (start, to));
    }

    /// An append to a chunk that is sealed and in its slot: a retry of a last or an earlier frame.
    fn retry_sealed(&mut self, frame: Frame) {
        let Some(entry) = self.index.get(&frame.chunk).copied() else {
            return;
        };
        let (request, chunk) = (frame.request, frame.chunk);
        let conflict = StoreError::Conflict {
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
            self.reply(request, Err(conflict));
            return;
        }
        let reply = Reply::Appended {
            received: entry.length,
            durable: entry.length,
            sealed: entry.sealed(),
        };
        if frame.data.is_empty() {
            self.reply(request, Ok(reply));
            return;
        }
        self.begin_compare(
            request,
            chunk,
            frame.offset,
            frame.data.len() as u64,
            frame.checksums,
            (reply, conflict),
        );
    }
}

/// True if the frame's bytes are certainly those that are here already.
fn holds(live: &Live, frame: &Frame) -> bool {
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
