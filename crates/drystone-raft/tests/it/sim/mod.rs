//! A group of members on simulated disks, network and time. One seed decides everything.

mod check;
mod client;
mod faults;
mod network;
mod shell;

use check::Oracle;
use client::Clients;
use drystone_env::{BufferPool, IoOp, IoRequest, Monotonic, Rng, SeededRng};
use drystone_proto::raft::RaftMessage;
use drystone_raft::{Input, SnapshotMeta};
use drystone_types::NodeId;
use network::Network;
use shell::Member;
use std::collections::BTreeMap;

pub use shell::{State, config, open_wiped};

/// Microseconds.
pub const MS: u64 = 1000;
pub const SECOND: u64 = 1_000_000;

/// What happens at a moment. Events of a boot that is over are void.
pub enum Event {
    Wake {
        to: u64,
        boot: u64,
        at: u64,
    },
    Io {
        to: u64,
        boot: u64,
        request: IoRequest,
    },
    Mail {
        from: u64,
        to: u64,
        messages: Vec<RaftMessage>,
    },
    Apply {
        to: u64,
        boot: u64,
    },
    MakeSnapshot {
        to: u64,
        boot: u64,
        /// As it was when it was asked for.
        state: State,
    },
    Streamed {
        from: u64,
        from_boot: u64,
        to: u64,
        term: u64,
        meta: SnapshotMeta,
        state: State,
    },
    Install {
        to: u64,
        boot: u64,
        index: u64,
    },
    Purge {
        to: u64,
        boot: u64,
        below: u64,
    },
    Start {
        to: u64,
    },
    Client,
    Fault,
}

/// What a run is made of.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub voters: u64,
    pub faults_until: u64,
    /// Replace a voter by a new member on the way.
    pub replace: bool,
    /// Digest everything that comes out (it costs more than the rest of the run).
    pub trace: bool,
}

pub struct Sim {
    pub plan: Plan,
    pub rng: SeededRng,
    pub now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub members: BTreeMap<u64, Member>,
    pub network: Network,
    pub oracle: Oracle,
    pub clients: Clients,
    pub pool: BufferPool,
    pub counts: BTreeMap<&'static str, u64>,
    /// Disks fail too.
    pub disk_faults: bool,
    /// How much longer it takes to make a snapshot, to stream it, and to install it.
    pub slow_snapshots: u64,
    catch_up: (u64, u64),
    next_snapshot: u64,
    snapshots: BTreeMap<u64, State>,
}

impl Sim {
    pub fn new(plan: Plan) -> Self {
        Self::keeping(plan, (64 << 10, 20))
    }

    /// A group whose members keep up to so many bytes of log for those that lag and were heard so many ticks ago.
    pub fn keeping(plan: Plan, catch_up: (u64, u64)) -> Self {
        let rng = SeededRng::new(plan.seed).split("group");
        let mut sim = Sim {
            plan,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            members: BTreeMap::new(),
            network: Network::default(),
            oracle: Oracle::default(),
            clients: Clients::default(),
            pool: BufferPool::new(1 << 20),
            counts: BTreeMap::new(),
            disk_faults: false,
            slow_snapshots: 0,
            catch_up,
            next_snapshot: 1,
            snapshots: BTreeMap::new(),
            rng,
        };
        let voters: Vec<NodeId> = (1..=plan.voters).map(NodeId).collect();
        for id in 1..=plan.voters {
            sim.add_member(
                id,
                drystone_raft::Start::FirstBoot {
                    voters: voters.clone(),
                },
            );
        }
        sim.at(10 * MS, Event::Client);
        sim.at(700 * MS, Event::Fault);
        sim
    }

    /// Counts something that must happen in some run.
    pub fn sometimes(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), event);
    }

    pub fn soon(&mut self, least: u64, most: u64, event: Event) {
        let after = least + self.rng.below(most - least + 1);
        self.at(self.now + after, event);
    }

    pub fn monotonic(&self) -> Monotonic {
        Monotonic(self.now)
    }

    /// Runs until `end`.
    pub fn run_until(&mut self, end: u64) {
        while let Some(((time, _), event)) = self.queue.pop_first() {
            if time > end {
                self.sequence += 1;
                self.queue.insert((time, self.sequence), event);
                break;
            }
            self.now = time;
            self.step(event);
        }
        self.now = end;
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Wake { to, boot, at } => {
                if self.is_up(to, boot) && self.members[&to].wake == at {
                    self.input(to, Input::Tick);
                }
            }
            Event::Io { to, boot, request } => {
                if self.is_up(to, boot) {
                    // A segment that cannot be made is tried again: nothing was promised with it.
                    let create = matches!(request.op, IoOp::Create { .. });
                    let completion = request.execute(&self.pool);
                    let failed = completion.result.is_err() && !create;
                    if completion.result.is_err() && create {
                        self.sometimes("no room for a segment");
                    }
                    self.input(to, Input::Io(completion));
                    assert!(
                        !failed || !self.is_up(to, boot),
                        "seed {}: member {to} at {} lives on after a failed disk operation",
                        self.plan.seed,
                        self.now
                    );
                }
            }
            Event::Mail { from, to, messages } => {
                if self.members.get(&to).is_some_and(|member| member.node.is_some())
                    && !self.network.is_cut(from, to)
                {
                    self.input(to, Input::Messages(messages));
                }
            }
            Event::Client => self.client(),
            Event::Fault => self.fault(),
            Event::Start { to } => self.start(to),
            event => self.shell_event(event),
        }
    }

    pub fn is_up(&self, id: u64, boot: u64) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.boot == boot && member.node.is_some())
    }

    /// Heals everything, lets the group settle and checks that it does.
    pub fn heal_and_check(&mut self) {
        self.heal();
        let end = self.now + 4 * SECOND;
        self.run_until(end);
        self.finish_replacement();
        self.clients.stopped = true;
        let end = self.now + 2 * SECOND;
        self.run_until(end);
        self.check_settled();
    }
}

/// A run with everything in it; the digest of all that happened.
pub fn run(plan: Plan) -> Sim {
    let mut sim = Sim::new(plan);
    sim.run_until(plan.faults_until);
    sim.heal_and_check();
    sim
}
