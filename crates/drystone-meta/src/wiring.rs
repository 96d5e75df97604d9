//! The parts of a server are made, each with what it needs, and its threads and tasks are started.

use crate::config::Config;
use crate::leader::office::Leader;
use crate::leader::tasks::parts::TaskParts;
use crate::leader::tasks::start;
use crate::lifecycle::Lifecycle;
use crate::lone::export_schedule::ExportParts;
use crate::membership::introduce::{Introduction, own_record};
use crate::membership::join::Membership;
use crate::membership::members::Members;
use crate::membership::ping::Pings;
use crate::membership::processes::{Process, Processes};
use crate::message::{AppliedState, RaftView, ToApply, ToFlush, ToRaft};
use crate::metrics::Metrics;
use crate::opening::OpenedDirectory;
use crate::raft::disk_io::{self, Lanes};
use crate::raft::drive::{Driver, DriverParts};
use crate::raft::handle::RaftHandle;
use crate::raft::reads::ReadQueue;
use crate::raft::transport::Transport;
use crate::service::abandon::Abandonments;
use crate::service::admin::Admin;
use crate::service::chunk_server::ChunkServers;
use crate::service::dispatch::MetaService;
use crate::service::grant::Grants;
use crate::service::lookup::Lookups;
use crate::service::mutate::Mutations;
use crate::service::remove_server::Removals;
use crate::service::router::{Router, SOFTWARE};
use crate::state::apply::Applier;
use crate::state::cell::{StateReader, StateWriter};
use crate::state::flush::{self, FlushParts};
use crate::state::readers::Readers;
use crate::state::snapshot::receive::{Incoming, receive};
use crate::state::snapshot::{SnapshotParts, Snapshots};
use drystone_env::{BufferPool, Env, Rng};
use drystone_identity::Identity;
use drystone_proto::record::NodeRecord;
use drystone_raft::Input;
use drystone_rpc::{ChannelOptions, Channels, ServerIdentity};
use drystone_types::{BootId, ClientId};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{mpsc, watch};

/// Parts of snapshots that have come and wait to be written: what one sender has under way, twice.
const SNAPSHOT_PARTS: usize = 16;

/// The parts that more than one other part works with. Only this file has them together.
pub(crate) struct Wiring {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) members: Arc<Members>,
    pub(crate) channels: Channels,
    pub(crate) registry: Registry,
    transport: Arc<Transport>,
    snapshot_parts: mpsc::Sender<Incoming>,
    disk_full: Arc<AtomicBool>,
    log_full: Arc<AtomicBool>,
    memory_full: Arc<AtomicBool>,
    log_short: Arc<AtomicBool>,
    metrics: Metrics,
    /// This server as a node of the cluster.
    record: NodeRecord,
}

/// The event loops' inboxes, which each of them will own, and the ways to them.
struct Inboxes {
    raft: UnboundedReceiver<ToRaft>,
    apply: UnboundedReceiver<ToApply>,
    flush: UnboundedReceiver<ToFlush>,
    to_raft: UnboundedSender<ToRaft>,
    to_apply: UnboundedSender<ToApply>,
    to_flush: UnboundedSender<ToFlush>,
}

impl Inboxes {
    fn new() -> Self {
        let (to_raft, raft) = unbounded_channel();
        let (to_apply, apply) = unbounded_channel();
        let (to_flush, flush) = unbounded_channel();
        Self {
            raft,
            apply,
            flush,
            to_raft,
            to_apply,
            to_flush,
        }
    }
}

fn channels(env: &Env, identity: &Identity, boot: BootId, pool: &BufferPool) -> Channels {
    let mut client = [0; 16];
    env.rng(&format!("client {}", boot.random)).fill(&mut client);
    let options = ChannelOptions {
        cluster: Some(identity.cluster),
        history: Some(identity.history),
        node: identity.node,
        incarnation: identity.node_incarnation,
        roles: drystone_proto::record::role::METADATA,
        software: SOFTWARE.to_owned(),
        ..ChannelOptions::new(pool.clone(), ClientId(client))
    };
    Channels::new(env.clone(), options)
}

