//! Reads: from memory, from slots, always verified.

use crate::format::{BLOCK, Head, SlotRef, head_bytes};
use crate::index::State;
use crate::input::{Reply, RequestId};
use crate::live::{OpKind, Stage};
use crate::store::Doing;
use crate::{Store, StoreError};
use bytes::Bytes;
use drystone_env::IoOp;
use drystone_env::planted::{Bug, planted};
use drystone_types::{ChunkId, Epoch, MAX_PAYLOAD_BYTES, PlacementIndex};
use std::sync::Arc;

/// Who wants the bytes.
enum Target {
    /// A reader.
    Request(RequestId),
    /// A retried append: answered so if the checksums are equal, and so if not.
    Compare {
        request: RequestId,
        checksums: Vec<u32>,
        reply: Reply,
        conflict: StoreError,
    },
    /// A fence, which has verified everything before.
    Verify { request: RequestId, epoch: Epoch },
    /// A seal that cuts the block.
    Cut { live: u64, length: u64 },
}

/// A read under way, of whole blocks.
pub(crate) struct ReadJob {
    target: Target,
    chunk: ChunkId,
    placement: PlacementIndex,
    /// Asked for.
    offset: u64,
    end: u64,
    /// Bytes that can be read.
    readable: u64,
    /// Whole blocks are read until here, or to the end of the chunk.
    high: u64,
    sealed: bool,
    /// Checksums of the blocks from the one that holds `offset`; `None`: the head is being read.
    sums: Option<Vec<u32>>,
    /// From the slot.
    data: Option<Bytes>,
    /// From memory, behind it.
    memory: Vec<Bytes>,
    slot: Option<SlotRef>,
    /// Bytes of the chunk that come from the slot end here.
    slot_end: u64,
    /// To check the head with.
    head: Option<Head>,
    left: u32,
    error: Option<StoreError>,
}

impl Store {
    pub(crate) fn on_read(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        placement: Option<PlacementIndex>,
        offset: u64,
        length: u32,
    ) {
        let found = self.index.get(&chunk).filter(|e| e.state != State::Marker);
        let Some(entry) = found.filter(|_| !self.deleting.contains_key(&chunk)).copied() else {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return;
        };
        if let Some(offered) = placement.filter(|offered| *offered != entry.placement) {
            self.reply(
                request,
                Err(StoreError::Placement {
                    chunk,
                    offered,
                    held: entry.placement,
                }),
            );
            return;
        }
        let end = offset.saturating_add(u64::from(length));
        if end > entry.length || length == 0 {
            self.reply(
                request,
                Err(StoreError::Range {
                    chunk,
                    end,
                    length: entry.length,
                }),
            );
            return;
        }
        if length as usize > MAX_PAYLOAD_BYTES {
            let reason = "a read is at most 1 MiB";
            self.reply(request, Err(StoreError::Invalid { chunk, reason }));
            return;
        }
        self.add_job(Target::Request(request), chunk, (offset, end), entry.length);
    }

    /// Reads all that is durable, piece by piece, and then answers the fence.
    pub(crate) fn begin_verify(&mut self, request: RequestId, chunk: ChunkId) {
        let Some(entry) = self
            .index
            .get(&chunk)
            .copied()
            .filter(|_| !self.deleting.contains_key(&chunk))
        else {
            self.reply(request, Err(StoreError::NotFound { chunk }));
            return;
        };
        let target = Target::Verify {
            request,
            epoch: entry.epoch,
        };
        self.verify_from(target, chunk, 0, entry.length);
    }

    fn verify_from(&mut self, target: Target, chunk: ChunkId, at: u64, length: u64) {
        if at >= length {
            let Target::Verify { request, epoch } = target else {
                return;
            };
            self.reply(
                request,
                Ok(Reply::Fenced {
                    epoch,
                    length: Some(length),
                }),
            );
            return;
        }
        let end = length.min(at + MAX_PAYLOAD_BYTES as u64);
        self.add_job(target, chunk, (at, end), length);
    }

