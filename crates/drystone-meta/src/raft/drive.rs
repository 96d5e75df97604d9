//! The raft thread: feeds the synchronous core and carries out what it says.
//!
//! Owns the core, the order of proposals and their times, and who waits for which token. It never blocks on
//! anything but its own inbox, so that heartbeats leave in time whatever disk and apply do.

use super::disk_io::Lanes;
use super::log_time::LogTime;
use super::reads::{ReadQueue, ReadReply, answer_reads};
use super::transport::Transport;
use crate::lifecycle::Lifecycle;
use crate::membership::domains::Domains;
use crate::membership::members::Members;
use crate::message::{AppliedState, ProposalReply, Proposed, RaftView, ToApply, ToFlush, ToRaft, Waiting};
use crate::metrics::Metrics;
use crate::state::snapshot::Snapshots;
use drystone_env::{Clock, Monotonic};
use drystone_proto::envelope::Envelope;
use drystone_raft::{CommittedEntry, DropReason, EntryKind, Input, Output, RaftNode};
use drystone_types::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};

/// Inputs taken in one round: some milliseconds of work at the measured rates, so that a heartbeat is not late.
const ROUND_INPUTS: usize = 4_096;
/// Commands that wait for a leader that was just elected to begin its office; more are refused as busy.
const WAITING_COMMANDS: usize = 16_384;
/// A member heard within this time is alive: two election timeouts at the default tick.
const ALIVE: Duration = Duration::from_secs(1);
/// How often members are looked at while leading: a fraction of an election timeout.
const VIEW_INTERVAL: Duration = Duration::from_millis(200);

enum Token {
    Proposal(Waiting),
    Reads(Vec<ReadReply>),
}

struct SyncedWait {
    index: u64,
    need: u32,
    domains: Domains,
    reply: oneshot::Sender<u32>,
}

/// What the raft thread works with.
pub(crate) struct DriverParts {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) members: Arc<Members>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) reads: Arc<ReadQueue>,
    /// Where it tells everybody about Raft.
    pub(crate) view: watch::Sender<RaftView>,
    pub(crate) apply: UnboundedSender<ToApply>,
    pub(crate) flush: UnboundedSender<ToFlush>,
    pub(crate) lanes: Lanes,
    /// Set while the log is nearly at the end of its segments, and no other can be made.
    pub(crate) log_short: Arc<AtomicBool>,
    pub(crate) metrics: Metrics,
}

/// See the module.
pub(crate) struct Driver {
    parts: DriverParts,
    node: RaftNode,
    inbox: UnboundedReceiver<ToRaft>,
    state: DriverState,
}

struct DriverState {
    view: RaftView,
    tokens: u64,
    waiting: BTreeMap<u64, Token>,
    early: VecDeque<(Box<Envelope>, ProposalReply)>,
    synced: Vec<SyncedWait>,
    /// While leading: when each member was last seen active.
    heard: BTreeMap<NodeId, Monotonic>,
    /// While leading: the index of the first entry of our own term, once it is delivered.
    first_own: Option<u64>,
    clock: Option<LogTime>,
    applied: AppliedState,
    /// Inputs of our own for the next round.
    due: Vec<Input>,
    wake: Monotonic,
    looked: Monotonic,
    stop: bool,
}

impl Driver {
    /// A driver that has done nothing yet; `applied` is where the state machine stands.
    pub(crate) fn new(
        parts: DriverParts,
        node: RaftNode,
        inbox: UnboundedReceiver<ToRaft>,
        applied: AppliedState,
    ) -> Self {
        let now = parts.clock.now();
        let status = node.status();
        let view = RaftView {
            conf: status.conf,
            term: status.term.0,
            needs_snapshot: status.needs_snapshot,
            ..RaftView::default()
        };
        let state = DriverState {
            view,
            tokens: 0,
            waiting: BTreeMap::new(),
            early: VecDeque::new(),
            synced: Vec::new(),
            heard: BTreeMap::new(),
            first_own: None,
            clock: None,
            applied,
            due: Vec::new(),
            wake: now,
            looked: now,
            stop: false,
        };
        Self {
            parts,
            node,
            inbox,
            state,
        }
    }

    /// Runs until told to stop or until the core fails.
    pub(crate) async fn run(mut self) {
        let mut out = Vec::new();
        let mut inputs = vec![Input::Tick];
        while !self.state.stop && !self.node.has_failed() {
            let now = self.parts.clock.now();
            self.node.on_batch(now, inputs.drain(..), &mut out);
            for output in out.drain(..) {
                self.carry_out(output);
            }
            self.after_round(now);
            self.gather(&mut inputs).await;
        }
        // Whoever still waits learns it from the dropped senders.
        let _ = self.parts.apply.send(ToApply::Stop);
    }

