//! Append: a frame goes to the own disk and to the next hop at once.
//!
//! What must happen in the order of frames happens before the future is made: the check of the grant, the queue
//! of the disk, the queue of the next hop's connection. The future then waits for both, runs the chain's core
//! ([`super::core`]) and answers. No task, no copy of the payload, one timer for each frame.

use super::chains::{Chains, WrittenChunk};
use super::core::{Ask, Frame, FrameId, Held, Input, Output};
use crate::changes::ChangeLog;
use crate::disk::disks::Disks;
use crate::disk::ops::{Appended, DiskAnswer, io_class};
use crate::grants::GrantFloor;
use crate::memory::budget::{Budget, Counted};
use crate::metrics::Metrics;
use crate::refusals::Refusals;
use crate::signatures::Signatures;
use drystone_env::{BoxFuture, Clock, Monotonic};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::{Append, AppendReply, HopState};
use drystone_proto::{Kind, Priority};
use drystone_rpc::{Answer, CallError, CallFuture, CallOptions, Channel, Payload, Reply, Request, refusal};
use drystone_store::{AppendFrame, IoClass, LastFrame};
use drystone_types::{ChunkId, ClientId, Code, Epoch, PlacementIndex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What takes appends.
pub(crate) struct Appends {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) chains: Arc<Chains>,
    pub(crate) floor: Arc<GrantFloor>,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) signatures: Arc<Signatures>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Refusals,
    /// Payload that clients have sent and that is not answered: beyond it clients are not read.
    pub(crate) from_clients: Budget,
    /// Names the next frame.
    pub(crate) next_frame: AtomicU64,
}

impl Appends {
    /// Takes an append. What is in order happens before this returns.
    pub(crate) fn append(self: &Arc<Self>, request: Request) -> BoxFuture<Reply> {
        match AppendCall::begin(self, request) {
            Ok(call) => Box::pin(call.run()),
            Err(error) => {
                let reply = Reply::error(self.refusals.count("append", error));
                Box::pin(std::future::ready(reply))
            }
        }
    }

    /// The chain of this append, if its grant lets it in.
    fn enter(&self, append: &Append) -> Result<Arc<WrittenChunk>, ErrorReply> {
        let (_, me) = self.disks.of(append.replica)?;
        let now = self.clock.now();
        let admission = self.floor.admission(self.clock.wall());
        let (entry, is_new) = self.chains.enter(append, me, now, admission)?;
        if is_new {
            self.changes.note(entry.name);
        }
        Ok(entry)
    }
}

/// A frame that is not answered yet.
struct AppendCall {
    appends: Arc<Appends>,
    /// Takes the frame out of the chain when the call ends, however it ends.
    frame: FrameGuard,
    last: bool,
    ask: Ask,
    class: IoClass,
    /// Until then the answer is made.
    answer_by: Monotonic,
    own: Option<DiskAnswer<Appended>>,
    below: Option<CallFuture<AppendReply>>,
    answer: Option<Result<Vec<HopState>, ErrorReply>>,
    /// Counts the payload of clients until they are answered.
    _counted: Option<Counted>,
}

struct FrameGuard {
    entry: Arc<WrittenChunk>,
    id: FrameId,
    now: Monotonic,
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        // Does nothing for a frame that was answered.
        self.entry
            .chain()
            .on(self.now, Input::Dropped(self.id), &mut Vec::new());
    }
}

impl AppendCall {
    fn begin(appends: &Arc<Appends>, request: Request) -> Result<Self, ErrorReply> {
        let append: Append = request.decode()?;
        let end = append.offset.checked_add(request.payload.len() as u64);
        let entry = appends.enter(&append)?;
        let most = entry.permit.grant.max_bytes;
        let end = end.filter(|end| *end <= most).ok_or_else(|| {
            refusal(
                Code::TooLarge,
                format!("the grant is for {most} bytes, the append goes beyond"),
            )
        })?;
        if request.payload.is_empty() && !append.sync && !append.last {
            return Err(refusal(
                Code::Invalid,
                "an append without bytes must be a sync or the last",
            ));
        }
        appends.metrics.appended.inc_by(request.payload.len() as u64);
        let is_from_client = request.peer.hello.node == 0;
        let counted = is_from_client.then(|| appends.from_clients.count(request.payload.len() as u64));
        let ask = if append.sync || append.last {
            Ask::Durable
        } else {
            Ask::Received
        };
        let now = appends.clock.now();
        let id = FrameId(appends.next_frame.fetch_add(1, Relaxed));
        let mut call = AppendCall {
            appends: Arc::clone(appends),
            frame: FrameGuard {
                entry: Arc::clone(&entry),
                id,
                now,
            },
            last: append.last,
            ask,
            class: io_class(request.priority),
            answer_by: request.deadline,
            own: None,
            below: None,
            answer: None,
            _counted: counted,
        };
        // Held while both queues are filled: frames of one chunk stand in both in the same order.
        let mut chain = entry.chain();
        let mut out = Vec::new();
        chain.on(
            now,
            Input::Frame(Frame {
                id,
                end,
                ask,
                deadline: request.deadline,
            }),
            &mut out,
        );
        let mut source = FrameSource { append, request };
        out.into_iter().for_each(|output| call.take(&mut source, output));
        drop(chain);
        Ok(call)
    }

