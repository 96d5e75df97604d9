//! One member of the group: the driver around raft-rs.
//!
//! Owns the order of things: time, inputs, what raft-rs makes of them, records to the log, messages that wait for
//! their sync, delivery. Read `open.rs`, then `drive.rs`, then the others by noun.

mod delivery;
mod drive;
mod inputs;
mod members;
mod open;
mod proposals;
mod reads;
mod snapshots;
mod view;

use crate::log::{LogStore, LogWriter};
use crate::{FatalError, Input, Output, RaftConfig};
use delivery::Delivery;
use drive::Outstanding;
use drystone_env::{IoRequest, Monotonic, Rng, SeededRng};
use drystone_proto::raft::{RaftHardState, RaftMessage};
use drystone_types::{LogIndex, NodeId, Term};
use drystone_wal::Lsn;
use proposals::Proposals;
use raft::{RawNode, StateRole};
use reads::Reads;
use snapshots::Snapshots;
use std::collections::{BTreeMap, VecDeque};

/// Ticks that are made up for when time has jumped: enough for a late call, too few to make a process that slept
/// campaign before it has read its mail.
const MAX_TICKS_AT_ONCE: u32 = 3;

/// One member of the group. See the crate's page for what it promises.
pub struct RaftNode {
    config: RaftConfig,
    raw: RawNode<LogStore>,
    log: LogWriter,
    rng: SeededRng,
    next_tick: Option<Monotonic>,
    ticks: u64,
    /// Our draw of the election timeout; raft-rs's own is overwritten after every call.
    election_timeout: usize,
    /// Term, role and leader after the last call.
    seen: (u64, StateRole, u64),
    /// Who was reported as leader, in which term.
    told: (Option<NodeId>, Term),
    /// What raft-rs has said last.
    hard: RaftHardState,
    /// What the log was told last.
    logged: RaftHardState,
    /// The last record that must be synced.
    urgent: Lsn,
    /// What raft-rs handed over and the log has not synced, in order.
    outstanding: VecDeque<Outstanding>,
    delivery: Delivery,
    snapshots: Snapshots,
    proposals: Proposals,
    reads: Reads,
    /// When a purge was asked for last, in ticks.
    purge_asked: Option<u64>,
    mail: BTreeMap<u64, Vec<RaftMessage>>,
    io: Vec<IoRequest>,
    out: Vec<Output>,
    failed: bool,
}

impl RaftNode {
    /// Takes one input; see [`RaftNode::on_batch`], which costs less for many.
    pub fn on(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        self.on_batch(now, [input], out);
    }

    /// Takes inputs in order and appends what follows from them to `out`.
    pub fn on_batch(
        &mut self,
        now: Monotonic,
        inputs: impl IntoIterator<Item = Input>,
        out: &mut Vec<Output>,
    ) {
        if self.failed {
            return;
        }
        if let Err(error) = self.try_batch(now, inputs) {
            tracing::error!(node = self.config.id.0, %error, "raft member stops");
            self.failed = true;
            // Whatever was about to leave stays: nothing is promised any more.
            self.mail.clear();
            self.io.clear();
            self.out.push(Output::Fatal(error));
        }
        out.append(&mut self.out);
    }

