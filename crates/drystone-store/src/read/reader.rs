//! Reads: from memory, from runs, always verified.

use super::job::{CompareFrame, CutBlock, ReadJob, ReadTarget, ReadsUnderWay};
use crate::active::ActiveChunks;
use crate::class::IoClass;
use crate::error::StoreError;
use crate::format::{BLOCK, Tail, tail_bytes};
use crate::index::{EntryState, Index};
use crate::input::{RequestId, StoreReply};
use crate::space::ChunkSpace;
use crate::sums::SumCache;
use crate::work::{DiskHealth, DiskTask, DiskWork, Replies};
use bytes::Bytes;
use drystone_env::BufferPool;
use drystone_env::planted::{Bug, planted};
use drystone_proto::checksum::Checksums;
use drystone_types::{ChunkId, DiskRef, Epoch, MAX_PAYLOAD_BYTES, PlacementIndex};

/// The parts of a store that reading needs, borrowed for one step. A function that may end a seal's read of the block
/// that it cuts returns that block.
pub(crate) struct ChunkReader<'a> {
    pub(crate) me: DiskRef,
    pub(crate) pool: &'a BufferPool,
    pub(crate) index: &'a Index,
    pub(crate) active: &'a mut ActiveChunks,
    pub(crate) space: &'a mut ChunkSpace,
    pub(crate) reads: &'a mut ReadsUnderWay,
    pub(crate) sums: &'a mut SumCache,
    pub(crate) work: &'a mut DiskWork,
    pub(crate) replies: &'a mut Replies,
    pub(crate) health: &'a mut DiskHealth,
}

