//! A leader for tests, whose raft thread and apply thread are the test.

use crate::config::Config;
use crate::leader::office::Leader;
use crate::leader::tasks::parts::TaskParts;
use crate::lifecycle::Lifecycle;
use crate::membership::join::Membership;
use crate::membership::members::Members;
use crate::membership::processes::Processes;
use crate::message::{Applied, ProposalReply, RaftView, ToRaft};
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use crate::raft::reads::ReadQueue;
use crate::state::cell::StateWriter;
use crate::state::readers::Readers;
use crate::state::stores::{StateMachine, StateStore, settings_of};
use bytes::Bytes;
use drystone_env::{BufferPool, Env};
use drystone_identity::{Identity, Role};
use drystone_namespace::{MemoryStore, OrderedStore};
use drystone_proto::command::{
    AllocateRange, Command, Content, Entry, Initialize, NewChunk, NewExtent, Op, Outcome, Publish, Receipt,
    RegisterNode, Target,
};
use drystone_proto::grant::{ClusterKey, sign_receipt};
use drystone_proto::record::{DiskRecord, NodeRecord, PolicyRecord, ReplicaRecord, role};
use drystone_rpc::{ChannelOptions, Channels};
use drystone_types::{BootId, ClientId, ClusterId, HistoryId, Incarnation, LogIndex, NodeId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

fn identity() -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        history: HistoryId([7; 16]),
        key: ClusterKey([3; 32]),
        node: NodeId(1),
        node_incarnation: Incarnation(1),
        role: Role::Metadata,
        disk: None,
        voters: Vec::new(),
        joining: false,
        name: "one".to_owned(),
    }
}

/// See the module. Its namespace has a root; it leads in term 1.
pub(crate) struct Rig {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) parts: Arc<TaskParts>,
    pub(crate) state: StateWriter,
    pub(crate) inbox: UnboundedReceiver<ToRaft>,
    pub(crate) view: watch::Sender<RaftView>,
}

/// A command as an entry of the cluster itself.
fn entry(op: Op) -> Entry {
    Entry {
        time: 1,
        origin: None,
        command: Some(Command { op: Some(op) }),
        wall: 1,
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(MemoryStore::default()))
    }

    pub(crate) fn over(store: Arc<dyn OrderedStore>) -> Self {
        let env = Env::os();
        let (sender, inbox) = unbounded_channel();
        let view = watch::Sender::new(RaftView {
            office: Some(1),
            ..RaftView::default()
        });
        let boot = BootId {
            counter: 1,
            random: 1,
        };
        let config = Arc::new(Config::new(PathBuf::new(), "127.0.0.1:1".parse().unwrap()));
        let lifecycle = Arc::new(Lifecycle::new(NodeId(1), Arc::clone(&env.spawn), || ()));
        let machine = StateMachine::open(Arc::new(StateStore(store)), settings_of(&identity())).unwrap();
        let state = StateWriter::new(machine, Arc::clone(&lifecycle));
        let metrics = Metrics::registered().0;
        let raft = RaftHandle::new(
            sender,
            view.subscribe(),
            Arc::new(ReadQueue::default()),
            metrics.clone(),
        );
        let leader = Arc::new(Leader::new(
            &env,
            boot,
            Arc::clone(&config),
            identity(),
            raft.clone(),
            state.reader(),
        ));
        let processes = Processes::new(NodeId(1), boot, 1);
        let members = Members::new(Arc::clone(&env.clock), Arc::clone(&lifecycle), processes);
        let membership = Membership::new(
            Arc::clone(&env.clock),
            raft.clone(),
            state.reader(),
            Arc::clone(&leader),
            Arc::new(members),
        );
        let parts = TaskParts {
            me: NodeId(1),
            clock: Arc::clone(&env.clock),
            config,
            raft,
            state: state.reader(),
            readers: Readers::for_control(&lifecycle),
            leader,
            membership: Arc::new(membership),
            lifecycle: Arc::clone(&lifecycle),
            channels: Channels::new(
                env.clone(),
                ChannelOptions::new(BufferPool::new(1 << 20), ClientId([1; 16])),
            ),
            address: "127.0.0.1:1".to_owned(),
            metrics,
        };
        let rig = Self {
            lifecycle,
            parts: Arc::new(parts),
            state,
            inbox,
            view,
        };
        let policy = PolicyRecord {
            replicas: 1,
            chunk_bytes: 64 << 20,
            ..PolicyRecord::default()
        };
        let initialize = Initialize {
            policy: Some(policy),
            owner: "root".to_owned(),
            mode: 0,
        };
        rig.apply(Op::Initialize(initialize));
        rig
    }

    /// Applies a command as the next entry of the log.
    pub(crate) fn apply(&self, op: Op) -> Applied {
        let mut state = self.state.write();
        let index = state.applied().0 + 1;
        let outcome = state.apply(LogIndex(index), &entry(op)).unwrap();
        Applied {
            index,
            outcome,
            took: Duration::ZERO,
        }
    }

    /// Registers a chunk server with one disk, whose id is ten times the server's, of which the leader knows that it does
    /// not answer.
    pub(crate) fn enlist_silent(&self, id: u64) {
        let node = NodeRecord {
            id,
            incarnation: 1,
            roles: role::CHUNK,
            name: format!("chunk-{id}"),
            disks: vec![DiskRecord {
                id: id * 10,
                incarnation: 7,
                ..DiskRecord::default()
            }],
            boot_counter: 1,
            ..NodeRecord::default()
        };
        self.apply(Op::RegisterNode(RegisterNode { node: Some(node) }));
        let leader = &self.parts.leader;
        leader.with(|office| office.servers.note_unreachable(id));
    }

    /// Publishes a file of 5,000 bytes in a chunk whose only replica is on the disk of that server.
    pub(crate) fn publish_on(&self, server: u64) -> Outcome {
        let range = self.apply(Op::AllocateRange(AllocateRange { count: 1 }));
        let chunk = range.outcome.first_chunk;
        let mut receipt = Receipt {
            chunk,
            epoch: 1,
            length: 5_000,
            checksum: 7,
            replica: Some(ReplicaRecord {
                disk: server * 10,
                incarnation: 7,
                placement: range.index,
            }),
            signature: Bytes::new(),
        };
        sign_receipt(&identity().key, identity().history, &mut receipt);
        let content = Content {
            inline: None,
            extents: vec![NewExtent {
                length: 5_000,
                chunk,
                chunk_offset: 0,
            }],
            chunks: vec![NewChunk {
                chunk,
                receipts: vec![receipt],
                policy: None,
            }],
        };
        let target = Target {
            base: 0,
            path: format!("/{chunk}"),
        };
        let publish = Publish {
            target: Some(target),
            content: Some(content),
            ..Publish::default()
        };
        self.apply(Op::Publish(publish)).outcome
    }

    /// The next proposal, to be answered.
    pub(crate) async fn proposal(&mut self) -> (Op, ProposalReply) {
        loop {
            let message = self.inbox.recv().await.expect("somebody may propose");
            if let ToRaft::Propose { command, reply } = message {
                return (command.op().clone(), reply);
            }
        }
    }
}
