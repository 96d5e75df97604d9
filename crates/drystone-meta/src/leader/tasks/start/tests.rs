use super::*;
use crate::config::Config;
use crate::leader::office::Leader;
use crate::membership::join::Membership;
use crate::membership::members::Members;
use crate::membership::processes::Processes;
use crate::message::{RaftView, ToRaft};
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use crate::raft::reads::ReadQueue;
use crate::state::cell::StateWriter;
use crate::state::readers::Readers;
use crate::state::stores::{StateMachine, StateStore, settings_of};
use drystone_env::{BufferPool, Env};
use drystone_identity::{Identity, Role};
use drystone_namespace::MemoryStore;
use drystone_proto::command::{Command, Entry, Initialize, Op};
use drystone_proto::grant::ClusterKey;
use drystone_proto::record::{ChunkRecord, PlacedReplica, PlacementState, PolicyRecord, ReplicaRecord};
use drystone_rpc::{ChannelOptions, Channels};
use drystone_types::{BootId, ClientId, ClusterId, HistoryId, Incarnation, NodeId};
use std::collections::BTreeSet;
use std::path::PathBuf;
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

/// A namespace with a root.
fn initialized() -> StateMachine {
    let store = Arc::new(StateStore(Arc::new(MemoryStore::default())));
    let mut state = StateMachine::open(store, settings_of(&identity())).unwrap();
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
    let command = Some(Command {
        op: Some(Op::Initialize(initialize)),
    });
    let entry = Entry {
        time: 1,
        origin: None,
        command,
        wall: 1,
    };
    state.apply(1.into(), &entry).unwrap();
    state
}

/// A leader whose raft thread is the test.
struct Rig {
    lifecycle: Lifecycle,
    parts: TaskParts,
    inbox: UnboundedReceiver<ToRaft>,
    _view: watch::Sender<RaftView>,
}

fn rig() -> Rig {
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
    let new_lifecycle = || Lifecycle::new(NodeId(1), Arc::clone(&env.spawn), || ());
    let (shared_lifecycle, task_lifecycle) = (Arc::new(new_lifecycle()), Arc::new(new_lifecycle()));
    let state = StateWriter::new(initialized(), Arc::clone(&shared_lifecycle)).reader();
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
        state.clone(),
    ));
    let processes = Processes::new(NodeId(1), boot, 1);
    let members = Arc::new(Members::new(Arc::clone(&env.clock), shared_lifecycle, processes));
    let membership = Membership::new(
        Arc::clone(&env.clock),
        raft.clone(),
        state.clone(),
        Arc::clone(&leader),
        members,
    );
    Rig {
        lifecycle: new_lifecycle(),
        parts: TaskParts {
            me: NodeId(1),
            clock: Arc::clone(&env.clock),
            config,
            raft,
            state,
            readers: Readers::for_control(&task_lifecycle),
            leader,
            membership: Arc::new(membership),
            lifecycle: task_lifecycle,
            channels: Channels::new(
                env.clone(),
                ChannelOptions::new(BufferPool::new(1 << 20), ClientId([1; 16])),
            ),
            address: "127.0.0.1:1".to_owned(),
            metrics,
        },
        inbox,
        _view: view,
    }
}

#[tokio::test]
async fn a_proposal_that_is_never_answered_delays_no_other_task() {
    let mut rig = rig();
    let chunk = ChunkRecord {
        id: 5,
        replicas: vec![PlacedReplica::new(
            ReplicaRecord::default(),
            PlacementState::Verified,
        )],
        ..ChunkRecord::default()
    };
    // Its disk is gone: there is a deletion to log from the beginning.
    let leader = Arc::clone(&rig.parts.leader);
    leader.with(|office| office.reclaim.doom(&[chunk], |_, _| false));
    let clock = Arc::clone(&rig.parts.clock);
    start(&rig.lifecycle, rig.parts);
    let (mut unanswered, mut proposed) = (Vec::new(), BTreeSet::new());
    while proposed.len() < 2 {
        let patience = clock.now().plus(Duration::from_secs(20));
        let message = clock.until(patience, rig.inbox.recv()).await;
        let message = message.expect("another task proposes").unwrap();
        if let ToRaft::Propose { command, reply } = message {
            unanswered.push(reply);
            proposed.insert(match command.op() {
                Op::ForgetReplicas(_) => "forget",
                Op::Housekeep(_) => "housekeep",
                other => panic!("nothing else is due: {other:?}"),
            });
        }
    }
    rig.lifecycle.stop();
}