    fn try_batch(
        &mut self,
        now: Monotonic,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Result<(), FatalError> {
        let ticked = self.pass_time(now)?;
        for input in inputs {
            self.take_input(now, input)?;
        }
        self.drive()?;
        self.ask_for_purge();
        if ticked || self.log.next_wakeup().is_some_and(|at| at <= now) {
            self.log.tick(now, &mut self.io);
        } else {
            self.log.flush(now, &mut self.io);
        }
        for (to, messages) in std::mem::take(&mut self.mail) {
            self.out.push(Output::Send {
                to: NodeId(to),
                messages,
            });
        }
        self.out.extend(self.io.drain(..).map(Output::Io));
        let tick = self.next_tick.unwrap_or(now);
        // What is still due now waits for a completion, not for time.
        let wake = self
            .log
            .next_wakeup()
            .filter(|at| *at > now)
            .map_or(tick, |at| at.min(tick));
        self.out.push(Output::Wake(wake));
        Ok(())
    }

    // Runs the ticks that are due; true if there were any.
    fn pass_time(&mut self, now: Monotonic) -> Result<bool, FatalError> {
        let period = self.config.tick;
        let mut next = self.next_tick.unwrap_or(now.plus(period));
        let mut ran = 0;
        while now >= next && ran < MAX_TICKS_AT_ONCE {
            self.tick()?;
            next = next.plus(period);
            ran += 1;
        }
        if now >= next {
            next = now.plus(period);
        }
        self.next_tick = Some(next);
        Ok(ran > 0)
    }

    fn tick(&mut self) -> Result<(), FatalError> {
        self.ticks += 1;
        self.delivery.tick();
        // A member whose state lacks entries could not serve, one with unsynced entries could not win: it lets
        // time pass (so that it votes for others) and does not campaign.
        let log = &self.raw.raft.raft_log;
        // One that is behind in applying could not serve either: another voter may be better off. It waits for one
        // shortest timeout more than it drew, by when most others have campaigned; being late is better than not at
        // all. Drawn, so that two of them do not split the votes again and again.
        let patience = self.config.election_ticks as usize + self.election_timeout;
        let patient = self.raw.raft.election_elapsed < patience;
        let backlog = self.delivery.has_backlog() && patient;
        let waits = self.delivery.gap || log.persisted < log.last_index() || backlog;
        if waits && !self.is_leader() {
            self.raw.raft.election_elapsed += 1;
        } else {
            self.raw.tick();
            if self.raw.raft.election_elapsed == 0 && !self.is_leader() {
                self.draw_election_timeout();
            }
        }
        self.after_call();
        self.leave_joint_if_due()?;
        self.request_state_if_due();
        self.proposals.expire(self.ticks, &mut self.out);
        self.reads.tick(self.ticks, &mut self.out);
        // Ticks that are made up for are separate moments.
        self.drive()
    }

    fn draw_election_timeout(&mut self) {
        let least = self.config.election_ticks as usize;
        self.election_timeout = least + self.rng.below(least as u64) as usize;
    }

    // After every call into raft-rs that may change term, role or leader.
    fn after_call(&mut self) {
        let raft = &self.raw.raft;
        let (before, seen) = (self.seen, (raft.term, raft.state, raft.leader_id));
        if seen != before {
            self.seen = seen;
            self.draw_election_timeout();
            let was_leader = before.1 == StateRole::Leader;
            let same_reign = was_leader && seen == (before.0, StateRole::Leader, before.2);
            if was_leader && !same_reign {
                self.proposals.deposed(self.ticks);
                self.snapshots.deposed();
            }
            if (seen.0, seen.2) != (before.0, before.2) {
                self.reads.ask_again();
                self.tell_leader(seen);
            }
        }
        // raft-rs may have drawn one of its own from a generator that is not ours.
        self.raw
            .raft
            .set_randomized_election_timeout(self.election_timeout);
    }

    fn tell_leader(&mut self, (term, role, leader): (u64, StateRole, u64)) {
        let leader = (leader != 0).then_some(NodeId(leader));
        let term = Term(term);
        if self.told == (leader, term) || (leader.is_none() && self.told.0.is_none()) {
            return;
        }
        self.told = (leader, term);
        let is_me = role == StateRole::Leader;
        tracing::info!(
            node = self.config.id.0,
            leader = leader.map(|id| id.0),
            term = term.0,
            "leader changed"
        );
        self.out.push(Output::LeaderChanged { leader, term, is_me });
    }

    /// True if there is no other member.
    fn is_alone(&self) -> bool {
        let conf = self.raw.store().latest_conf();
        let others = [&conf.voters_outgoing, &conf.learners, &conf.learners_next];
        conf.voters == [self.config.id.0] && others.iter().all(|ids| ids.is_empty())
    }

    fn ask_for_purge(&mut self) {
        // While the bound is exceeded, once a second at most: the shell needs time to sync.
        const EVERY_TICKS: u64 = 40;
        if self.raw.store().bytes() > self.config.log_memory_bytes && self.is_alone() {
            // Nobody will ask for these entries: the disk keeps them for the state machine, memory need not.
            let keep = self.raw.store().purge_point(self.config.log_memory_bytes / 2).0;
            let applied = self.delivery.applied.min(self.raw.raft.raft_log.applied);
            self.raw.mut_store().forget(keep.saturating_sub(1).min(applied));
            return;
        }
        let store = self.raw.store();
        let recently = self
            .purge_asked
            .is_some_and(|asked| self.ticks < asked + EVERY_TICKS);
        if store.bytes() <= self.config.log_memory_bytes || recently {
            return;
        }
        let below = store
            .purge_point(self.config.log_memory_bytes / 2)
            .min(LogIndex(self.delivery.applied + 1))
            .min(LogIndex(self.kept_after().saturating_add(1)));
        if below.0 > store.base().0 + 1 {
            self.purge_asked = Some(self.ticks);
            self.out.push(Output::PurgeWanted { below });
        }
    }
}
