//! Runs one [`ChunkWrite`]: its outputs become calls, their answers its inputs.

use super::buffer::Frame;
use super::chunk::{ChunkWrite, Grant, Input, Limits, Member, Note, Output, Part, Send, Sign, Trouble};
use super::doubts::Standing;
use super::shared::Wanted;
use crate::client::Client;
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
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Bulk data has a connection of its own, so that small calls do not stand behind megabytes.
const BULK_LANE: u8 = 1;

/// Bytes per second below which a copy to a server in doubt is not worth its wait.
const SLOWEST_COPY: u64 = 16 << 20;

/// What a writer hands to the chunk it fills. The queue is unbounded because every frame in it holds its part of the
/// process's budget.
pub(crate) enum Job {
    Frame(Frame, OwnedSemaphorePermit),
    Flush,
    End,
}

/// A stretch to write.
pub(crate) struct Stretch {
    pub(crate) policy: PolicyRecord,
    pub(crate) max_bytes: u64,
    /// A grant that was fetched earlier will not do.
    pub(crate) fresh: bool,
}

/// Writes what comes in `jobs` until `End`; hands over sealed parts in order. Ends with `unavailable` when the
/// writer goes away.
pub(crate) async fn run(
    client: Client,
    stretch: Stretch,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    mut sealed: impl FnMut(Part),
) -> Result<(), Trouble> {
    let clock = client.shared.env.clock.clone();
    let options = &client.shared.options;
    let limits = Limits {
        window: options.append_window,
        sync_every: options.sync_every.0,
        patience: options.deadline,
    };
    let doubtful = client.shared.writes.doubts.nodes(clock.now());
    let core = ChunkWrite::new(limits, stretch.policy, doubtful);
    let mut runner = Runner {
        client: client.clone(),
        stretch,
        core,
        calls: FuturesUnordered::new(),
        held: None,
        sealed: Vec::new(),
    };
    let (mut out, mut ended) = (Vec::new(), false);
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
                Some(Job::Frame(frame, permit)) => {
                    match &mut runner.held {
                        Some(held) => held.merge(permit),
                        None => runner.held = Some(permit),
                    }
                    Input::Frame(frame)
                }
                Some(Job::Flush) => Input::Flush,
                Some(Job::End) => {
                    ended = true;
                    Input::End
                }
                None => return Err(Trouble::new(Code::Unavailable, "the writer went away")),
            },
            () = sleep => Input::Tick,
        };
        runner.core.set_slow(runner.slow());
        runner.core.on(clock.now(), input, &mut out);
    }
}

struct Runner {
    client: Client,
    stretch: Stretch,
    core: ChunkWrite,
    calls: FuturesUnordered<BoxFuture<Input>>,
    held: Option<OwnedSemaphorePermit>,
    sealed: Vec<Part>,
}

impl Runner {
    /// Beyond this a replica makes no progress.
    fn slow(&self) -> Duration {
        let least = self.client.shared.options.slow;
        // Before anything was measured a cold start must not look like a failure.
        self.client
            .shared
            .writes
            .latency
            .p99()
            .map_or(least * 3, |p99| (p99 * 10).max(least))
    }

    /// Does what the core says; `Some` when it is over.
    fn perform(
        &mut self,
        out: &mut Vec<Output>,
        wake: &mut Option<Monotonic>,
    ) -> Option<Result<(), Trouble>> {
        let metrics = self.client.shared.metrics.clone();
        let now = self.client.shared.env.clock.now();
        for output in out.drain(..) {
            match output {
                Output::Cancel => self.calls.clear(),
                Output::Wake(at) => *wake = Some(wake.map_or(at, |before: Monotonic| before.min(at))),
                Output::Release(bytes) => {
                    let part = self.held.as_mut().and_then(|held| held.split(bytes as usize));
                    drop(part);
                }
                Output::Blamed(node) => {
                    Metrics::add(&metrics.replicas_blamed, 1);
                    self.client.shared.writes.doubts.blamed(node, now);
                }
                Output::Spoiled(node) => self.client.shared.writes.doubts.spoiled(node, now),
                Output::Trusted(node) => self.client.shared.writes.doubts.trusted(node),
                Output::Note(Note::Rewritten) => Metrics::add(&metrics.chunks_rewritten, 1),
                Output::Note(Note::CutShort) => Metrics::add(&metrics.chunks_cut_short, 1),
                Output::Note(Note::Replaced) => Metrics::add(&metrics.replicas_replaced, 1),
                Output::Grant { step, avoid, fresh } => self.grant(step, avoid, fresh),
                Output::Append { step, position, send } => self.append(step, position, *send),
                Output::Status {
                    probe,
                    member,
                    chunk,
                    to,
                } => self.status(probe, member, chunk, &to),
                Output::Finish {
                    step,
                    member,
                    grant,
                    length,
                    to,
                } => self.finish(step, member, &grant, length, &to),
                Output::Replace {
                    step,
                    grant,
                    have,
                    avoid,
                } => self.replace(step, grant, have, avoid),
                Output::Ask { step, chunk, to } => self.ask(step, chunk, &to),
                copy @ Output::Copy { .. } => self.copy(copy),
                Output::Sealed(part) => self.sealed.push(part),
                Output::Done => return Some(Ok(())),
                Output::Failed(trouble) => return Some(Err(trouble)),
            }
        }
        None
    }

