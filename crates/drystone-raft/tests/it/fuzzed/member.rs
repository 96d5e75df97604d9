//! A member whose disk work, applying and snapshots are done at once.

use bytes::Bytes;
use drystone_env::sim::SimDisk;
use drystone_env::{BufferPool, Monotonic, SeededRng};
use drystone_proto::raft::RaftMessage;
use drystone_raft::{
    CommittedEntry, EntryKind, Input, OpenError, Opened, Output, RaftConfig, RaftNode, SnapshotTransfer,
    Start,
};
use drystone_types::{BootId, LogIndex, NodeId};
use drystone_wal::WalConfig;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub const ME: NodeId = NodeId(1);
/// A lot of rounds for one input: a member that goes on and on is a finding.
const MOST_ROUNDS: u32 = 2_000;

/// Segments of eight blocks, so that a small log has several.
pub fn log_config() -> WalConfig {
    WalConfig {
        directory: "raft".into(),
        identity: 0xd57,
        segment_bytes: 8 * 4096,
        batch_bytes: 4 * 4096,
        ..WalConfig::default()
    }
}

pub fn pool() -> BufferPool {
    BufferPool::new(1 << 20)
}

/// What an entry is, whoever tells it: its term and its command.
pub type Told = (u64, Option<Bytes>);

pub struct Member {
    pub disk: SimDisk,
    pub node: RaftNode,
    pub now: u64,
    /// Entries delivered since it was opened.
    pub delivered: BTreeMap<u64, Told>,
    /// Where delivery stands.
    pub last: u64,
    /// Messages that have left.
    pub sent: Vec<RaftMessage>,
    pub failed: bool,
}

pub fn told(entry: &CommittedEntry) -> Told {
    let command = match &entry.kind {
        EntryKind::Command(data) => Some(data.clone()),
        _ => None,
    };
    (entry.term.0, command)
}

impl Member {
    pub fn open(disk: &SimDisk, start: Start, applied: u64) -> Result<(Self, Opened), OpenError> {
        let boot = BootId {
            counter: 1,
            random: 1,
        };
        let mut config = RaftConfig::new(ME, boot, start, LogIndex(applied), log_config());
        config.log_memory_bytes = 64 << 10;
        config.max_message_bytes = 4 << 10;
        config.max_unapplied_entries = 64;
        let disk = disk.clone();
        let (node, opened) = RaftNode::open(Arc::new(disk.clone()), config, SeededRng::new(3), pool())?;
        let member = Self {
            disk,
            node,
            now: 0,
            delivered: BTreeMap::new(),
            last: applied.max(if opened.needs_snapshot { 0 } else { opened.purged.0 }),
            sent: Vec::new(),
            failed: false,
        };
        Ok((member, opened))
    }

    /// Gives the input and does all that follows from it.
    pub fn give(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut rounds = 0;
        while let Some(input) = inputs.pop_front() {
            rounds += 1;
            assert!(rounds < MOST_ROUNDS, "there is no end to it");
            self.now += 10;
            let mut out = Vec::new();
            self.node.on(Monotonic(self.now), input, &mut out);
            for output in out {
                self.carry_out(output, &mut inputs);
            }
        }
    }

    fn carry_out(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Io(request) => inputs.push_back(Input::Io(request.execute(&pool()))),
            Output::Committed(entries) => {
                for entry in &entries {
                    assert_eq!(entry.index.0, self.last + 1, "entries come in order, each once");
                    self.last = entry.index.0;
                    self.delivered.insert(self.last, told(entry));
                }
                inputs.push_back(Input::Applied {
                    index: LogIndex(self.last),
                });
            }
            Output::MakeSnapshot { .. } => inputs.push_back(Input::SnapshotMade {
                index: LogIndex(self.last),
                id: "made".into(),
            }),
            Output::SendSnapshot { to, .. } => inputs.push_back(Input::SnapshotSent {
                to,
                result: SnapshotTransfer::Taken,
            }),
            Output::InstallSnapshot { meta } => {
                self.last = meta.index.0;
                inputs.push_back(Input::SnapshotInstalled { index: meta.index });
            }
            Output::PurgeWanted { below } => inputs.push_back(Input::Purge { below }),
            Output::Send { messages, .. } => self.sent.extend(messages),
            Output::Fatal(_) => self.failed = true,
            _ => {}
        }
    }

    /// Lets so many ticks pass.
    pub fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += 25_000;
            self.give(Input::Tick);
        }
    }
}
