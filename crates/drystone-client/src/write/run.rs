//! Runs one [`ChunkWrite`]: its outputs become calls, their answers its inputs.

use super::buffer::StretchFrame;
use super::chunk::{
    ChainFrame, ChainMember, ChunkInput, ChunkOutput, ChunkWrite, GrantedChunk, Note, SealedPart, Sign,
    StretchLimits, Trouble,
};
use super::grants::{WantedGrant, replacement};
use super::shared::WriteContext;
use super::suspects::SuspectStanding;
use super::trouble_wait::TroubleWait;
use crate::metrics::Metrics;
use drystone_env::{BoxFuture, Monotonic};
use drystone_proto::data::{
    Append, AppendReply, ChunkStatus, ChunkStatusRequest, CopyPrefix, Finish, FinishReply, Hop,
};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_proto::{Kind, Message};
use drystone_rpc::{CallError, CallOptions, Channel, Payload};
use drystone_types::{Code, NodeId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Bulk data has a connection of its own, so that small calls do not stand behind megabytes.
const BULK_LANE: u8 = 1;

/// Bytes per second below which a copy to a suspect server is not worth its wait.
const SLOWEST_COPY: u64 = 16 << 20;

/// What a writer hands to the chunk it fills. The queue is unbounded because every frame in it holds its part of the
/// process's budget.
pub(crate) enum StretchJob {
    Frame(StretchFrame, OwnedSemaphorePermit),
    Flush,
    End,
}

/// A stretch to write.
pub(crate) struct Stretch {
    pub(crate) policy: PolicyRecord,
    pub(crate) max_bytes: u64,
    /// A grant that was fetched earlier will not do.
    pub(crate) fresh: bool,
    /// The chunk to begin with, if there is one already.
    pub(crate) granted: Option<GrantedChunk>,
}

/// Writes what comes in `jobs` until `End`; hands over sealed parts in order. Ends with `unavailable` when the
/// writer goes away.
pub(crate) async fn run(
    context: WriteContext,
    stretch: Stretch,
    mut jobs: mpsc::UnboundedReceiver<StretchJob>,
    mut sealed: impl FnMut(SealedPart),
) -> Result<(), Trouble> {
    let clock = context.requester.clock().clone();
    let options = &context.requester.options();
    let limits = StretchLimits {
        window: options.append_window,
        sync_every: options.sync_every.0,
        patience: options.deadline,
    };
    let suspects = context.shared.suspects.nodes(clock.now());
    let core = ChunkWrite::new(limits, stretch.policy, suspects);
    let mut runner = Runner {
        context: context.clone(),
        stretch,
        core,
        calls: FuturesUnordered::new(),
        held: None,
        sealed: Vec::new(),
    };
    let (mut out, mut ended, mut trouble) = (Vec::new(), false, TroubleWait::default());
    loop {
        let mut wake = None;
        let over = runner.perform(&mut out, &mut wake);
        runner.sealed.drain(..).for_each(&mut sealed);
        if let Some(result) = over {
            return result;
        }
        let sleep = async {
            match wake {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let input = tokio::select! {
            biased;
            Some(input) = runner.calls.next(), if !runner.calls.is_empty() => input,
            job = jobs.recv(), if !ended => match job {
                Some(StretchJob::Frame(frame, permit)) => {
                    match &mut runner.held {
                        Some(held) => held.merge(permit),
                        None => runner.held = Some(permit),
                    }
                    ChunkInput::Frame(frame)
                }
                Some(StretchJob::Flush) => ChunkInput::Flush,
                Some(StretchJob::End) => {
                    ended = true;
                    ChunkInput::End
                }
                None => return Err(Trouble::new(Code::Unavailable, "the writer went away")),
            },
            () = sleep => ChunkInput::Tick,
        };
        if let ChunkInput::Granted {
            result: Ok(granted), ..
        }
        | ChunkInput::Replacement {
            result: Ok(granted), ..
        } = &input
        {
            context.begun.granted(granted.chunk, granted.token.clone());
        }
        runner.core.set_slow(runner.slow());
        runner.core.on(clock.now(), input, &mut out);
        trouble.follow(&runner.core, &options.waits);
    }
}

struct Runner {
    context: WriteContext,
    stretch: Stretch,
    core: ChunkWrite,
    calls: FuturesUnordered<BoxFuture<ChunkInput>>,
    held: Option<OwnedSemaphorePermit>,
    sealed: Vec<SealedPart>,
}

impl Runner {
    /// Beyond this a replica makes no progress.
    fn slow(&self) -> Duration {
        let least = self.context.requester.options().slow;
        // Before anything was measured a cold start must not look like a failure.
        self.context
            .shared
            .latency
            .p99()
            .map_or(least * 3, |p99| (p99 * 10).max(least))
    }

    /// Does what the core says; `Some` when it is over.
    fn perform(
        &mut self,
        out: &mut Vec<ChunkOutput>,
        wake: &mut Option<Monotonic>,
    ) -> Option<Result<(), Trouble>> {
        let metrics = self.context.requester.metrics().clone();
        let now = self.context.requester.now();
        for output in out.drain(..) {
            match output {
                ChunkOutput::Cancel => self.calls.clear(),
                ChunkOutput::Wake(at) => *wake = Some(wake.map_or(at, |before: Monotonic| before.min(at))),
                ChunkOutput::Release(bytes) => {
                    let part = self.held.as_mut().and_then(|held| held.split(bytes as usize));
                    drop(part);
                }
                ChunkOutput::Blamed(node) => {
                    Metrics::add(&metrics.replicas_blamed, 1);
                    self.context.shared.suspects.blamed(node, now);
                }
                ChunkOutput::Spoiled(node) => self.context.shared.suspects.spoiled(node, now),
                ChunkOutput::Trusted(node) => self.context.shared.suspects.trusted(node),
                ChunkOutput::Note(Note::Rewritten) => Metrics::add(&metrics.chunks_rewritten, 1),
                ChunkOutput::Note(Note::CutShort) => Metrics::add(&metrics.chunks_cut_short, 1),
                ChunkOutput::Note(Note::Replaced) => Metrics::add(&metrics.replicas_replaced, 1),
                ChunkOutput::Grant { step, avoid, fresh } => self.grant(step, avoid, fresh),
                ChunkOutput::Append { step, position, send } => self.append(step, position, *send),
                ChunkOutput::Status {
                    probe,
                    member,
                    chunk,
                    to,
                } => self.status(probe, member, chunk, &to),
                ChunkOutput::Finish {
                    step,
                    member,
                    grant,
                    length,
                    to,
                } => self.finish(step, member, &grant, length, &to),
                ChunkOutput::Replace {
                    step,
                    grant,
                    have,
                    avoid,
                } => self.replace(step, grant, have, avoid),
                ChunkOutput::Ask { step, chunk, to } => self.ask(step, chunk, &to),
                copy @ ChunkOutput::Copy { .. } => self.copy(copy),
                ChunkOutput::Sealed(part) => self.sealed.push(part),
                ChunkOutput::Done => return Some(Ok(())),
                ChunkOutput::Failed(trouble) => return Some(Err(trouble)),
            }
        }
        None
    }

    fn channel(&self, to: &ChainMember, lane: u8) -> Channel {
        self.context
            .requester
            .channels()
            .to_lane(&to.address, to.node, lane)
    }

    fn within(&self, duration: Duration) -> CallOptions {
        CallOptions::until(self.context.requester.now().plus(duration))
    }

    fn grant(&mut self, step: u64, avoid: Vec<NodeId>, fresh: bool) {
        if let Some(granted) = self.stretch.granted.take()
            && !fresh
        {
            let result = Ok(granted);
            return self
                .calls
                .push(Box::pin(async move { ChunkInput::Granted { step, result } }));
        }
        let context = self.context.clone();
        let Stretch {
            policy,
            max_bytes,
            fresh: always,
            ..
        } = self.stretch;
        // The last chunk of a slow stretch takes no space for what the others hold.
        let max_bytes = max_bytes.saturating_sub(self.core.sealed()).max(1);
        self.calls.push(Box::pin(async move {
            let wanted = WantedGrant {
                max_bytes,
                policy,
                avoid,
                fresh: fresh || always,
            };
            let result = context.shared.grants.grant(&context.requester, wanted).await;
            ChunkInput::Granted { step, result }
        }));
    }

    fn append(&mut self, step: u64, position: u64, send: ChainFrame) {
        let mut members = send.chain.iter().filter_map(|&at| send.grant.members.get(at));
        let Some(first) = members.next() else { return };
        let hop = |member: &ChainMember| Hop {
            address: member.address.clone(),
            replica: Some(member.replica),
        };
        let request = Append {
            chunk: send.grant.chunk,
            epoch: send.grant.epoch,
            offset: send.offset,
            grant: send.grant.token.clone(),
            replica: Some(first.replica),
            chain: members.map(hop).collect(),
            sync: send.sync,
            last: send.last.is_some(),
            checksum: send.last,
        };
        let StretchFrame { data, checksums } = send.frame;
        let payload = Payload { data, checksums };
        let within = self.within(self.context.requester.options().deadline);
        // The frame stands in the queue, in order, when `call` returns.
        let call = self.channel(first, BULK_LANE).call::<_, AppendReply>(
            Kind::Append,
            &request,
            Some(payload),
            within,
        );
        let context = self.context.clone();
        let began = context.requester.now();
        self.calls.push(Box::pin(async move {
            let result = answer(call.await);
            if result.is_ok() {
                context.shared.latency.add(context.requester.now().since(began));
            }
            ChunkInput::Appended {
                step,
                position,
                result,
            }
        }));
    }

    fn status(&mut self, probe: u64, member: usize, chunk: u64, to: &ChainMember) {
        let request = ChunkStatusRequest {
            chunk,
            replica: Some(to.replica),
        };
        let within = self.within(self.context.requester.options().slow);
        let call = self
            .channel(to, 0)
            .call::<_, ChunkStatus>(Kind::ChunkStatus, &request, None, within);
        self.calls.push(Box::pin(async move {
            ChunkInput::Status {
                probe,
                member,
                result: answer(call.await),
            }
        }));
    }

    fn finish(&mut self, step: u64, member: usize, grant: &GrantedChunk, length: u64, to: &ChainMember) {
        let request = Finish {
            chunk: grant.chunk,
            epoch: grant.epoch,
            length,
            grant: grant.token.clone(),
            replica: Some(to.replica),
        };
        let within = self.within(self.slow() * 10);
        let call = self.channel(to, 0).call(Kind::Finish, &request, None, within);
        self.calls.push(Box::pin(async move {
            ChunkInput::Finished {
                step,
                member,
                result: receipt(answer::<FinishReply>(call.await)),
            }
        }));
    }

    fn replace(&mut self, step: u64, grant: Arc<GrantedChunk>, have: Vec<ReplicaRecord>, avoid: Vec<NodeId>) {
        let context = self.context.clone();
        self.calls.push(Box::pin(async move {
            let result = replacement(&context.requester, &grant, 0, have, avoid).await;
            ChunkInput::Replacement { step, result }
        }));
    }

    /// Asks a suspect server for a sign of life; the chunk waits for it only if that is worth it.
    fn ask(&mut self, step: u64, chunk: u64, to: &ChainMember) {
        let (context, node) = (self.context.clone(), to.node);
        let standing = context.shared.suspects.standing(node, context.requester.now());
        if standing == (SuspectStanding::Away { probe: false }) {
            let away = ChunkInput::Asked {
                step,
                sign: Sign::Away,
            };
            return self.calls.push(Box::pin(async move { away }));
        }
        let request = ChunkStatusRequest {
            chunk,
            replica: Some(to.replica),
        };
        let within = self.within(context.requester.options().slow);
        let call = self
            .channel(to, 0)
            .call::<_, ChunkStatus>(Kind::ChunkStatus, &request, None, within);
        let env = context.requester.env().clone();
        let asking = async move {
            // It need not know the chunk.
            let sign = answer(call.await).map_or_else(|trouble| trouble.code == Code::NotFound, |_| true);
            let now = context.requester.now();
            context.shared.suspects.heard(node, now, sign);
            if sign { Sign::Here } else { Sign::Silent }
        };
        match standing {
            SuspectStanding::Ask => self.calls.push(Box::pin(async move {
                let sign = asking.await;
                ChunkInput::Asked { step, sign }
            })),
            SuspectStanding::Away { .. } => {
                let probe = async move {
                    asking.await;
                };
                env.spawn.spawn("probe", Box::pin(probe));
                let sign = Sign::Away;
                self.calls
                    .push(Box::pin(async move { ChunkInput::Asked { step, sign } }));
            }
        }
    }

    fn copy(&mut self, copy: ChunkOutput) {
        let ChunkOutput::Copy {
            step,
            grant,
            replacement,
            length,
            from,
            to,
            brief,
        } = copy
        else {
            return;
        };
        let request = CopyPrefix {
            chunk: grant.chunk,
            epoch: grant.epoch,
            length,
            replica: Some(from.replica),
            to: Some(Hop {
                address: to.address.clone(),
                replica: Some(to.replica),
            }),
            grant: replacement.token.clone(),
        };
        let wait = match brief {
            true => self.slow() * 2 + Duration::from_micros(length * 1_000_000 / SLOWEST_COPY),
            false => self.slow() * 10,
        };
        let within = self.within(wait);
        let call = self
            .channel(&from, 0)
            .call(Kind::CopyPrefix, &request, None, within);
        self.calls.push(Box::pin(async move {
            ChunkInput::Copied {
                step,
                result: receipt(answer::<FinishReply>(call.await)),
            }
        }));
    }
}

fn answer<Rep: Message>(result: Result<drystone_rpc::Answer<Rep>, CallError>) -> Result<Rep, Trouble> {
    result.map(|answer| answer.body).map_err(|error| Trouble {
        code: error.code(),
        message: error.to_string(),
        receipt: error
            .reply()
            .and_then(|reply| reply.receipt.clone())
            .map(Box::new),
    })
}

fn receipt(result: Result<FinishReply, Trouble>) -> Result<drystone_proto::command::Receipt, Trouble> {
    result?
        .receipt
        .ok_or_else(|| Trouble::new(Code::Unavailable, "an answer without a receipt"))
}
