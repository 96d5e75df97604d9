//! The words of the wire in the words of the store, and back.

use crate::config::Config;
use crate::disk::runner::{Answer, DiskRunner, NotTaken, Usage};
use crate::memory::budget::ReadPermit;
use bytes::Bytes;
use drystone_proto::Priority;
use drystone_proto::checksum::Checksums;
use drystone_proto::cluster::{DiskLoad, ErrorReply};
use drystone_proto::command::Receipt;
use drystone_proto::data::{ChunkStatus, FenceReply, ReplicaState};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::refusal;
use drystone_store::{
    AppendFrame, HeldReplica, IoClass, RequestId, Sealed, StoreConfig, StoreError, StoreInput, StoreReply,
};
use drystone_types::{ChunkId, Code, DiskRef, Epoch, PlacementIndex};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The store refuses what is beyond this much memory. Senders are held up long before (`in-flight`), so that is
/// the last resort against those who do not wait.
const LEAST_STORE_MEMORY: u64 = 256 << 20;

/// The store's settings under ours.
pub(crate) fn store_config(config: &Config) -> StoreConfig {
    let segment = config.journal_segment.0;
    let plain = StoreConfig::default();
    StoreConfig {
        segment_bytes: segment,
        // Small segments, of tests, still hold several batches, and a batch several small appends.
        batch_bytes: plain.batch_bytes.min((segment / 4) as u32 / 4096 * 4096),
        small_bytes: plain.small_bytes.min(segment / 16 / 4096 * 4096),
        checkpoint_bytes: plain.checkpoint_bytes.min(segment * 3),
        // And leaves such that there are several.
        leaf_bytes: plain.leaf_bytes.min((segment / 256) as usize),
        leaf_step_bytes: plain.leaf_step_bytes.min((segment / 16) as usize),
        arena_bytes: config.arena.map(|arena| arena.0),
        capacity: config.capacity.map(|capacity| capacity.0),
        memory_bytes: LEAST_STORE_MEMORY.max(config.in_flight.0.saturating_mul(2)),
        ..StoreConfig::default()
    }
}

/// How a disk shares itself out to what comes with a priority.
pub(crate) fn io_class(priority: Priority) -> IoClass {
    match priority {
        Priority::Control | Priority::Foreground => IoClass::Foreground,
        Priority::Repair => IoClass::Repair,
    }
}

/// What an append brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Appended {
    pub(crate) received: u64,
    pub(crate) durable: u64,
    pub(crate) sealed: Option<Sealed>,
}

/// Verified bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReadDone {
    pub(crate) data: Bytes,
    pub(crate) checksums: Option<Checksums>,
    pub(crate) chunk_length: u64,
}

/// A request that is queued: what is asked stands in the disk's order whether or not this is waited for.
pub(crate) struct DiskAnswer<T> {
    state: AnswerState,
    me: DiskRef,
    /// The answer in our words; `None` for an answer of another kind.
    take: fn(StoreReply, DiskRef) -> Option<T>,
}

enum AnswerState {
    Failed(Option<ErrorReply>),
    Waiting(Answer),
}

impl<T> DiskAnswer<T> {
    /// Not queued at all.
    pub(crate) fn failed(error: ErrorReply) -> Self {
        Self {
            state: AnswerState::Failed(Some(error)),
            me: DiskRef::default(),
            take: |_, _| None,
        }
    }
}

impl<T> Future for DiskAnswer<T> {
    type Output = Result<T, ErrorReply>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = || {
            refusal(
                Code::Unavailable,
                "the disk is not served any more; the outcome is not known",
            )
        };
        let (me, take) = (self.me, self.take);
        match &mut self.state {
            AnswerState::Failed(error) => Poll::Ready(Err(error.take().unwrap_or_else(gone))),
            AnswerState::Waiting(answer) => Pin::new(answer).poll(context).map(|answer| match answer {
                Ok(Ok(reply)) => {
                    take(reply, me).ok_or_else(|| refusal(Code::Unknown, "an answer of another kind"))
                }
                Ok(Err(error)) => Err(in_words(error, me)),
                Err(_) => {
                    let mut error = gone();
                    error.code = Code::Unknown.number();
                    Err(error)
                }
            }),
        }
    }
}