    async fn gather(&mut self, inputs: &mut Vec<Input>) {
        inputs.append(&mut self.state.due);
        let first = match self.inbox.try_recv() {
            Err(TryRecvError::Empty) if inputs.is_empty() => {
                let clock = Arc::clone(&self.parts.clock);
                clock.until(self.state.wake, self.inbox.recv()).await
            }
            Err(TryRecvError::Empty) => None,
            Ok(message) => Some(Some(message)),
            Err(TryRecvError::Disconnected) => Some(None),
        };
        match first {
            Some(Some(message)) => self.take(message, inputs),
            Some(None) => self.state.stop = true,
            None => inputs.push(Input::Tick),
        }
        for _ in 0..ROUND_INPUTS {
            let Ok(message) = self.inbox.try_recv() else { break };
            self.take(message, inputs);
        }
    }

    fn token(&mut self, waiting: Token) -> u64 {
        self.state.tokens += 1;
        self.state.waiting.insert(self.state.tokens, waiting);
        self.state.tokens
    }

    fn take(&mut self, message: ToRaft, inputs: &mut Vec<Input>) {
        match message {
            ToRaft::Propose { command, reply } => self.propose(command, reply, inputs),
            ToRaft::ProposeConf { change, reply } => {
                let token = self.token(Token::Proposal(Waiting::Change(reply)));
                inputs.push(Input::ProposeConf { token, change });
            }
            ToRaft::Reads => {
                let reads = self.parts.reads.take();
                if !reads.is_empty() {
                    let token = self.token(Token::Reads(reads));
                    inputs.push(Input::ReadIndex { token });
                }
            }
            ToRaft::Messages(messages) => {
                self.parts.transport.received(&messages);
                inputs.push(Input::Messages(messages));
            }
            ToRaft::Io(completion) => inputs.push(Input::Io(completion)),
            ToRaft::Input(input) => inputs.push(input),
            ToRaft::Applied(applied) => {
                self.state.applied = applied;
                let index = applied.index.into();
                inputs.push(Input::Applied { index });
            }
            ToRaft::Synced {
                index,
                need,
                domains,
                reply,
            } => {
                if self.node.is_leader() {
                    self.state.synced.push(SyncedWait {
                        index,
                        need,
                        domains,
                        reply,
                    });
                }
            }
            ToRaft::Stop => self.state.stop = true,
        }
    }

    fn propose(&mut self, command: Box<Envelope>, reply: ProposalReply, inputs: &mut Vec<Input>) {
        let now = self.parts.clock.now();
        if let Some(clock) = &mut self.state.clock {
            let wall = self.parts.clock.wall();
            let (data, entry) = command.stamp(clock.next(now), wall.0);
            let proposed = Box::new(Proposed { entry, reply });
            let token = self.token(Token::Proposal(Waiting::Command(proposed)));
            inputs.push(Input::Propose { token, data });
        } else if !self.node.is_leader() {
            let _ = reply.send(Err(DropReason::NotLeader {
                leader: self.state.view.leader,
            }));
        } else if self.state.early.len() < WAITING_COMMANDS {
            self.state.early.push_back((command, reply));
        } else {
            let _ = reply.send(Err(DropReason::Busy));
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Io(request) => {
                let lane = if matches!(request.op, drystone_env::IoOp::Create { .. }) {
                    &self.parts.lanes.creations
                } else {
                    &self.parts.lanes.writes
                };
                if let drystone_env::IoOp::Write { parts, .. } = &request.op {
                    let bytes: usize = parts.iter().map(bytes::Bytes::len).sum();
                    self.parts.metrics.log_bytes.inc_by(bytes as u64);
                }
                let _ = lane.send(request);
            }
            Output::Send { to, messages } => self.parts.transport.send(to, messages),
            Output::Committed(entries) => self.committed(entries),
            Output::ReadReady { token, index } => {
                if let Some(Token::Reads(reads)) = self.state.waiting.remove(&token) {
                    answer_reads(reads, Ok(index.0));
                }
            }
            Output::ReadFailed { token, reason } => {
                if let Some(Token::Reads(reads)) = self.state.waiting.remove(&token) {
                    answer_reads(reads, Err(reason));
                }
            }
            Output::ProposalDropped { token, reason } => {
                if let Some(Token::Proposal(waiting)) = self.state.waiting.remove(&token) {
                    let _ = waiting.into_reply().send(Err(reason));
                }
            }
            Output::MakeSnapshot { at_least } => drop(self.parts.flush.send(ToFlush::Snapshot(at_least.0))),
            Output::SendSnapshot { to, term, meta } => self.parts.snapshots.send(to, term.0, meta),
            Output::InstallSnapshot { meta } => drop(self.parts.apply.send(ToApply::Install(meta))),
            Output::SnapshotIgnored { from, meta } => {
                // Not here: its files may be on a slow disk.
                let snapshots = Arc::clone(&self.parts.snapshots);
                self.parts.lifecycle.spawn("meta-snapshot-ignored", async move {
                    snapshots.ignored(from, &meta);
                });
            }
            Output::LeaderChanged { leader, term, is_me } => self.leader_changed(leader, term.0, is_me),
            Output::ConfChanged(conf) => {
                self.state.view.conf = conf;
                self.look(self.parts.clock.now());
            }
            Output::PurgeWanted { below } => drop(self.parts.flush.send(ToFlush::Purge(below.0))),
            Output::KeptReleased { kept_after, purged } => {
                self.parts.metrics.kept_log_released.inc();
                tracing::warn!(node = %self.parts.me, kept_after = kept_after.0, purged = purged.0,
                    "the disk is nearly full: log kept for members that lag is purged, they will take a snapshot");
            }
            Output::Fatal(error) => self.parts.lifecycle.fail(format!("raft stopped: {error}")),
            Output::Wake(at) => self.state.wake = at,
        }
    }