    pub(crate) fn begin_compare(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        offset: u64,
        length: u64,
        checksums: Vec<u32>,
        (reply, conflict): (Reply, StoreError),
    ) {
        let readable = self.index.get(&chunk).map_or(0, |e| e.length);
        let target = Target::Compare {
            request,
            checksums,
            reply,
            conflict,
        };
        self.add_job(target, chunk, (offset, offset + length), readable);
    }

    /// Reads the block of an open chunk in which `length` lies; it is in the slot, written.
    pub(crate) fn begin_cut(&mut self, chunk: ChunkId, length: u64) {
        let start = length / BLOCK * BLOCK;
        let Some(live) = self.live.get(&chunk) else { return };
        let Some(slot) = live.slot else { return };
        let job = ReadJob {
            target: Target::Cut {
                live: live.id,
                length,
            },
            chunk,
            placement: live.placement,
            offset: start,
            end: start + BLOCK,
            readable: live.received,
            high: start + BLOCK,
            sealed: false,
            sums: live.sums.get((start / BLOCK) as usize).map(|sum| vec![*sum]),
            data: None,
            memory: Vec::new(),
            slot: Some(slot),
            slot_end: start + BLOCK,
            head: None,
            left: 0,
            error: None,
        };
        let id = self.next_job;
        self.next_job += 1;
        self.read_slot(id, job);
    }

    fn add_job(&mut self, target: Target, chunk: ChunkId, (offset, end): (u64, u64), readable: u64) {
        let Some(entry) = self.index.get(&chunk) else {
            return;
        };
        let job = ReadJob {
            target,
            chunk,
            placement: entry.placement,
            offset,
            end,
            readable,
            high: 0,
            sealed: false,
            sums: None,
            data: None,
            memory: Vec::new(),
            slot: None,
            slot_end: 0,
            head: None,
            left: 0,
            error: None,
        };
        let id = self.next_job;
        self.next_job += 1;
        self.reads.insert(id, job);
        self.begin_read(id);
    }

    /// The disk has failed: those who wait for what will never be written learn it now.
    pub(crate) fn retry_waiting_reads(&mut self) {
        let waiting: Vec<u64> = (self.live.values_mut())
            .flat_map(|live| std::mem::take(&mut live.waiting_reads))
            .collect();
        for job in waiting {
            self.begin_read(job);
        }
    }

    /// Finds out where the bytes are now, and fetches them.
    pub(crate) fn begin_read(&mut self, id: u64) {
        let Some(mut job) = self.reads.remove(&id) else {
            return;
        };
        let chunk = job.chunk;
        let entry = self
            .index
            .get(&chunk)
            .filter(|e| e.placement == job.placement)
            .copied();
        let Some(entry) = entry.filter(|e| e.length >= job.end && !self.deleting.contains_key(&chunk)) else {
            job.error = Some(StoreError::NotFound { chunk });
            self.finish_read(job);
            return;
        };
        job.sealed = entry.state == State::Sealed;
        job.slot = entry.slot;
        let low = job.offset / BLOCK * BLOCK;
        let limit = self.live.get(&chunk).map_or(entry.length, |live| live.received);
        let high = job.end.next_multiple_of(BLOCK).min(limit);
        job.high = high;
        let blocks = (low / BLOCK) as usize..job.end.div_ceil(BLOCK) as usize;
        if let Some(live) = self.live.get_mut(&chunk) {
            // A chunk that is being cut is told about when it is sealed.
            let cut = high < job.end;
            if cut && let Some(reason) = &self.failed {
                let reason = format!("it is being cut and the disk failed: {reason}");
                job.error = Some(StoreError::Io { chunk, reason });
                self.finish_read(job);
                return;
            }
            if cut || (live.is_writing_below(high) && low < live.buffer.start) {
                live.waiting_reads.push(id);
                self.reads.insert(id, job);
                return;
            }
            job.slot_end = high.min(live.buffer.start).max(low);
            let from = job.slot_end.max(live.buffer.start);
            job.memory = if from < high {
                live.buffer.slice(from, high)
            } else {
                Vec::new()
            };
            let sums = live.sums.iter().copied().chain(live.tail_sum());
            job.sums = Some(sums.skip(blocks.start).take(blocks.len()).collect());
            self.read_slot(id, job);
            return;
        }
        job.slot_end = high;
        match self.cache.get(chunk) {
            Some(sums) => job.sums = Some(sums.get(blocks).unwrap_or_default().to_vec()),
            None => {
                job.head = Some(Head {
                    chunk,
                    placement: entry.placement,
                    incarnation: self.me.incarnation,
                    length: entry.length,
                    checksum: entry.checksum,
                });
            }
        }
        self.read_slot(id, job);
    }

