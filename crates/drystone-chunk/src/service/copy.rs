//! A survivor copies its sealed prefix of a private chunk to a replacement.

use crate::disk::disks::Disks;
use crate::disk::ops::io_class;
use crate::grants::GrantFloor;
use crate::signatures::Signatures;
use drystone_env::{Clock, Monotonic};
use drystone_proto::Kind;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::Receipt;
use drystone_proto::data::{Append, AppendReply, CopyPrefix, FinishReply, ReplicaState};
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::{CallFuture, CallOptions, Channel, Channels, Payload, Request, refusal};
use drystone_store::IoClass;
use drystone_types::{Code, MAX_PAYLOAD_BYTES};
use std::collections::VecDeque;
use std::sync::Arc;

/// Frames on their way to the replacement: enough to keep disk and network busy, 4 MiB of memory.
const WINDOW: usize = 4;

/// What copies.
pub(crate) struct Copies {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) channels: Channels,
    pub(crate) floor: Arc<GrantFloor>,
    pub(crate) signatures: Arc<Signatures>,
}

impl Copies {
    /// Copies, and answers with the replacement's receipt.
    pub(crate) async fn copy_prefix(self: Arc<Self>, request: Request) -> Result<FinishReply, ErrorReply> {
        let copy: CopyPrefix = request.decode()?;
        let (disk, replica) = self.disks.of(copy.replica)?;
        let to = copy
            .to
            .clone()
            .ok_or_else(|| refusal(Code::Invalid, "no replacement is named"))?;
        let target = to
            .replica
            .ok_or_else(|| refusal(Code::Invalid, "the replacement names no disk"))?;
        let permit = self.signatures.permit(&copy.grant)?;
        if !permit.grant.replacement {
            return Err(refusal(Code::Denied, "the grant is not for a replacement"));
        }
        let admission = self.floor.admission(self.clock.wall());
        permit.admit(admission, (copy.chunk, copy.epoch), &target, &[])?;
        let status = disk.status(copy.chunk).await?;
        if status.state != ReplicaState::Sealed as i32 || status.durable != copy.length {
            let mut error = refusal(Code::Conflict, "this replica is not sealed at that length");
            error.expected = status.durable;
            return Err(error);
        }
        let job = CopyJob {
            channel: self.channels.to(&to.address),
            clock: Arc::clone(&self.clock),
            disks: Arc::clone(&self.disks),
            class: io_class(request.priority),
            options: CallOptions::until(request.deadline)
                .priority(request.priority)
                .client(request.client),
            deadline: request.deadline,
            target,
            replica,
            checksum: status.checksum,
            copy,
        };
        let receipt = job.run().await?;
        Ok(FinishReply {
            receipt: Some(receipt),
        })
    }
}

struct CopyJob {
    clock: Arc<dyn Clock>,
    disks: Arc<Disks>,
    channel: Channel,
    /// Of the reads of the own replica.
    class: IoClass,
    options: CallOptions,
    deadline: Monotonic,
    target: ReplicaRecord,
    replica: ReplicaRecord,
    checksum: u32,
    copy: CopyPrefix,
}

impl CopyJob {
    async fn run(&self) -> Result<Receipt, ErrorReply> {
        let mut window: VecDeque<CallFuture<AppendReply>> = VecDeque::new();
        let (step, length) = (MAX_PAYLOAD_BYTES as u64, self.copy.length);
        let mut offset = 0;
        loop {
            let here = step.min(length - offset);
            let last = offset + here == length;
            let payload = if here == 0 {
                None
            } else {
                Some(self.read(offset, here as u32).await?)
            };
            window.push_back(self.send(offset, last, payload));
            offset += here;
            while window.len() >= WINDOW || (last && !window.is_empty()) {
                let Some(call) = window.pop_front() else { break };
                let receipt = self.answer(call).await?;
                if last && window.is_empty() {
                    return receipt.ok_or_else(|| refusal(Code::Unknown, "the replacement gave no receipt"));
                }
            }
        }
    }

    /// A range of the own replica, verified by the store as it is read.
    async fn read(&self, offset: u64, length: u32) -> Result<Payload, ErrorReply> {
        let (disk, _) = self.disks.of(Some(self.replica))?;
        let class = self.class;
        let permit = disk.reads(class).wait(length as usize).await;
        let permit = permit.map_err(|error| refusal(Code::Busy, error.to_string()))?;
        let (range, held) = ((offset, length), (class, permit.clone()));
        let done = disk.read(self.copy.chunk, self.replica, range, held).await?;
        Ok(Payload::with_checksums(
            crate::memory::budget::hold(done.data, permit),
            done.checksums,
        ))
    }

    fn send(&self, offset: u64, last: bool, payload: Option<Payload>) -> CallFuture<AppendReply> {
        let append = Append {
            chunk: self.copy.chunk,
            epoch: self.copy.epoch,
            offset,
            grant: self.copy.grant.clone(),
            replica: Some(self.target),
            chain: Vec::new(),
            sync: last,
            last,
            checksum: last.then_some(self.checksum),
        };
        self.channel.call(Kind::Append, &append, payload, self.options)
    }

    async fn answer(&self, call: CallFuture<AppendReply>) -> Result<Option<Receipt>, ErrorReply> {
        let answer = self.clock.until(self.deadline, call).await;
        let answer =
            answer.ok_or_else(|| refusal(Code::Unknown, "the replacement did not answer in time"))?;
        let answer = answer.map_err(|error| match error.reply() {
            Some(reply) => reply.clone(),
            None => refusal(error.code(), format!("the replacement: {error}")),
        })?;
        let hop = answer.body.hops.into_iter().next();
        let hop = hop.ok_or_else(|| refusal(Code::Unknown, "the replacement answered nothing"))?;
        if hop.code != 0 {
            let code = Code::from_number(hop.code).unwrap_or(Code::Unknown);
            return Err(refusal(code, format!("the replacement: {}", hop.message)));
        }
        Ok(hop.receipt)
    }
}