/// Makes the parts that run without being asked, and starts their threads. The server is reached at `address`. The
/// directory's lock is left in `opened`.
pub(crate) fn start_threads(
    env: Env,
    config: Config,
    address: String,
    opened: OpenedDirectory,
    pool: BufferPool,
) -> Wiring {
    let OpenedDirectory {
        directory,
        identity,
        boot,
        log,
        state,
        node,
        opened,
    } = opened;
    let me = identity.node;
    let config = Arc::new(config);
    let (metrics, registry) = Metrics::registered();
    let channels = channels(&env, &identity, boot, &pool);
    let inboxes = Inboxes::new();
    let (to_raft, to_flush) = (inboxes.to_raft.clone(), inboxes.to_flush.clone());
    let end_loops = move || {
        // Lost when they have ended.
        let _ = to_raft.send(ToRaft::Stop);
        let _ = to_flush.send(ToFlush::Stop);
    };
    let lifecycle = Arc::new(Lifecycle::new(me, Arc::clone(&env.spawn), end_loops));
    let processes = Processes::new(me, boot, log);
    let members = Arc::new(Members::new(
        Arc::clone(&env.clock),
        Arc::clone(&lifecycle),
        processes,
    ));
    for (node, address) in &identity.voters {
        members.peers().learn(*node, address);
    }
    members.peers().learn(me, &address);
    let applied = AppliedState::of(&state);
    let writer = StateWriter::new(state, Arc::clone(&lifecycle));
    let reader = writer.reader();
    let view = watch::Sender::new(RaftView::default());
    let reads = Arc::new(ReadQueue::default());
    let to_raft = inboxes.to_raft.clone();
    let raft = RaftHandle::new(
        to_raft.clone(),
        view.subscribe(),
        Arc::clone(&reads),
        metrics.clone(),
    );
    let transport = Arc::new(Transport::new(
        channels.clone(),
        Arc::clone(&members),
        reader.clone(),
        Process::new(boot, log, address.clone()),
        to_raft.clone(),
        metrics.clone(),
    ));
    let snapshots = Arc::new(Snapshots::new(SnapshotParts {
        env: env.clone(),
        identity: identity.clone(),
        boot,
        lifecycle: Arc::clone(&lifecycle),
        disk: Arc::clone(&directory.disk),
        stores: Arc::clone(&directory.states),
        channels: channels.clone(),
        members: Arc::clone(&members),
        raft: raft.clone(),
    }));
    members.take_records(reader.read().nodes());
    let lanes = Lanes {
        writes: disk_io::start(&lifecycle, to_raft.clone(), "meta-log", pool.clone()),
        creations: disk_io::start(&lifecycle, to_raft.clone(), "meta-log-new", pool),
    };
    let applier = Applier {
        me,
        clock: Arc::clone(&env.clock),
        lifecycle: Arc::clone(&lifecycle),
        state: writer.clone(),
        stores: directory.states,
        snapshots: Arc::clone(&snapshots),
        members: Arc::clone(&members),
        raft: to_raft,
        flush: inboxes.to_flush.clone(),
        overlay_limit: config.overlay_limit(),
        metrics: metrics.clone(),
    };
    lifecycle.thread("meta-apply", applier.run(inboxes.apply));
    let (snapshot_parts, parts_inbox) = mpsc::channel(SNAPSHOT_PARTS);
    lifecycle.background("meta-receive", receive(Arc::clone(&snapshots), parts_inbox));
    let disk_full = Arc::new(AtomicBool::new(false));
    let log_full = Arc::new(AtomicBool::new(false));
    let memory_full = Arc::new(AtomicBool::new(false));
    let log_short = Arc::new(AtomicBool::new(false));
    let flush_parts = FlushParts {
        me,
        clock: Arc::clone(&env.clock),
        lifecycle: Arc::clone(&lifecycle),
        state: writer,
        disk: Arc::clone(&directory.disk),
        raft: raft.clone(),
        snapshots: Arc::clone(&snapshots),
        exports: ExportParts {
            identity: identity.clone(),
            clock: Arc::clone(&env.clock),
            lifecycle: Arc::clone(&lifecycle),
            disk: directory.disk,
            flush: inboxes.to_flush.clone(),
            metrics: metrics.clone(),
        },
        disk_full: Arc::clone(&disk_full),
        log_full: Arc::clone(&log_full),
        memory_full: Arc::clone(&memory_full),
        config: Arc::clone(&config),
        metrics: metrics.clone(),
    };
    let flushing = flush::run(flush_parts, inboxes.flush, opened.purged);
    lifecycle.thread("meta-flush", flushing);
    let parts = DriverParts {
        me,
        clock: Arc::clone(&env.clock),
        lifecycle: Arc::clone(&lifecycle),
        members: Arc::clone(&members),
        transport: Arc::clone(&transport),
        snapshots: Arc::clone(&snapshots),
        reads,
        view,
        apply: inboxes.to_apply,
        flush: inboxes.to_flush,
        lanes,
        log_short: Arc::clone(&log_short),
        metrics: metrics.clone(),
    };
    let driver = Driver::new(parts, node, inboxes.raft, applied);
    lifecycle.thread("meta-raft", driver.run());
    if identity.voters.len() == 1 && !identity.joining {
        // Nobody else could win: no need to wait for an election timeout.
        raft.input(Input::Campaign);
    }
    let record = own_record(&identity, &config, &address, boot, log);
    Wiring {
        env,
        config,
        identity,
        boot,
        lifecycle,
        raft,
        state: reader,
        members,
        channels,
        registry,
        transport,
        snapshot_parts,
        disk_full,
        log_full,
        memory_full,
        log_short,
        metrics,
        record,
    }
}

/// What runs beside the threads, until [`start_tasks`] starts it.
pub(crate) struct Tasks {
    introduction: Introduction,
    pings: Pings,
    leader: TaskParts,
}