    fn read_slot(&mut self, id: u64, mut job: ReadJob) {
        let low = job.offset / BLOCK * BLOCK;
        let wants_data = job.slot_end > low;
        let found = job
            .slot
            .and_then(|slot| self.slots.file(slot).cloned().map(|file| (slot, file)));
        let Some((slot, file)) = found.filter(|(slot, _)| self.slots.exists(*slot)) else {
            let reason = "its slot file is missing".to_owned();
            job.error = Some(StoreError::Io {
                chunk: job.chunk,
                reason,
            });
            self.finish_read(job);
            return;
        };
        if let Some(head) = &job.head {
            job.left += 1;
            self.slots.pin(slot);
            let length = head_bytes(slot.class, head.length) as u32;
            let op = IoOp::Read {
                file: Arc::clone(&file),
                offset: slot.head_offset(),
                length,
            };
            self.request(op, Doing::ReadHead { job: id, slot });
        }
        if wants_data {
            job.left += 1;
            self.slots.pin(slot);
            let length = (job.slot_end.next_multiple_of(BLOCK) - low) as u32;
            let op = IoOp::Read {
                file,
                offset: slot.data_offset() + low,
                length,
            };
            self.request(op, Doing::ReadData { job: id, slot });
        }
        if job.left == 0 {
            self.finish_read(job);
        } else {
            self.reads.insert(id, job);
        }
    }

    pub(crate) fn on_read_data(&mut self, id: u64, result: Result<Bytes, String>) {
        let Some(mut job) = self.reads.remove(&id) else {
            return;
        };
        match result {
            Ok(bytes) => job.data = Some(bytes),
            Err(reason) => {
                job.error = Some(StoreError::Io {
                    chunk: job.chunk,
                    reason,
                })
            }
        }
        self.part_came(id, job);
    }

    pub(crate) fn on_read_head(&mut self, id: u64, result: Result<Bytes, String>) {
        let Some(mut job) = self.reads.remove(&id) else {
            return;
        };
        let decoded = result
            .map_err(|reason| StoreError::Io {
                chunk: job.chunk,
                reason,
            })
            .and_then(|bytes| {
                let class = job
                    .slot
                    .map(|slot| slot.class)
                    .expect("the head was read from a slot");
                let head = job.head.expect("a head was asked for");
                head.decode_sums(class, &bytes).map_err(|(expected, found)| {
                    self.checksum_errors += 1;
                    StoreError::Corrupt {
                        chunk: job.chunk,
                        offset: u64::MAX,
                        expected,
                        found,
                    }
                })
            });
        match decoded {
            Ok(sums) => {
                let blocks = (job.offset / BLOCK) as usize..job.end.div_ceil(BLOCK) as usize;
                job.sums = Some(sums.get(blocks).unwrap_or_default().to_vec());
                let current = self
                    .index
                    .get(&job.chunk)
                    .is_some_and(|e| e.placement == job.placement);
                if current {
                    self.cache.put(job.chunk, sums.into());
                }
            }
            Err(error) => job.error = Some(error),
        }
        self.part_came(id, job);
    }

    fn part_came(&mut self, id: u64, mut job: ReadJob) {
        job.left -= 1;
        if job.left == 0 {
            self.finish_read(job);
        } else {
            self.reads.insert(id, job);
        }
    }