fn in_words(error: StoreError, me: DiskRef) -> ErrorReply {
    let mut reply = refusal(error.code(), error.to_string());
    match error {
        StoreError::Fenced { current, .. } => reply.epoch = current.0,
        StoreError::Conflict {
            chunk,
            expected,
            sealed,
            ..
        } => {
            reply.expected = expected;
            reply.receipt = sealed.map(|sealed| Receipt {
                chunk: chunk.0,
                epoch: sealed.epoch.0,
                length: sealed.length,
                checksum: sealed.checksum,
                replica: Some(record(me, sealed.placement)),
                signature: Bytes::new(),
            });
        }
        StoreError::Range { length, .. } => reply.expected = length,
        StoreError::Busy => reply.retry_after_ms = 50,
        _ => {}
    }
    reply
}

fn record(me: DiskRef, placement: PlacementIndex) -> ReplicaRecord {
    ReplicaRecord {
        disk: me.disk.0,
        incarnation: me.incarnation.0,
        placement: placement.0,
    }
}

fn status(replica: HeldReplica, me: DiskRef) -> ChunkStatus {
    let state = match replica.state {
        drystone_store::HeldState::Absent => ReplicaState::Absent,
        drystone_store::HeldState::Open => ReplicaState::Open,
        drystone_store::HeldState::Fenced => ReplicaState::Fenced,
        drystone_store::HeldState::Sealed => ReplicaState::Sealed,
    };
    ChunkStatus {
        chunk: replica.chunk.0,
        state: state as i32,
        epoch: replica.epoch.0,
        received: replica.received,
        durable: replica.durable,
        checksum: replica.checksum,
        replica: Some(record(me, replica.placement)),
    }
}

impl DiskRunner {
    /// Asks on behalf of a user or of the leader.
    fn ask<T>(
        &self,
        take: fn(StoreReply, DiskRef) -> Option<T>,
        make: impl FnOnce(RequestId) -> StoreInput + Send + 'static,
    ) -> DiskAnswer<T> {
        self.ask_as(IoClass::Foreground, take, make)
    }

    fn ask_as<T>(
        &self,
        class: IoClass,
        take: fn(StoreReply, DiskRef) -> Option<T>,
        make: impl FnOnce(RequestId) -> StoreInput + Send + 'static,
    ) -> DiskAnswer<T> {
        self.ask_holding(class, None, take, make)
    }

    /// `permit` is held until the disk has answered, whether or not anybody waits for it.
    fn ask_holding<T>(
        &self,
        class: IoClass,
        permit: Option<ReadPermit>,
        take: fn(StoreReply, DiskRef) -> Option<T>,
        make: impl FnOnce(RequestId) -> StoreInput + Send + 'static,
    ) -> DiskAnswer<T> {
        match self.submit(class, permit, Box::new(make)) {
            Ok(answer) => DiskAnswer {
                state: AnswerState::Waiting(answer),
                me: self.me,
                take,
            },
            Err(NotTaken::Full) => {
                let mut error = refusal(Code::Busy, NotTaken::Full.to_string());
                error.retry_after_ms = 50;
                DiskAnswer::failed(error)
            }
            Err(NotTaken::Closed) => {
                DiskAnswer::failed(refusal(Code::Unavailable, NotTaken::Closed.to_string()))
            }
        }
    }

    /// Grant and checksums have been verified.
    pub(crate) fn append(&self, frame: AppendFrame) -> DiskAnswer<Appended> {
        let take = |reply, _| match reply {
            StoreReply::Appended {
                received,
                durable,
                sealed,
            } => Some(Appended {
                received,
                durable,
                sealed,
            }),
            _ => None,
        };
        self.ask_as(frame.io_class, take, move |request| StoreInput::Append {
            request,
            frame,
        })
    }

    pub(crate) fn finish(
        &self,
        chunk: u64,
        epoch: u64,
        replica: ReplicaRecord,
        length: u64,
    ) -> DiskAnswer<Sealed> {
        self.ask(sealed, move |request| StoreInput::Finish {
            request,
            chunk: ChunkId(chunk),
            epoch: Epoch(epoch),
            placement: PlacementIndex(replica.placement),
            length,
        })
    }