impl ChunkReader<'_> {
    pub(crate) fn on_read(
        &mut self,
        request: RequestId,
        chunk: ChunkId,
        placement: Option<PlacementIndex>,
        (offset, length): (u64, u32),
        io_class: IoClass,
    ) {
        let found = self.index.get(chunk).filter(|e| e.state != EntryState::Marker);
        let Some(entry) = found.filter(|_| !self.index.is_deleting(chunk)) else {
            self.replies.send(request, Err(StoreError::NotFound { chunk }));
            return;
        };
        if let Some(offered) = placement.filter(|offered| *offered != entry.placement) {
            self.replies.send(
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
            self.replies.send(
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
            self.replies
                .send(request, Err(StoreError::Invalid { chunk, reason }));
            return;
        }
        let target = ReadTarget::Request(request);
        self.add_job(target, io_class, chunk, (offset, end), entry.length);
    }

    /// Reads all that is durable, piece by piece, and then answers the fence.
    pub(crate) fn begin_verify(&mut self, request: RequestId, chunk: ChunkId, epoch: Epoch) {
        let Some(entry) = self.index.get(chunk).filter(|_| !self.index.is_deleting(chunk)) else {
            self.replies.send(request, Err(StoreError::NotFound { chunk }));
            return;
        };
        let length = entry.length;
        self.verify_from(ReadTarget::Verify { request, epoch }, chunk, 0, length);
    }

    fn verify_from(&mut self, target: ReadTarget, chunk: ChunkId, at: u64, length: u64) {
        if at >= length {
            let ReadTarget::Verify { request, epoch } = target else {
                return;
            };
            self.replies.send(
                request,
                Ok(StoreReply::Fenced {
                    epoch,
                    length: Some(length),
                }),
            );
            return;
        }
        let end = length.min(at + MAX_PAYLOAD_BYTES as u64);
        self.add_job(target, IoClass::Foreground, chunk, (at, end), length);
    }

    /// Reads what a repeated append names, and answers it.
    pub(crate) fn begin_compare(&mut self, compare: Box<CompareFrame>) {
        let (chunk, range) = (compare.frame.chunk, (compare.frame.offset, compare.frame.end()));
        let readable = self.index.get(chunk).map_or(0, |e| e.length);
        let io_class = compare.frame.io_class;
        self.add_job(ReadTarget::Compare(compare), io_class, chunk, range, readable);
    }

    /// Reads the block of an open chunk in which `length` lies; it is in the runs, written.
    pub(crate) fn begin_cut(&mut self, chunk: ChunkId, length: u64) -> Option<CutBlock> {
        let start = length / BLOCK * BLOCK;
        let live = self.active.get(chunk)?;
        let runs = live.runs.clone()?;
        let job = ReadJob {
            target: ReadTarget::Cut {
                live: live.id,
                length,
            },
            io_class: IoClass::Foreground,
            chunk,
            placement: live.placement,
            offset: start,
            end: start + BLOCK,
            readable: live.received,
            high: start + BLOCK,
            sealed: false,
            sums: live
                .sums
                .get((start / BLOCK) as usize)
                .map(|sum| Checksums::from(&[*sum][..])),
            data: Vec::new(),
            memory: Vec::new(),
            runs: Some(runs),
            stored_end: start + BLOCK,
            tail: None,
            tail_data: Vec::new(),
            left: 0,
            error: None,
        };
        let id = self.reads.next_id();
        self.read_runs(id, job)
    }

    fn add_job(
        &mut self,
        target: ReadTarget,
        io_class: IoClass,
        chunk: ChunkId,
        (offset, end): (u64, u64),
        readable: u64,
    ) {
        let Some(entry) = self.index.get(chunk) else {
            return;
        };
        let job = ReadJob {
            target,
            io_class,
            chunk,
            placement: entry.placement,
            offset,
            end,
            readable,
            high: 0,
            sealed: false,
            sums: None,
            data: Vec::new(),
            memory: Vec::new(),
            runs: None,
            stored_end: 0,
            tail: None,
            tail_data: Vec::new(),
            left: 0,
            error: None,
        };
        let id = self.reads.next_id();
        self.reads.insert(id, job);
        let cut = self.begin_read(id);
        debug_assert!(cut.is_none(), "blocks to cut are read by `begin_cut`");
    }

    /// Finds out where the bytes are now, and fetches them.
    pub(crate) fn begin_read(&mut self, id: u64) -> Option<CutBlock> {
        let mut job = self.reads.take(id)?;
        let chunk = job.chunk;
        let entry = self.index.get(chunk).filter(|e| e.placement == job.placement);
        let Some(entry) = entry.filter(|e| e.length >= job.end && !self.index.is_deleting(chunk)) else {
            job.error = Some(StoreError::NotFound { chunk });
            return self.finish_read(job);
        };
        job.sealed = entry.state == EntryState::Sealed;
        job.runs = entry.runs;
        let low = job.offset / BLOCK * BLOCK;
        let limit = self.active.get(chunk).map_or(entry.length, |live| live.received);
        let high = job.end.next_multiple_of(BLOCK).min(limit);
        job.high = high;
        let blocks = (low / BLOCK) as usize..job.end.div_ceil(BLOCK) as usize;
        if let Some(live) = self.active.get_mut(chunk) {
            // A chunk that is being cut is told about when it is sealed.
            let cut = high < job.end;
            if cut && let Some(reason) = &self.health.failed {
                let reason = format!("it is being cut and the disk failed: {reason}");
                job.error = Some(StoreError::Io { chunk, reason });
                return self.finish_read(job);
            }
            if cut || (live.is_writing_below(high) && low < live.buffer.start) {
                live.waiting_reads.push(id);
                self.reads.insert(id, job);
                return None;
            }
            job.stored_end = high.min(live.buffer.start).max(low);
            let from = job.stored_end.max(live.buffer.start);
            job.memory = if from < high {
                live.buffer.slice(from, high)
            } else {
                Vec::new()
            };
            let sums = live.sums.iter().copied().chain(live.tail_sum());
            job.sums = Some(sums.skip(blocks.start).take(blocks.len()).collect());
            return self.read_runs(id, job);
        }
        job.stored_end = high;
        match self.sums.get(chunk) {
            Some(sums) => job.sums = Some(sums.get(blocks).unwrap_or_default().into()),
            None => {
                let tail = Tail {
                    chunk,
                    placement: entry.placement,
                    incarnation: self.me.incarnation,
                    length: entry.length,
                    checksum: entry.checksum,
                };
                job.tail = Some((tail, entry.tail_at));
            }
        }
        self.read_runs(id, job)
    }

    fn read_runs(&mut self, id: u64, mut job: ReadJob) -> Option<CutBlock> {
        let low = job.offset / BLOCK * BLOCK;
        let Some(runs) = job.runs.clone().filter(|runs| self.space.exist(runs)) else {
            let reason = "its arena is missing".to_owned();
            job.error = Some(StoreError::Io {
                chunk: job.chunk,
                reason,
            });
            return self.finish_read(job);
        };
        let class = job.io_class;
        if let Some((tail, start)) = job.tail {
            let task = |owner, at| DiskTask::ReadTail { job: id, owner, at };
            let range = (start, start + tail_bytes(tail.length));
            job.left += self.space.read(&runs, range, class, task, self.work);
        }
        if job.stored_end > low {
            let task = |owner, at| DiskTask::ReadData { job: id, owner, at };
            let range = (low, job.stored_end.next_multiple_of(BLOCK));
            job.left += self.space.read(&runs, range, class, task, self.work);
        }
        self.wait_or_finish(id, job)
    }

    fn wait_or_finish(&mut self, id: u64, job: ReadJob) -> Option<CutBlock> {
        if job.left == 0 {
            return self.finish_read(job);
        }
        self.reads.insert(id, job);
        None
    }

    /// A piece of the data from `at` on has come.
    pub(crate) fn on_read_data(
        &mut self,
        id: u64,
        at: u64,
        result: Result<Bytes, String>,
    ) -> Option<CutBlock> {
        let mut job = self.reads.take(id)?;
        match result {
            Ok(bytes) => job.data.push((at, bytes)),
            Err(reason) => {
                job.error = Some(StoreError::Io {
                    chunk: job.chunk,
                    reason,
                })
            }
        }
        job.left -= 1;
        self.wait_or_finish(id, job)
    }

    /// A piece of the tail has come.
    pub(crate) fn on_read_tail(
        &mut self,
        id: u64,
        at: u64,
        result: Result<Bytes, String>,
    ) -> Option<CutBlock> {
        let mut job = self.reads.take(id)?;
        let chunk = job.chunk;
        let (tail, start) = job.tail.expect("a tail was asked for");
        let read = match result {
            Ok(bytes) => {
                job.tail_data.push((at, bytes));
                let range = (start, start + tail_bytes(tail.length));
                whole(&mut job.tail_data, range, self.pool).map(Ok)
            }
            Err(reason) => Some(Err(StoreError::Io { chunk, reason })),
        };
        let decoded = read.map(|read| {
            let bytes = read?;
            tail.decode_sums(&bytes).map_err(|(expected, found)| {
                self.health.checksum_errors += 1;
                StoreError::Corrupt {
                    chunk,
                    offset: u64::MAX,
                    expected,
                    found,
                }
            })
        });
        match decoded {
            None => {}
            Some(Ok(sums)) => {
                let blocks = (job.offset / BLOCK) as usize..job.end.div_ceil(BLOCK) as usize;
                job.sums = Some(sums.get(blocks).unwrap_or_default().into());
                let current = self
                    .index
                    .get(job.chunk)
                    .is_some_and(|e| e.placement == job.placement);
                if current {
                    self.sums.put(job.chunk, sums.into());
                }
            }
            Some(Err(error)) => job.error = Some(error),
        }
        job.left -= 1;
        self.wait_or_finish(id, job)
    }

    fn placement_of(&self, chunk: ChunkId) -> Option<PlacementIndex> {
        self.index.get(chunk).map(|entry| entry.placement)
    }

    fn finish_read(&mut self, mut job: ReadJob) -> Option<CutBlock> {
        let verified = match job.error.take() {
            Some(error) => Err(error),
            None => self.verified(&mut job),
        };
        match job.target {
            ReadTarget::Request(request) => {
                let reply = verified.map(|bytes| {
                    let low = job.offset / BLOCK * BLOCK;
                    let aligned = job.offset == low
                        && (job.end.is_multiple_of(BLOCK) || (job.sealed && job.end == job.readable));
                    let data = bytes.slice((job.offset - low) as usize..(job.end - low) as usize);
                    StoreReply::Data {
                        data,
                        checksums: job.sums.filter(|_| aligned),
                        chunk_length: job.readable,
                    }
                });
                self.replies.send(request, reply);
            }
            ReadTarget::Compare(compare) => {
                let equal = job.sums.as_deref() == Some(&compare.frame.checksums[..]);
                let answer = if equal {
                    Ok(compare.same)
                } else {
                    Err(compare.other)
                };
                self.replies.send(compare.request, verified.and(answer));
            }
            ReadTarget::Verify { request, epoch } => match verified {
                // Deleted, and placed here again, while it was read: what is here now was not fenced.
                Ok(_) if self.placement_of(job.chunk) != Some(job.placement) => {
                    let chunk = job.chunk;
                    self.replies.send(request, Err(StoreError::NotFound { chunk }));
                }
                Ok(_) => {
                    let target = ReadTarget::Verify { request, epoch };
                    self.verify_from(target, job.chunk, job.end, job.readable);
                }
                Err(error @ StoreError::NotFound { .. }) => self.replies.send(request, Err(error)),
                Err(error) => {
                    tracing::warn!(disk = %self.me, chunk = %job.chunk, %error, "a fenced replica is damaged");
                    self.replies
                        .send(request, Ok(StoreReply::Fenced { epoch, length: None }));
                }
            },
            ReadTarget::Cut { live, length } => {
                return Some(CutBlock {
                    chunk: job.chunk,
                    live,
                    length,
                    block: verified,
                });
            }
        }
        None
    }

    /// The whole blocks of the job, if each has its checksum.
    fn verified(&mut self, job: &mut ReadJob) -> Result<Bytes, StoreError> {
        let low = job.offset / BLOCK * BLOCK;
        let high = job.high;
        let stored = job.stored_end.saturating_sub(low) as usize;
        let range = (low, job.stored_end.next_multiple_of(BLOCK));
        let read = whole(&mut job.data, range, self.pool).filter(|data| data.len() >= stored);
        let stored_part = read.map_or_else(Bytes::new, |data| data.slice(..stored));
        let bytes = match (&job.memory[..], stored_part.is_empty()) {
            ([], _) => stored_part,
            ([one], true) => one.clone(),
            (many, _) => {
                let mut whole = self.pool.take((high - low) as usize);
                let mut at = 0;
                for part in std::iter::once(&stored_part).chain(many) {
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
            job.sums = Some(Checksums::of(&bytes));
            return Ok(bytes);
        }
        debug_assert!(
            low <= job.offset && job.end <= high,
            "what was asked for was read"
        );
        for (i, block) in bytes.chunks(BLOCK as usize).enumerate() {
            let found = crc32c::crc32c(block);
            let offset = low + i as u64 * BLOCK;
            match sums.get(i) {
                Some(&sum) if sum == found => {}
                other => {
                    self.health.checksum_errors += 1;
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
}

/// The pieces of `start..end` in one, if they are all there.
pub(crate) fn whole(
    pieces: &mut [(u64, Bytes)],
    (start, end): (u64, u64),
    pool: &BufferPool,
) -> Option<Bytes> {
    let came: u64 = pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if came != end - start {
        return None;
    }
    if let [(at, bytes)] = pieces {
        return (*at == start).then(|| bytes.clone());
    }
    pieces.sort_by_key(|(at, _)| *at);
    let mut joined = pool.take(came as usize);
    let mut next = start;
    for (at, bytes) in pieces.iter() {
        if *at != next {
            return None;
        }
        let place = (next - start) as usize;
        joined[place..place + bytes.len()].copy_from_slice(bytes);
        next += bytes.len() as u64;
    }
    Some(joined.freeze())
}