/// Makes the parts that answer requests, and those that a leader works with.
pub(crate) fn make_service(wiring: &Wiring) -> (Arc<MetaService>, Tasks) {
    let Wiring {
        config,
        identity,
        lifecycle,
        raft,
        state,
        members,
        metrics,
        ..
    } = wiring;
    let clock = &wiring.env.clock;
    let client_reads = Readers::for_clients(lifecycle);
    let control_reads = Readers::for_control(lifecycle);
    let leader = Arc::new(Leader::new(
        &wiring.env,
        wiring.boot,
        Arc::clone(config),
        identity.clone(),
        raft.clone(),
        state.clone(),
    ));
    let membership = Arc::new(Membership::new(
        Arc::clone(clock),
        raft.clone(),
        state.clone(),
        Arc::clone(&leader),
        Arc::clone(members),
    ));
    let router = Arc::new(Router {
        me: identity.node,
        clock: Arc::clone(clock),
        raft: raft.clone(),
        state: state.clone(),
        members: Arc::clone(members),
        channels: wiring.channels.clone(),
        metrics: metrics.clone(),
    });
    let service = MetaService {
        identity: ServerIdentity {
            cluster: identity.cluster,
            history: identity.history,
            node: identity.node,
            incarnation: identity.node_incarnation,
            software: SOFTWARE.to_owned(),
        },
        lifecycle: Arc::clone(lifecycle),
        router: Arc::clone(&router),
        state: state.clone(),
        members: Arc::clone(members),
        transport: Arc::clone(&wiring.transport),
        snapshot_parts: wiring.snapshot_parts.clone(),
        lookups: Lookups {
            clock: Arc::clone(clock),
            router: Arc::clone(&router),
            raft: raft.clone(),
            state: state.clone(),
            leader: Arc::clone(&leader),
            readers: client_reads,
            metrics: metrics.clone(),
        },
        mutations: Mutations {
            clock: Arc::clone(clock),
            config: Arc::clone(config),
            raft: raft.clone(),
            state: state.clone(),
            leader: Arc::clone(&leader),
            disk_full: Arc::clone(&wiring.disk_full),
            log_full: Arc::clone(&wiring.log_full),
            memory_full: Arc::clone(&wiring.memory_full),
            log_short: Arc::clone(&wiring.log_short),
        },
        grants: Grants {
            clock: Arc::clone(clock),
            config: Arc::clone(config),
            identity: identity.clone(),
            state: state.clone(),
            leader: Arc::clone(&leader),
            metrics: metrics.clone(),
            disk_full: Arc::clone(&wiring.disk_full),
        },
        abandonments: Abandonments {
            clock: Arc::clone(clock),
            identity: identity.clone(),
            raft: raft.clone(),
            leader: Arc::clone(&leader),
        },
        chunk_servers: ChunkServers {
            clock: Arc::clone(clock),
            config: Arc::clone(config),
            raft: raft.clone(),
            state: state.clone(),
            leader: Arc::clone(&leader),
            readers: control_reads.clone(),
        },
        membership: Arc::clone(&membership),
        admin: Admin {
            clock: Arc::clone(clock),
            config: Arc::clone(config),
            identity: identity.clone(),
            router,
            raft: raft.clone(),
            state: state.clone(),
            readers: control_reads.clone(),
            leader: Arc::clone(&leader),
            members: Arc::clone(members),
            membership: Arc::clone(&membership),
            removals: Arc::new(Removals {
                clock: Arc::clone(clock),
                config: Arc::clone(config),
                state: state.clone(),
                readers: control_reads.clone(),
                leader: Arc::clone(&leader),
                membership: Arc::clone(&membership),
                one: tokio::sync::Mutex::default(),
            }),
            lifecycle: Arc::clone(lifecycle),
            disk_full: Arc::clone(&wiring.disk_full),
            log_full: Arc::clone(&wiring.log_full),
            memory_full: Arc::clone(&wiring.memory_full),
            log_short: Arc::clone(&wiring.log_short),
        },
    };
    let tasks = Tasks {
        introduction: Introduction {
            clock: Arc::clone(clock),
            lifecycle: Arc::clone(lifecycle),
            raft: raft.clone(),
            members: Arc::clone(members),
            membership: Arc::clone(&membership),
            channels: wiring.channels.clone(),
            record: wiring.record.clone(),
            joining: identity.joining,
            join: config.join.clone(),
        },
        pings: Pings {
            me: identity.node,
            clock: Arc::clone(clock),
            lifecycle: Arc::clone(lifecycle),
            raft: raft.clone(),
            members: Arc::clone(members),
            channels: wiring.channels.clone(),
        },
        leader: TaskParts {
            me: identity.node,
            clock: Arc::clone(clock),
            config: Arc::clone(config),
            raft: raft.clone(),
            state: state.clone(),
            readers: control_reads,
            leader,
            membership,
            lifecycle: Arc::clone(lifecycle),
            channels: wiring.channels.clone(),
            address: wiring.record.address.clone(),
            metrics: metrics.clone(),
        },
    };
    (Arc::new(service), tasks)
}

/// Starts the background tasks.
pub(crate) fn start_tasks(lifecycle: &Lifecycle, tasks: Tasks) {
    lifecycle.spawn("meta-introduce", tasks.introduction.run());
    lifecycle.spawn("meta-ping", tasks.pings.run());
    start::start(lifecycle, Arc::new(tasks.leader));
}