    fn finish_read(&mut self, mut job: ReadJob) {
        let verified = match job.error.take() {
            Some(error) => Err(error),
            None => self.verified(&mut job),
        };
        match job.target {
            Target::Request(request) => {
                let reply = verified.map(|bytes| {
                    let low = job.offset / BLOCK * BLOCK;
                    let aligned = job.offset == low
                        && (job.end.is_multiple_of(BLOCK) || (job.sealed && job.end == job.readable));
                    let data = bytes.slice((job.offset - low) as usize..(job.end - low) as usize);
                    Reply::Data {
                        data,
                        checksums: job.sums.filter(|_| aligned),
                        chunk_length: job.readable,
                    }
                });
                self.reply(request, reply);
            }
            Target::Compare {
                request,
                checksums,
                reply,
                conflict,
            } => {
                let same = job.sums.as_deref() == Some(&checksums[..]);
                let result = verified.and(if same { Ok(reply) } else { Err(conflict) });
                self.reply(request, result);
            }
            Target::Verify { request, epoch } => match verified {
                Ok(_) => {
                    let target = Target::Verify { request, epoch };
                    self.verify_from(target, job.chunk, job.end, job.readable);
                }
                Err(error @ StoreError::NotFound { .. }) => self.reply(request, Err(error)),
                Err(error) => {
                    tracing::warn!(disk = %self.me, chunk = %job.chunk, %error, "a fenced replica is damaged");
                    self.reply(request, Ok(Reply::Fenced { epoch, length: None }));
                }
            },
            Target::Cut { live, length } => self.on_cut(job.chunk, live, length, verified),
        }
    }

    /// The whole blocks of the job, if each has its checksum.
    fn verified(&mut self, job: &mut ReadJob) -> Result<Bytes, StoreError> {
        let low = job.offset / BLOCK * BLOCK;
        let high = job.high;
        let from_slot = job.slot_end.saturating_sub(low) as usize;
        let slot_part = match &job.data {
            Some(data) if data.len() >= from_slot => data.slice(..from_slot),
            _ => Bytes::new(),
        };
        let bytes = match (&job.memory[..], slot_part.is_empty()) {
            ([], _) => slot_part,
            ([one], true) => one.clone(),
            (many, _) => {
                let mut whole = self.pool.take((high - low) as usize);
                let mut at = 0;
                for part in std::iter::once(&slot_part).chain(many) {
                    whole[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                whole.freeze()
            }
        };
        let sums = job.sums.as_deref().unwrap_or_default();
        let chunk = job.chunk;
        if bytes.len() as u64 != high - low {
            return Err(StoreError::Io {
                chunk,
                reason: "the range did not come back whole".into(),
            });
        }
        if planted(Bug::UnverifiedRead) {
            job.sums = Some(drystone_proto::checksum::block_checksums(&bytes));
            return Ok(bytes);
        }
        for (i, block) in bytes.chunks(BLOCK as usize).enumerate() {
            let found = crc32c::crc32c(block);
            let offset = low + i as u64 * BLOCK;
            match sums.get(i) {
                Some(&sum) if sum == found => {}
                other => {
                    self.checksum_errors += 1;
                    let expected = other.copied().unwrap_or_default();
                    tracing::warn!(disk = %self.me, %chunk, offset, "stored bytes do not match their checksum");
                    return Err(StoreError::Corrupt {
                        chunk,
                        offset,
                        expected,
                        found,
                    });
                }
            }
        }
        Ok(bytes)
    }

    fn on_cut(&mut self, chunk: ChunkId, id: u64, length: u64, verified: Result<Bytes, StoreError>) {
        let Some(live) = self.live.get_mut(&chunk).filter(|live| live.id == id) else {
            return;
        };
        let Some(op) = live.ops.front_mut().filter(|op| op.stage == Stage::Cut) else {
            return;
        };
        debug_assert!(matches!(op.kind, OpKind::Seal { .. }), "only seals cut");
        match verified {
            Ok(block) => {
                op.stage = Stage::Start;
                live.cut_sum = Some((length, crc32c::crc32c(&block[..(length % BLOCK) as usize])));
            }
            Err(error) => {
                let request = op.request;
                live.ops.pop_front();
                self.reply(request, Err(error));
            }
        }
        self.drive(chunk);
    }
}
