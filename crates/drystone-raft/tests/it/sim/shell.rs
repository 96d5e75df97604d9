//! What a metadata server does around its member: disk work, applying, snapshots, purging, restarting.

use super::{Event, MS, Sim};
use drystone_env::sim::SimDisk;
use drystone_env::{Rng, SeededRng};
use drystone_proto::raft::RaftConfState;
use drystone_raft::{
    CommittedEntry, EntryKind, FatalError, Input, OpenError, Output, RaftConfig, RaftNode, SnapshotMeta,
    SnapshotTransfer, Start,
};
use drystone_types::{BootId, LogIndex, NodeId, Term};
use drystone_wal::WalConfig;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A state machine: a register, and a digest of everything that was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    pub applied: u64,
    /// The log index of the register's value.
    pub written_at: u64,
    pub digest: u64,
}

impl State {
    pub const EMPTY: State = State {
        applied: 0,
        written_at: 0,
        digest: 0xcbf2_9ce4_8422_2325,
    };

    pub fn apply(&mut self, entry: &CommittedEntry) {
        match &entry.kind {
            EntryKind::Command(data) => self.apply_command(entry.index.0, Some(data)),
            _ => self.apply_command(entry.index.0, None),
        }
    }

    fn apply_command(&mut self, index: u64, command: Option<&[u8]>) {
        self.applied = index;
        if let Some(data) = command {
            self.written_at = index;
            for byte in data.iter().chain(&index.to_le_bytes()) {
                self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }
}

pub struct Member {
    pub disk: SimDisk,
    pub node: Option<RaftNode>,
    pub start: Start,
    pub boot: u64,
    pub wake: u64,
    pub state: State,
    /// What a crash leaves of it.
    pub synced: State,
    pub to_apply: VecDeque<CommittedEntry>,
    pub applying: bool,
    /// Received snapshots by index.
    pub received: BTreeMap<u64, State>,
    /// (token, index) of reads that wait for their index.
    pub reads: Vec<(u64, u64)>,
    /// Its store stands still: nothing is applied or installed.
    pub stalled: bool,
    /// A fault of its disk is armed.
    pub broken: bool,
    /// The membership that it has told.
    pub conf: RaftConfState,
}

pub fn config(id: u64, boot: u64, start: Start, applied: u64) -> RaftConfig {
    let log = WalConfig {
        directory: "raft".into(),
        identity: 0xd57 + id,
        segment_bytes: 64 << 10,
        batch_bytes: 16 << 10,
        ..WalConfig::default()
    };
    let boot = BootId {
        counter: boot,
        random: id * 1000 + boot,
    };
    let mut config = RaftConfig::new(NodeId(id), boot, start, LogIndex(applied), log);
    config.log_memory_bytes = 16 << 10;
    config.catch_up_ticks = 20;
    config.max_message_bytes = 2 << 10;
    config.max_committed_bytes = 1 << 10;
    config.max_uncommitted_bytes = 8 << 10;
    config.max_unapplied_bytes = 8 << 10;
    config.max_unapplied_entries = 64;
    config
}

impl Sim {
    pub fn add_member(&mut self, id: u64, start: Start) {
        let disk = SimDisk::new(self.rng.next_u64());
        let member = Member {
            disk,
            node: None,
            start,
            boot: 0,
            wake: 0,
            state: State::EMPTY,
            synced: State::EMPTY,
            to_apply: VecDeque::new(),
            applying: false,
            received: BTreeMap::new(),
            reads: Vec::new(),
            stalled: false,
            broken: false,
            conf: RaftConfState::default(),
        };
        self.members.insert(id, member);
        self.start(id);
    }

    pub fn start(&mut self, id: u64) {
        let seed = self.plan.seed;
        let now = self.now;
        let pool = self.pool.clone();
        let member = self.members.get_mut(&id).expect("a member");
        if member.node.is_some() {
            return;
        }
        member.boot += 1;
        member.broken = false;
        member.disk.disarm();
        member.disk.set_capacity(1 << 40);
        let mut config = config(id, member.boot, member.start.clone(), member.synced.applied);
        (config.catch_up_bytes, config.catch_up_ticks) = self.catch_up;
        let rng = SeededRng::new(seed ^ (id << 32) ^ member.boot).split("raft");
        member.state = member.synced;
        let (disk, mut given) = (Arc::new(member.disk.clone()), Vec::new());
        let mut apply = |entry| {
            given.push(entry);
            Ok(())
        };
        let (node, opened) = match RaftNode::open_applying(disk, config, rng, pool, &mut apply) {
            Ok(opened) => opened,
            Err(error) => panic!("seed {seed}: member {id} at {now}: {error}"),
        };
        // From now on it must have a log.
        member.start = Start::Existing;
        member.node = Some(node);
        if opened.torn.is_some() {
            self.sometimes("torn tail cut");
        }
        if opened.needs_snapshot {
            self.sometimes("opened without its state");
        }
        self.oracle.started(id, self.members[&id].state.applied);
        for entry in given {
            self.oracle.opened(seed, id, &entry);
            let command = entry.command.as_deref();
            self.member(id).state.apply_command(entry.index.0, command);
            self.sometimes("applied while it was opened");
        }
        assert_eq!(self.members[&id].state.applied, opened.applied.0);
        self.input(id, Input::Tick);
    }

    pub fn stop(&mut self, id: u64, power: bool) {
        let member = self.members.get_mut(&id).expect("a member");
        if member.node.take().is_none() {
            return;
        }
        if power {
            member.disk.crash();
        } else {
            member.disk.kill();
        }
        member.to_apply.clear();
        member.applying = false;
        member.received.clear();
        member.reads.clear();
        self.lose_tokens(id);
    }

    pub fn input(&mut self, id: u64, input: Input) {
        let now = self.monotonic();
        let Some(node) = self.members.get_mut(&id).and_then(|member| member.node.as_mut()) else {
            return;
        };
        let mut out = Vec::new();
        node.on(now, input, &mut out);
        self.check_end(id, &out);
        for output in out {
            self.output(id, output);
        }
        let member = &self.members[&id];
        if let Some(node) = member.node.as_ref().filter(|node| !node.has_failed()) {
            let (seed, conf) = (self.plan.seed, node.status().conf);
            assert_eq!(
                member.conf, conf,
                "seed {seed}: member {id} has told another membership"
            );
        }
    }

    fn output(&mut self, id: u64, output: Output) {
        if self.plan.trace {
            self.oracle.trace(self.now, id, &output);
        }
        let boot = self.members[&id].boot;
        match output {
            Output::Io(request) => {
                let slow = match () {
                    () if self.network.slow_disks.contains(&id) => 250 * MS,
                    () if self.rng.chance(1, 50) => 30 * MS,
                    () => MS,
                };
                self.soon(
                    50,
                    slow,
                    Event::Io {
                        to: id,
                        boot,
                        request,
                    },
                );
            }
            Output::Send { to, messages } => self.post(id, to.0, messages),
            Output::Committed(entries) => self.committed(id, entries),
            Output::ReadReady { token, index } => {
                self.member(id).reads.push((token, index.0));
                self.serve_reads(id);
            }
            Output::ReadFailed { token, .. } => self.read_failed(token),
            Output::ProposalDropped { token, reason } => self.dropped(token, reason),
            Output::MakeSnapshot { .. } => {
                let (to, state, slow) = (id, self.members[&id].state, self.slow_snapshots);
                self.soon(slow + MS, slow + 20 * MS, Event::MakeSnapshot { to, boot, state });
            }
            Output::SendSnapshot { to, term, meta } => self.stream(id, to.0, term.0, meta),
            Output::InstallSnapshot { meta } => {
                let event = Event::Install {
                    to: id,
                    boot,
                    index: meta.index.0,
                };
                let slow = self.slow_snapshots;
                self.soon(slow + MS, slow + 100 * MS, event);
            }
            Output::SnapshotIgnored { .. } => self.sometimes("snapshot ignored"),
            Output::LeaderChanged { term, is_me, .. } => {
                if is_me {
                    let last = self.members[&id]
                        .node
                        .as_ref()
                        .map_or(0, |node| node.status().last.0);
                    self.oracle.leads(self.plan.seed, id, term.0, last);
                    self.sometimes("leader elected");
                }
            }
            Output::ConfChanged(conf) => self.member(id).conf = conf,
            Output::PurgeWanted { below } => {
                self.soon(
                    MS,
                    50 * MS,
                    Event::Purge {
                        to: id,
                        boot,
                        below: below.0,
                    },
                );
            }
            Output::KeptReleased { .. } => self.sometimes("kept entries released"),
            Output::Fatal(error) => self.disk_failed(id, &error),
            Output::Wake(at) => {
                self.member(id).wake = at.0;
                self.at(
                    at.0,
                    Event::Wake {
                        to: id,
                        boot,
                        at: at.0,
                    },
                );
            }
        }
    }

    /// A member that stops lets nothing out with it that it had not promised before.
    fn check_end(&self, id: u64, out: &[Output]) {
        let Some(at) = out.iter().position(|output| matches!(output, Output::Fatal(_))) else {
            return;
        };
        let says = |output: &Output| matches!(output, Output::Send { .. } | Output::Io(_));
        let seed = self.plan.seed;
        assert_eq!(at + 1, out.len(), "seed {seed}: member {id} goes on: {out:?}");
        assert!(!out.iter().any(says), "seed {seed}: member {id} speaks: {out:?}");
    }

    fn disk_failed(&mut self, id: u64, error: &FatalError) {
        let (seed, now) = (self.plan.seed, self.now);
        let of_the_log = matches!(error, FatalError::Log(_) | FatalError::Append(_));
        assert!(
            self.members[&id].broken && of_the_log,
            "seed {seed}: member {id} at {now}: {error}"
        );
        let text = error.to_string();
        assert!(text.starts_with("raft log: "), "{text}");
        self.sometimes(match () {
            () if text.contains("os error 28") => "stopped by a full disk",
            () if text.contains("os error 5") => "stopped by a disk error",
            () => "stopped otherwise",
        });
        // Given anything more it says nothing.
        let mut out = Vec::new();
        let monotonic = self.monotonic();
        if let Some(node) = self.member(id).node.as_mut() {
            assert!(node.has_failed());
            let data = "x".into();
            node.on_batch(
                monotonic,
                [
                    Input::Tick,
                    Input::Propose {
                        token: u64::MAX,
                        data,
                    },
                ],
                &mut out,
            );
        }
        assert!(out.is_empty(), "seed {seed}: member {id} goes on: {out:?}");
        let power = self.rng.chance(1, 2);
        self.stop(id, power);
        self.soon(10 * MS, 900 * MS, Event::Start { to: id });
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a member")
    }

    fn committed(&mut self, id: u64, entries: Vec<CommittedEntry>) {
        for entry in entries {
            self.oracle.committed(self.plan.seed, id, &entry);
            if let Some(token) = entry.token {
                self.accepted(token, &entry);
            }
            self.member(id).to_apply.push_back(entry);
        }
        let boot = self.members[&id].boot;
        if !std::mem::replace(&mut self.member(id).applying, true) {
            self.soon(10, 3 * MS, Event::Apply { to: id, boot });
        }
    }

    pub fn shell_event(&mut self, event: Event) {
        match event {
            Event::Apply { to, boot } if self.is_up(to, boot) => self.apply(to),
            Event::MakeSnapshot { to, boot, state } if self.is_up(to, boot) => self.make_snapshot(to, state),
            Event::Install { to, boot, index } if self.is_up(to, boot) => self.install(to, index),
            Event::Purge { to, boot, below } if self.is_up(to, boot) => {
                let member = self.member(to);
                member.synced = member.state;
                let below = LogIndex(below.min(member.synced.applied + 1));
                self.sometimes("log purged");
                self.input(to, Input::Purge { below });
            }
            Event::Streamed {
                from,
                from_boot,
                to,
                term,
                meta,
                state,
            } => {
                let arrived = self.members.get(&to).is_some_and(|member| member.node.is_some())
                    && !self.network.is_cut(from, to);
                if arrived {
                    self.member(to).received.insert(meta.index.0, state);
                    let (from, term) = (NodeId(from), Term(term));
                    self.input(to, Input::SnapshotReceived { from, term, meta });
                }
                if self.is_up(from, from_boot) {
                    let result = match arrived {
                        true => SnapshotTransfer::Taken,
                        false if self.rng.chance(1, 2) => SnapshotTransfer::Broken,
                        false => SnapshotTransfer::Unusable,
                    };
                    self.input(
                        from,
                        Input::SnapshotSent {
                            to: NodeId(to),
                            result,
                        },
                    );
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, id: u64) {
        let boot = self.members[&id].boot;
        if self.members[&id].stalled {
            return self.soon(10 * MS, 10 * MS, Event::Apply { to: id, boot });
        }
        let member = self.member(id);
        member.applying = false;
        for entry in std::mem::take(&mut member.to_apply) {
            member.state.apply(&entry);
        }
        let state = member.state;
        if self.rng.chance(1, 20) {
            self.member(id).synced = state;
        }
        self.input(
            id,
            Input::Applied {
                index: LogIndex(state.applied),
            },
        );
        self.serve_reads(id);
    }

    fn make_snapshot(&mut self, id: u64, state: State) {
        if self.now < self.plan.faults_until && self.rng.chance(1, 5) {
            return self.input(id, Input::SnapshotNotMade);
        }
        self.next_snapshot += 1;
        let name = self.next_snapshot;
        self.snapshots.insert(name, state);
        self.sometimes("snapshot made");
        let made = Input::SnapshotMade {
            index: LogIndex(state.applied),
            id: name.to_le_bytes().to_vec().into(),
        };
        self.input(id, made);
    }

    fn stream(&mut self, from: u64, to: u64, term: u64, meta: SnapshotMeta) {
        let name = u64::from_le_bytes(meta.data[..].try_into().expect("our own name"));
        let state = self.snapshots[&name];
        assert_eq!(state.applied, meta.index.0);
        let from_boot = self.members[&from].boot;
        self.sometimes("snapshot sent");
        let slow = self.slow_snapshots;
        self.soon(
            slow + 5 * MS,
            slow + 200 * MS,
            Event::Streamed {
                from,
                from_boot,
                to,
                term,
                meta,
                state,
            },
        );
    }

    fn install(&mut self, id: u64, index: u64) {
        let boot = self.members[&id].boot;
        if self.members[&id].stalled {
            return self.soon(10 * MS, 10 * MS, Event::Install { to: id, boot, index });
        }
        if self.now < self.plan.faults_until && self.rng.chance(1, 4) {
            self.sometimes("snapshot not installed");
            self.member(id).received.remove(&index);
            let index = LogIndex(index);
            return self.input(id, Input::SnapshotNotInstalled { index });
        }
        let member = self.member(id);
        let state = member.received[&index];
        member.to_apply.clear();
        member.state = state;
        member.synced = state;
        self.oracle.started(id, state.applied);
        self.sometimes("snapshot installed");
        self.input(
            id,
            Input::SnapshotInstalled {
                index: LogIndex(index),
            },
        );
        self.serve_reads(id);
    }
}

/// Why a member that lost its log does not open.
pub fn open_wiped(sim: &Sim, id: u64) -> Result<(), OpenError> {
    let disk = SimDisk::new(1);
    let config = config(id, 9, Start::Existing, 0);
    RaftNode::open(Arc::new(disk), config, SeededRng::new(1), sim.pool.clone()).map(|_| ())
}
