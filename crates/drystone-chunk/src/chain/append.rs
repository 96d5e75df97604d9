//! Append: a frame goes to the own disk and to the next hop at once.
//!
//! What must happen in the order of frames happens before the future is made: the check of the grant, the queue
//! of the disk, the queue of the next hop's connection. The future then waits for both, runs the chain's core
//! ([`crate::chain::core`]) and answers. No task, no copy of the payload, one timer for each frame.

use crate::chain::core::{Ask, Chain, Frame, FrameId, Held, Input, Output, refusal};
use crate::disk::ops::{AppendOp, Appended, Pending};
use crate::grants::Permit;
use crate::node::{Node, SharedNode};
use drystone_env::{BoxFuture, Monotonic};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::data::{Append, AppendReply, Hop, HopState};
use drystone_proto::record::ReplicaRecord;
use drystone_proto::{Kind, Priority};
use drystone_rpc::{Answer, CallError, CallFuture, CallOptions, Channel, Payload, Reply, Request};
use drystone_types::{ClientId, Code};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Chains that are remembered. One is some hundred bytes; a writer has ten at a time.
const MOST_CHAINS: usize = 16_384;
/// A chain without a frame on its way is forgotten after this long; nothing is lost with it but a look at the
/// grant's signature.
const IDLE: Duration = Duration::from_secs(60);

/// The chunks that are being written, by (disk, chunk).
#[derive(Default)]
pub(crate) struct Chains {
    entries: Mutex<BTreeMap<(u64, u64), Arc<Entry>>>,
}

/// One chunk that is being written.
struct Entry {
    name: (u64, u64),
    me: ReplicaRecord,
    permit: Permit,
    hops: Vec<Hop>,
    next: Option<Channel>,
    chain: Mutex<Chain>,
    used: AtomicU64,
}

impl Entry {
    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if it broke and nothing of it is on its way: a writer that comes again begins anew.
    fn is_spent(&self) -> bool {
        let chain = self.chain();
        chain.is_broken() && chain.is_idle()
    }
}

impl Chains {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets chains on which nothing happens.
    pub(crate) fn sweep(&self, now: Monotonic) {
        let idle_since = now.0.saturating_sub(IDLE.as_micros() as u64);
        self.lock()
            .retain(|_, entry| entry.used.load(Relaxed) >= idle_since || !entry.chain().is_idle());
    }

    fn remove(&self, entry: &Arc<Entry>) {
        let mut entries = self.lock();
        if entries
            .get(&entry.name)
            .is_some_and(|there| Arc::ptr_eq(there, entry))
        {
            entries.remove(&entry.name);
        }
    }

    /// The chain of this append: the one that is there if it has the same permission and members and is not
    /// broken and done with.
    fn enter(&self, node: &Node, append: &Append, me: ReplicaRecord) -> Result<Arc<Entry>, ErrorReply> {
        let name = (me.disk, append.chunk);
        let now = node.env.clock.now();
        let found = self.lock().get(&name).cloned();
        let known = found.as_ref().filter(|entry| entry.permit.token == append.grant);
        let permit = match known {
            Some(entry) => entry.permit.clone(),
            None => Permit::verify(&node.identity.key, node.identity.history, &append.grant)?,
        };
        permit.admit(node.gate(), (append.chunk, append.epoch), &me, &append.chain)?;
        if let Some(entry) = known
            && entry.me == me
            && entry.hops == append.chain
            && !entry.is_spent()
        {
            entry.used.store(now.0, Relaxed);
            return Ok(Arc::clone(entry));
        }
        if self.lock().len() >= MOST_CHAINS {
            self.sweep(now);
        }
        let below = append.chain.iter().filter_map(|hop| hop.replica).collect();
        let entry = Arc::new(Entry {
            name,
            me,
            permit,
            hops: append.chain.clone(),
            next: append.chain.first().map(|hop| node.channels.to(&hop.address)),
            chain: Mutex::new(Chain::new(me, below)),
            used: AtomicU64::new(now.0),
        });
        let mut entries = self.lock();
        if entries.len() >= MOST_CHAINS && !entries.contains_key(&name) {
            return Err(refusal(Code::Busy, "too many chunks are being written here"));
        }
        entries.insert(name, Arc::clone(&entry));
        drop(entries);
        node.changes().note(name);
        Ok(entry)
    }
}

/// Takes an append. What is in order happens before this returns.
pub(crate) fn append(node: &SharedNode, request: Request) -> BoxFuture<Reply> {
    match Flight::begin(node, request) {
        Ok(flight) => Box::pin(flight.run()),
        Err(error) => {
            let reply = Reply::error(node.fail("append", error));
            Box::pin(std::future::ready(reply))
        }
    }
}

/// A frame on its way.
struct Flight {
    node: SharedNode,
    /// Taken out of the chain when the flight ends, however it ends.
    seat: Seat,
    last: bool,
    ask: Ask,
    /// Until then the answer is made.
    answer_by: Monotonic,
    own: Option<Pending<Appended>>,
    below: Option<CallFuture<AppendReply>>,
    answer: Option<Result<Vec<HopState>, ErrorReply>>,
    /// Counts the payload of clients until they are answered.
    _counted: Option<crate::memory::budget::Counted>,
}

struct Seat {
    entry: Arc<Entry>,
    id: FrameId,
    now: Monotonic,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Does nothing for a frame that was answered.
        self.entry
            .chain()
            .on(self.now, Input::Dropped(self.id), &mut Vec::new());
    }
}

