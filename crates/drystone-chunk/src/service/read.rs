//! Read: verified bytes of sealed replicas, from the cache or from the disk.
//!
//! The store reads direct and verifies every block; the cache keeps whole blocks of 1 MiB for those who read on.
//! Memory for answers is taken in turn from the disk's own budget, so that a disk that
//! hangs holds up its own readers alone. It is given back when the disk has done its part, also if nobody waits for it any
//! more, and the answer has left. When too much waits the answer is `busy`, and the reader asks another replica.

use crate::disk::disks::Disks;
use crate::disk::ops::{ReadDone, io_class};
use crate::memory::budget::{ReadPermit, hold};
use crate::memory::cache::{BLOCK, Block, Cache, ReplicaKey};
use crate::metrics::Metrics;
use crate::refusals::Refusals;
use drystone_proto::Priority;
use drystone_proto::checksum::Checksums;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::{Read, ReadReply};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::{Reply, Request, refusal};
use drystone_types::{Code, MAX_PAYLOAD_BYTES};
use std::sync::Arc;

/// When a reader for whom there is no room may come back.
const RETRY_AFTER_MS: u32 = 50;

/// What answers reads.
pub(crate) struct Reads {
    pub(crate) disks: Arc<Disks>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Refusals,
}

impl Reads {
    /// Answers a read.
    pub(crate) async fn read(self: Arc<Self>, request: Request) -> Reply {
        match self.serve(&request).await {
            Ok(done) => {
                self.metrics.read.inc_by(done.data.len() as u64);
                let reply = ReadReply {
                    chunk_length: done.chunk_length,
                };
                Reply::with_payload(&reply, done.data, done.checksums)
            }
            Err(error) => Reply::error(self.refusals.count("read", error)),
        }
    }

    async fn serve(&self, request: &Request) -> Result<ReadDone, ErrorReply> {
        let read: Read = request.decode()?;
        let (disk, replica) = self.disks.of(read.replica)?;
        let length = u64::from(read.length);
        if length == 0 || length > MAX_PAYLOAD_BYTES as u64 || read.offset.checked_add(length).is_none() {
            return Err(refusal(
                Code::Range,
                format!("{length} bytes at {}: 1 byte to 1 MiB is read", read.offset),
            ));
        }
        // The answer counts until it has left, wherever its bytes come from. What only the cache holds does not: the
        // cache has a bound of its own, and an answer must never wait for it to let go.
        let permit = disk.reads(io_class(request.priority)).take(length as usize).await;
        let permit = permit.map_err(|error| {
            let mut busy = refusal(Code::Busy, error.to_string());
            busy.retry_after_ms = RETRY_AFTER_MS;
            busy
        })?;
        let done = self.find(request, &permit, &read, replica).await?;
        Ok(ReadDone {
            data: hold(done.data, permit),
            ..done
        })
    }

    async fn find(
        &self,
        request: &Request,
        permit: &ReadPermit,
        read: &Read,
        replica: ReplicaRecord,
    ) -> Result<ReadDone, ErrorReply> {
        let length = u64::from(read.length);
        let key = ReplicaKey::new(read.chunk, &replica);
        let number = read.offset / BLOCK;
        let within = (read.offset + length).div_ceil(BLOCK) == number + 1;
        let start = (read.offset % BLOCK) as usize;
        if within
            && let Some(block) = self.cache.get(key, number)
            && let Some((data, checksums)) = block.part(start, length as usize)
        {
            self.metrics.cache_hits.inc();
            self.cache.is_sequential(key, read.offset, length);
            return Ok(ReadDone {
                data,
                checksums,
                chunk_length: block.chunk_length,
            });
        }
        // Repair reads once; it must not push out what users read.
        let wanted = within
            && request.priority != Priority::Repair
            && self.cache.is_sequential(key, read.offset, length);
        if wanted
            && let Some(block) = self
                .whole_block((request, permit), (read.chunk, replica), key, number)
                .await
            && let Some((data, checksums)) = block.part(start, length as usize)
        {
            return Ok(ReadDone {
                data,
                checksums,
                chunk_length: block.chunk_length,
            });
        }
        self.direct((request, permit), (read.chunk, replica), (read.offset, length))
            .await
    }

    /// Reads a whole block and keeps it. `None` if its size is not known or it cannot be read whole: then the range
    /// alone is tried, because damage elsewhere in the block is none of this reader's business.
    async fn whole_block(
        &self,
        (request, permit): (&Request, &ReadPermit),
        (chunk, replica): (u64, ReplicaRecord),
        key: ReplicaKey,
        number: u64,
    ) -> Option<Block> {
        let chunk_length = match self.cache.chunk_length(key) {
            Some(length) => length,
            None => {
                let (disk, _) = self.disks.of(Some(replica)).ok()?;
                let status = disk.status(chunk).await.ok()?;
                let sealed = status.state == drystone_proto::data::ReplicaState::Sealed as i32;
                let length = sealed.then_some(status.durable)?;
                self.cache.note_length(key, length);
                length
            }
        };
        let offset = number * BLOCK;
        let length = chunk_length
            .checked_sub(offset)
            .filter(|left| *left > 0)?
            .min(BLOCK);
        let done = self
            .direct((request, permit), (chunk, replica), (offset, length))
            .await
            .ok()?;
        let checksums = done.checksums.unwrap_or_else(|| Checksums::of(&done.data));
        let block = Block {
            data: done.data,
            checksums,
            chunk_length: done.chunk_length,
        };
        self.cache.put(key, number, block.clone());
        Some(block)
    }

    async fn direct(
        &self,
        (request, permit): (&Request, &ReadPermit),
        (chunk, replica): (u64, ReplicaRecord),
        (offset, length): (u64, u64),
    ) -> Result<ReadDone, ErrorReply> {
        let (disk, _) = self.disks.of(Some(replica))?;
        let range = (offset, length as u32);
        let held = (io_class(request.priority), ReadPermit::clone(permit));
        let done = disk.read(chunk, replica, range, held).await?;
        // Neither reader nor cache looks again whether they got what they asked for.
        assert!(
            done.data.len() as u64 == length && offset + length <= done.chunk_length,
            "chunk {chunk}: {} of {length} bytes at {offset} came, of {}",
            done.data.len(),
            done.chunk_length
        );
        Ok(done)
    }
}