    fn take(&mut self, source: &mut FrameSource, output: Output) {
        let entry = &self.frame.entry;
        match output {
            Output::Store(_) => self.own = Some(source.store(&self.appends.disks, entry)),
            Output::Forward(_, deadline) => self.below = source.forward(entry, deadline),
            Output::Reply(_, answer) => self.answer = Some(answer),
            Output::Wake(_, at) => self.answer_by = at,
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.appends.clock.now();
        let mut out = Vec::new();
        self.frame.entry.chain().on(now, input, &mut out);
        for output in out {
            match output {
                Output::Reply(id, answer) if id == self.frame.id => self.answer = Some(answer),
                Output::Wake(_, at) => self.answer_by = at,
                _ => {}
            }
        }
    }

    async fn run(mut self) -> Reply {
        let clock = Arc::clone(&self.appends.clock);
        let mut timer = clock.sleep_until(self.answer_by);
        let id = self.frame.id;
        while self.answer.is_none() {
            let (own, below) = (&mut self.own, &mut self.below);
            let input = tokio::select! {
                biased;
                result = wait(own) => {
                    self.own = None;
                    Input::Stored(id, result.map(|appended| self.held(appended)))
                }
                result = wait(below) => {
                    self.below = None;
                    Input::Below(id, hops_of(result))
                }
                () = &mut timer => {
                    // Early by the clock's grain: once more.
                    timer = clock.sleep(Duration::from_millis(1));
                    Input::Tick(id)
                }
            };
            self.feed(input);
        }
        self.reply().await
    }

    fn held(&self, appended: Appended) -> Held {
        let (entry, appends) = (&self.frame.entry, &self.appends);
        let receipt = appended.sealed.map(|sealed| {
            appends.changes.note(entry.name);
            appends.metrics.receipts.inc();
            appends
                .signatures
                .receipt(entry.permit.grant.chunk, entry.me, sealed)
        });
        Held {
            received: appended.received,
            durable: appended.durable,
            receipt,
        }
    }

    async fn reply(mut self) -> Reply {
        let answer = self.answer.take();
        let (entry, appends) = (&self.frame.entry, &self.appends);
        match answer.unwrap_or_else(|| Err(refusal(Code::Unknown, "the frame was dropped"))) {
            Ok(hops) => {
                if self.last {
                    appends.chains.remove(entry);
                } else if self.ask == Ask::Received
                    && let Ok((disk, _)) = appends.disks.of(Some(entry.me))
                    && let Some(room) = disk.backlog(self.class).room()
                {
                    // The disk is behind: whoever sends waits, because memory is bounded. Disk work always ends,
                    // so no circle of servers can wait for each other here.
                    appends.clock.until(self.answer_by, room).await;
                }
                Reply::ok(&AppendReply { hops })
            }
            Err(error) => Reply::error(appends.refusals.count("append", error)),
        }
    }
}

/// Waits for what is there; for ever if nothing is.
async fn wait<F: Future + Unpin>(waited: &mut Option<F>) -> F::Output {
    match waited {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn hops_of(result: Result<Answer<AppendReply>, CallError>) -> Result<Vec<HopState>, ErrorReply> {
    match result {
        Ok(answer) => Ok(answer.body.hops),
        Err(error) => match error.reply() {
            Some(reply) => Err(reply.clone()),
            None => Err(refusal(error.code(), error.to_string())),
        },
    }
}

/// What the frame came in.
struct FrameSource {
    append: Append,
    request: Request,
}

impl FrameSource {
    fn store(&self, disks: &Disks, entry: &WrittenChunk) -> DiskAnswer<Appended> {
        let append = &self.append;
        let frame = AppendFrame {
            chunk: ChunkId(append.chunk),
            epoch: Epoch(append.epoch),
            placement: PlacementIndex(entry.me.placement),
            max_bytes: entry.permit.grant.max_bytes,
            offset: append.offset,
            data: self.request.payload.clone(),
            checksums: self.request.checksums.clone(),
            sync: append.sync,
            last: append.last.then_some(LastFrame {
                checksum: append.checksum,
            }),
            io_class: io_class(self.request.priority),
        };
        // What was refused otherwise when the call began: a chunk is never longer than its grant.
        assert!(
            frame.offset + frame.data.len() as u64 <= frame.max_bytes,
            "{:?}: the append ends at {} + {}, beyond its grant",
            frame.chunk,
            frame.offset,
            frame.data.len()
        );
        match disks.of(Some(entry.me)) {
            Ok((disk, _)) => disk.append(frame),
            Err(error) => DiskAnswer::failed(error),
        }
    }

    fn forward(&mut self, entry: &WrittenChunk, deadline: Monotonic) -> Option<CallFuture<AppendReply>> {
        let channel = entry.next.as_ref()?;
        // The next hop gets the chain behind itself. It is moved: no address is copied for a frame.
        let mut chain = std::mem::take(&mut self.append.chain);
        if chain.is_empty() {
            return None;
        }
        let next = chain.remove(0);
        let append = Append {
            replica: next.replica,
            chain,
            ..self.append.clone()
        };
        Some(send(channel, &append, &self.request, deadline))
    }
}

fn send(
    channel: &Channel,
    append: &Append,
    request: &Request,
    deadline: Monotonic,
) -> CallFuture<AppendReply> {
    let payload = (!request.payload.is_empty()).then(|| Payload {
        data: request.payload.clone(),
        checksums: request.checksums.clone(),
    });
    let options = options(request.client, request.priority, deadline);
    channel.call(Kind::Append, append, payload, options)
}

fn options(client: ClientId, priority: Priority, deadline: Monotonic) -> CallOptions {
    CallOptions::until(deadline).priority(priority).client(client)
}