impl Flight {
    fn begin(node: &SharedNode, request: Request) -> Result<Self, ErrorReply> {
        let append: Append = request.decode()?;
        let (_, me) = node.disk(append.replica)?;
        let end = append.offset.checked_add(request.payload.len() as u64);
        let entry = node.chains.enter(node, &append, me)?;
        let most = entry.permit.class.bytes();
        let end = end.filter(|end| *end <= most).ok_or_else(|| {
            refusal(
                Code::TooLarge,
                format!("the grant's slots hold {most} bytes, the append goes beyond"),
            )
        })?;
        if request.payload.is_empty() && !append.sync && !append.last {
            return Err(refusal(
                Code::Invalid,
                "an append without bytes must be a sync or the last",
            ));
        }
        node.metrics.appended.inc_by(request.payload.len() as u64);
        let head = request.peer.hello.node == 0;
        let counted = head.then(|| node.heads.count(request.payload.len() as u64));
        let ask = if append.sync || append.last {
            Ask::Durable
        } else {
            Ask::Received
        };
        let now = node.env.clock.now();
        let id = FrameId(node.next_frame());
        let mut flight = Flight {
            node: Arc::clone(node),
            seat: Seat {
                entry: Arc::clone(&entry),
                id,
                now,
            },
            last: append.last,
            ask,
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
        let frame = Carried {
            append: &append,
            request: &request,
        };
        out.into_iter().for_each(|output| flight.take(&frame, output));
        drop(chain);
        Ok(flight)
    }

    fn take(&mut self, frame: &Carried<'_>, output: Output) {
        match output {
            Output::Store(_) => self.own = Some(frame.store(&self.node, &self.seat.entry)),
            Output::Forward(_, deadline) => self.below = frame.forward(&self.seat.entry, deadline),
            Output::Reply(_, answer) => self.answer = Some(answer),
            Output::Wake(_, at) => self.answer_by = at,
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.node.env.clock.now();
        let mut out = Vec::new();
        self.seat.entry.chain().on(now, input, &mut out);
        for output in out {
            match output {
                Output::Reply(id, answer) if id == self.seat.id => self.answer = Some(answer),
                Output::Wake(_, at) => self.answer_by = at,
                _ => {}
            }
        }
    }

    async fn run(mut self) -> Reply {
        let clock = Arc::clone(&self.node.env.clock);
        let mut timer = clock.sleep_until(self.answer_by);
        let id = self.seat.id;
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
                    Input::Below(id, heard(result))
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
        let entry = &self.seat.entry;
        let receipt = appended.sealed.map(|sealed| {
            self.node.changes().note(entry.name);
            self.node.metrics.receipts.inc();
            self.node.receipt(entry.permit.grant.chunk, entry.me, sealed)
        });
        Held {
            received: appended.received,
            durable: appended.durable,
            receipt,
        }
    }

    async fn reply(mut self) -> Reply {
        let answer = self.answer.take();
        match answer.unwrap_or_else(|| Err(refusal(Code::Unknown, "the frame was dropped"))) {
            Ok(hops) => {
                if self.last {
                    self.node.chains.remove(&self.seat.entry);
                } else if self.ask == Ask::Received
                    && let Ok((disk, _)) = self.node.disk(Some(self.seat.entry.me))
                    && let Some(room) = disk.backlog().room()
                {
                    // The disk is behind: whoever sends waits, because memory is bounded. Disk work always ends,
                    // so no circle of servers can wait for each other here.
                    self.node.env.clock.until(self.answer_by, room).await;
                }
                Reply::ok(&AppendReply { hops })
            }
            Err(error) => Reply::error(self.node.fail("append", error)),
        }
    }
}

/// Waits for what is there; for ever if nothing is.
async fn wait<F: Future + Unpin>(slot: &mut Option<F>) -> F::Output {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn heard(result: Result<Answer<AppendReply>, CallError>) -> Result<Vec<HopState>, ErrorReply> {
    match result {
        Ok(answer) => Ok(answer.body.hops),
        Err(error) => match error.reply() {
            Some(reply) => Err(reply.clone()),
            None => Err(refusal(error.code(), error.to_string())),
        },
    }
}

/// The frame with what it came in.
struct Carried<'a> {
    append: &'a Append,
    request: &'a Request,
}

impl Carried<'_> {
    fn store(&self, node: &Node, entry: &Entry) -> Pending<Appended> {
        let append = self.append;
        let op = AppendOp {
            chunk: append.chunk,
            epoch: append.epoch,
            replica: entry.me,
            class: entry.permit.class,
            offset: append.offset,
            data: self.request.payload.clone(),
            checksums: self.request.checksums.clone(),
            sync: append.sync,
            last: append.last.then_some(append.checksum),
        };
        match node.disk(Some(entry.me)) {
            Ok((disk, _)) => disk.append(op),
            Err(error) => Pending::failed(error),
        }
    }

    fn forward(&self, entry: &Entry, deadline: Monotonic) -> Option<CallFuture<AppendReply>> {
        let (channel, (next, rest)) = (entry.next.as_ref()?, entry.hops.split_first()?);
        let append = Append {
            replica: next.replica,
            chain: rest.to_vec(),
            ..self.append.clone()
        };
        Some(send(channel, &append, self.request, deadline))
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