    fn committed(&mut self, entries: Vec<CommittedEntry>) {
        let leading = self.node.is_leader().then_some(self.state.view.term);
        let mut work = Vec::with_capacity(entries.len());
        for entry in entries {
            if self.state.first_own.is_none() && leading == Some(entry.term.0) {
                self.state.first_own = Some(entry.index.0);
            }
            let waiting = entry.token.and_then(|token| self.state.waiting.remove(&token));
            let waiting = match waiting {
                Some(Token::Proposal(waiting)) => Some(waiting),
                _ => None,
            };
            if let EntryKind::Membership { change, .. } = &entry.kind {
                self.parts.members.take_change(change);
            }
            work.push((entry, waiting));
        }
        let _ = self.parts.apply.send(ToApply::Entries(work));
    }

    fn leader_changed(&mut self, leader: Option<NodeId>, term: u64, is_me: bool) {
        let state = &mut self.state;
        if state.view.leader != leader {
            tracing::info!(node = %self.parts.me, leader = leader.map_or(0, |leader| leader.0), term, "leader changed");
        }
        state.view.leader = leader;
        state.view.term = term;
        state.view.office = None;
        state.clock = None;
        state.first_own = None;
        state.synced.clear();
        state.heard.clear();
        if !is_me {
            state.view.members.clear();
            for (_, reply) in state.early.drain(..) {
                let _ = reply.send(Err(DropReason::NotLeader { leader }));
            }
        }
        self.publish();
    }

    fn after_round(&mut self, now: Monotonic) {
        let short = self.node.log_is_short();
        if self.parts.log_short.swap(short, Ordering::Relaxed) != short {
            tracing::warn!(node = %self.parts.me, short, "the log finds no space");
        }
        if self.node.is_leader() {
            self.begin_office(now);
            if now.since(self.state.looked) >= VIEW_INTERVAL {
                self.look(now);
            }
        } else if self.state.view.needs_snapshot != self.node.needs_snapshot() {
            self.look(now);
        }
        if !self.state.synced.is_empty() {
            let node = &self.node;
            self.state.synced.retain_mut(|wait| {
                let synced = wait.domains.count(node.synced_voters(wait.index.into()));
                let done = synced >= wait.need;
                if done {
                    let (unused, _) = oneshot::channel();
                    let _ = std::mem::replace(&mut wait.reply, unused).send(synced);
                }
                !done && !wait.reply.is_closed()
            });
        }
    }

    /// The office begins when everything of earlier terms is applied here: only then are log time, the floor and
    /// the id counters those that every entry before has left.
    fn begin_office(&mut self, now: Monotonic) {
        if self.state.clock.is_some() || !self.node.leads_surely() {
            return;
        }
        if self
            .state
            .first_own
            .is_none_or(|first| self.state.applied.index < first)
        {
            return;
        }
        self.state.clock = Some(LogTime::resume(
            self.state.applied.time,
            now,
            self.parts.clock.wall(),
        ));
        self.state.view.office = Some(self.state.view.term);
        self.state.view.first_chunk = self.state.applied.next_chunk;
        self.look(now);
        let early: Vec<_> = self.state.early.drain(..).collect();
        let mut inputs = Vec::new();
        for (command, reply) in early {
            self.propose(command, reply, &mut inputs);
        }
        self.state.due = inputs;
    }

    fn look(&mut self, now: Monotonic) {
        self.state.looked = now;
        let status = self.node.status();
        self.state.view.members = status.members;
        // Raft forgets who is active with every election timeout, until the next answer: that is no failure.
        for member in &mut self.state.view.members {
            if member.recent_active {
                self.state.heard.insert(member.id, now);
            }
            let heard = self.state.heard.get(&member.id);
            member.recent_active = heard.is_some_and(|heard| now.since(*heard) < ALIVE);
        }
        self.state.view.needs_snapshot = status.needs_snapshot;
        self.parts
            .metrics
            .log_held_bytes
            .set(self.node.held_log_bytes() as i64);
        self.publish();
    }

    fn publish(&self) {
        let next = &self.state.view;
        self.parts.view.send_if_modified(|view| {
            let changed = view != next;
            if changed {
                view.clone_from(next);
            }
            changed
        });
    }
}