    pub(crate) fn fence(&self, chunk: u64, epoch: u64) -> DiskAnswer<FenceReply> {
        let take = |reply, _| match reply {
            StoreReply::Fenced { epoch, length } => Some(FenceReply {
                length,
                epoch: epoch.0,
            }),
            _ => None,
        };
        self.ask(take, move |request| StoreInput::Fence {
            request,
            chunk: ChunkId(chunk),
            epoch: Epoch(epoch),
        })
    }

    pub(crate) fn seal(&self, chunk: u64, (epoch, length, checksum): (u64, u64, u32)) -> DiskAnswer<Sealed> {
        self.ask(sealed, move |request| StoreInput::Seal {
            request,
            chunk: ChunkId(chunk),
            epoch: Epoch(epoch),
            length,
            checksum,
        })
    }

    pub(crate) fn status(&self, chunk: u64) -> DiskAnswer<ChunkStatus> {
        let take = |reply, me| match reply {
            StoreReply::Status(replica) => Some(status(replica, me)),
            _ => None,
        };
        self.ask(take, move |request| StoreInput::Status {
            request,
            chunk: ChunkId(chunk),
        })
    }

    pub(crate) fn read(
        &self,
        chunk: u64,
        replica: ReplicaRecord,
        (offset, length): (u64, u32),
        (io_class, permit): (IoClass, ReadPermit),
    ) -> DiskAnswer<ReadDone> {
        let take = |reply, _| match reply {
            StoreReply::Data {
                data,
                checksums,
                chunk_length,
            } => Some(ReadDone {
                data,
                checksums,
                chunk_length,
            }),
            _ => None,
        };
        self.ask_holding(io_class, Some(permit), take, move |request| StoreInput::Read {
            request,
            chunk: ChunkId(chunk),
            placement: Some(PlacementIndex(replica.placement)),
            offset,
            length,
            io_class,
        })
    }

    pub(crate) fn delete(&self, chunk: u64, replica: ReplicaRecord) -> DiskAnswer<()> {
        let take = |reply, _| matches!(reply, StoreReply::Deleted).then_some(());
        let incarnation = self.me.incarnation;
        self.ask(take, move |request| StoreInput::Delete {
            request,
            chunk: ChunkId(chunk),
            placement: PlacementIndex(replica.placement),
            incarnation,
        })
    }

    pub(crate) fn list(&self, after: u64, limit: u32) -> DiskAnswer<(Vec<ChunkStatus>, bool)> {
        let take = |reply, me| match reply {
            StoreReply::Chunks { chunks, more } => {
                Some((chunks.into_iter().map(|chunk| status(chunk, me)).collect(), more))
            }
            _ => None,
        };
        self.ask(take, move |request| StoreInput::List {
            request,
            after: ChunkId(after),
            limit,
        })
    }
}

fn sealed(reply: StoreReply, _: DiskRef) -> Option<Sealed> {
    match reply {
        StoreReply::Sealed(sealed) => Some(sealed),
        _ => None,
    }
}

impl Usage {
    /// What the heartbeat tells of it; errors since `told` errors of each kind were told.
    pub(crate) fn fill(&self, load: &mut DiskLoad, told: (u64, u64)) {
        let status = &self.0;
        let since = |now: u64, told: u64| now.saturating_sub(told).min(u64::from(u32::MAX)) as u32;
        load.total_bytes = status.capacity_bytes;
        load.free_bytes = status.free_bytes;
        load.chunks = status.chunks;
        load.used_bytes = status.used_bytes;
        load.shared_free_bytes = status.shared_free_bytes;
        load.device_bytes = status.device_bytes;
        load.kept_bytes = status.kept_bytes;
        load.others_bytes = status.others_bytes;
        load.io_errors = since(status.io_errors, told.0);
        load.checksum_errors = since(status.checksum_errors, told.1);
        load.read_only = status.read_only.is_some();
        load.reason = status.read_only.clone().unwrap_or_default();
    }
}