    fn channel(&self, to: &Member, lane: u8) -> Channel {
        self.client
            .shared
            .channels
            .to_lane(&to.address, NodeId(to.node), lane)
    }

    fn within(&self, duration: Duration) -> CallOptions {
        CallOptions::until(self.client.shared.env.clock.now().plus(duration))
    }

    fn grant(&mut self, step: u64, avoid: Vec<u64>, fresh: bool) {
        let client = self.client.clone();
        let Stretch {
            policy,
            max_bytes,
            fresh: always,
        } = self.stretch;
        // The last chunk of a slow stretch takes no slot for what the others hold.
        let max_bytes = max_bytes.saturating_sub(self.core.sealed()).max(1);
        self.calls.push(Box::pin(async move {
            let wanted = Wanted {
                max_bytes,
                policy,
                avoid,
                fresh: fresh || always,
            };
            let result = client.shared.writes.grant(&client, wanted).await;
            Input::Granted { step, result }
        }));
    }

    fn append(&mut self, step: u64, position: u64, send: Send) {
        let mut members = send.chain.iter().filter_map(|&at| send.grant.members.get(at));
        let Some(first) = members.next() else { return };
        let hop = |member: &Member| Hop {
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
        let Frame { data, checksums } = send.frame;
        let payload = Payload { data, checksums };
        let within = self.within(self.client.shared.options.deadline);
        // The frame stands in the queue, in order, when `call` returns.
        let call = self.channel(first, BULK_LANE).call::<_, AppendReply>(
            Kind::Append,
            &request,
            Some(payload),
            within,
        );
        let client = self.client.clone();
        let began = client.shared.env.clock.now();
        self.calls.push(Box::pin(async move {
            let result = answer(call.await);
            if result.is_ok() {
                client
                    .shared
                    .writes
                    .latency
                    .add(client.shared.env.clock.now().since(began));
            }
            Input::Appended {
                step,
                position,
                result,
            }
        }));
    }

    fn status(&mut self, probe: u64, member: usize, chunk: u64, to: &Member) {
        let request = ChunkStatusRequest {
            chunk,
            replica: Some(to.replica),
        };
        let within = self.within(self.client.shared.options.slow);
        let call = self
            .channel(to, 0)
            .call::<_, ChunkStatus>(Kind::ChunkStatus, &request, None, within);
        self.calls.push(Box::pin(async move {
            Input::Status {
                probe,
                member,
                result: answer(call.await),
            }
        }));
    }

    fn finish(&mut self, step: u64, member: usize, grant: &Grant, length: u64, to: &Member) {
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
            Input::Finished {
                step,
                member,
                result: receipt(answer::<FinishReply>(call.await)),
            }
        }));
    }

    fn replace(&mut self, step: u64, grant: Grant, have: Vec<ReplicaRecord>, avoid: Vec<u64>) {
        let client = self.client.clone();
        self.calls.push(Box::pin(async move {
            let writes = &client.shared.writes;
            let result = writes.replacement(&client, &grant, 0, have, avoid).await;
            Input::Replacement { step, result }
        }));
    }

    /// Asks a server in doubt for a sign of life; the chunk waits for it only if that is worth it.
    fn ask(&mut self, step: u64, chunk: u64, to: &Member) {
        let (client, node) = (self.client.clone(), to.node);
        let standing = client
            .shared
            .writes
            .doubts
            .standing(node, client.shared.env.clock.now());
        if standing == (Standing::Away { probe: false }) {
            let away = Input::Asked {
                step,
                sign: Sign::Away,
            };
            return self.calls.push(Box::pin(async move { away }));
        }
        let request = ChunkStatusRequest {
            chunk,
            replica: Some(to.replica),
        };
        let within = self.within(client.shared.options.slow);
        let call = self
            .channel(to, 0)
            .call::<_, ChunkStatus>(Kind::ChunkStatus, &request, None, within);
        let env = client.shared.env.clone();
        let asking = async move {
            // It need not know the chunk.
            let sign = answer(call.await).map_or_else(|trouble| trouble.code == Code::NotFound, |_| true);
            let now = client.shared.env.clock.now();
            client.shared.writes.doubts.heard(node, now, sign);
            if sign { Sign::Here } else { Sign::Silent }
        };
        match standing {
            Standing::Ask => self.calls.push(Box::pin(async move {
                let sign = asking.await;
                Input::Asked { step, sign }
            })),
            Standing::Away { .. } => {
                let probe = async move {
                    asking.await;
                };
                env.spawn.spawn("probe", Box::pin(probe));
                let sign = Sign::Away;
                self.calls
                    .push(Box::pin(async move { Input::Asked { step, sign } }));
            }
        }
    }

    fn copy(&mut self, copy: Output) {
        let Output::Copy {
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
            Input::Copied {
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
