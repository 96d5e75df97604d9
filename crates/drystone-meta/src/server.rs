//! Start and stop of a metadata server, and the handle that the process keeps.

use crate::config::Config;
use crate::error::StartError;
use crate::layout;
use crate::leader::tasks;
use crate::lone::{rebuild, recover};
use crate::membership::join::awaits_vote;
use crate::membership::peers::Peers;
use crate::membership::processes::{Process, Processes};
use crate::message::{AppliedState, RaftView, ToFlush, ToRaft};
use crate::metrics::Metrics;
use crate::raft::disk_io;
use crate::raft::drive::Driver;
use crate::raft::reads::ReadQueue;
use crate::raft::transport::Transport;
use crate::service::{MetaService, WireService};
use crate::shared::{Shared, StateMachine, Threads, lock};
use crate::state::applied::AppliedIndex;
use crate::state::snapshot::receive::receive;
use crate::state::snapshot::{Snapshots, settings_of};
use crate::state::stores::{FjallStates, OpenFailure, StateStore, States};
use crate::state::{apply, flush};
use drystone_env::os::{OsDisk, lock_directory};
use drystone_env::{BufferPool, Disk, Env, Rng};
use drystone_identity::{Identity, Role};
use drystone_namespace::{Namespace, OpenError as NamespaceError, OrderedStore, StoreError};
use drystone_raft::{Input, OpenError, Opened, RaftConfig, RaftNode, Start};
use drystone_rpc::{ChannelOptions, Channels, ServerHandle, ServerOptions, serve};
use drystone_types::{BootId, ClientId, ClusterId, HistoryId, NodeId};
use drystone_wal::WalConfig;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::sync::mpsc::{channel, unbounded_channel};
use tokio::sync::{oneshot, watch};

/// Unused buffers kept: some batches of the log and some bulk frames.
const POOL_BYTES: usize = 64 << 20;
/// Parts of snapshots that have come and wait to be written: what one sender has under way, twice.
const SNAPSHOT_PARTS: usize = 16;
/// How long a shutdown tries to hand leadership over.
const HAND_OVER: Duration = Duration::from_secs(1);

/// How long a stop waits for the last tasks to notice it; they hold no more than memory then.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// A metadata server; see [`MetadataServer::start`].
pub struct MetadataServer(());

/// What a metadata server lives in.
pub struct MetadataDirectory {
    /// For people.
    pub name: String,
    /// Identity, log, snapshots and exports.
    pub disk: Arc<dyn Disk>,
    /// The state.
    pub states: Arc<dyn States>,
    /// What keeps others out while the server runs, if anything; dropped when it has stopped.
    pub lock: Option<Box<dyn Send + Sync>>,
}

impl MetadataDirectory {
    /// The directory at `path` of the real file system, locked.
    fn open(path: &Path, cache_bytes: u64) -> Result<Self, StartError> {
        let refuse = |reason: String| StartError::Directory {
            directory: path.to_owned(),
            reason,
        };
        if !path.is_dir() {
            return Err(refuse("does not exist: run `drystone format`".to_owned()));
        }
        let lock = lock_directory(path).map_err(|error| refuse(error.to_string()))?;
        let disk = OsDisk::new(path).map_err(|error| refuse(error.to_string()))?;
        if recover::is_interrupted(path) {
            return Err(refuse(format!(
                "its recovery was interrupted: run `drystone admin recover --data {}` again",
                path.display()
            )));
        }
        Ok(Self {
            name: path.display().to_string(),
            disk: Arc::new(disk),
            states: Arc::new(FjallStates::new(path, cache_bytes)),
            lock: Some(Box::new(lock)),
        })
    }
}

struct OpenedDirectory {
    directory: MetadataDirectory,
    identity: Identity,
    boot: BootId,
    /// Number of its log.
    log: u64,
    state: StateMachine,
    node: RaftNode,
    opened: Opened,
}

impl MetadataServer {
    /// Starts the server on the formatted directory `config.data`, which stays locked until the handle is shut
    /// down or dropped. Returns once it listens; see [`Handle::ready`] for when a leader is known.
    ///
    /// Cancellation: dropping the future leaves nothing running once the runtime has dropped its tasks.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(env: Env, config: Config) -> Result<Handle, StartError> {
        config.validate()?;
        let directory = MetadataDirectory::open(&config.data, config.store_cache.0)?;
        Self::start_on(env, config, directory).await
    }

    /// [`MetadataServer::start`] on an open directory; `config.data` is only a name then.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start_on(
        env: Env,
        config: Config,
        directory: MetadataDirectory,
    ) -> Result<Handle, StartError> {
        config.validate()?;
        let pool = BufferPool::new(POOL_BYTES);
        let (reply, answer) = oneshot::channel();
        let (inner, settings, buffers) = (env.clone(), config.clone(), pool.clone());
        let opening = async move { drop(reply.send(open(&inner, &settings, directory, buffers))) };
        env.spawn.thread("meta-open", Box::pin(opening));
        let opened_directory = answer
            .await
            .map_err(|_| StartError::Store("opening panicked".to_owned()))??;
        let listen_error = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = env.net.bind(config.listen).await.map_err(listen_error)?;
        let address = listener.address();
        let advertised = config.advertise.clone().unwrap_or_else(|| address.to_string());
        tracing::info!(node = %opened_directory.identity.node, %address, boot = opened_directory.boot.counter, applied = opened_directory.state.applied().0,
            log_last = opened_directory.opened.last.0, "metadata server starts");
        let (shared, registry) = run(env.clone(), config, advertised, opened_directory, pool.clone());
        let (shared, directory_lock) = shared;
        let service = Arc::new(MetaService::new(Arc::clone(&shared)));
        let front = Arc::new(WireService(Arc::clone(&service)));
        let server = serve(env, listener, front, ServerOptions::new(pool));
        tasks::start(&shared, &service);
        Ok(Handle {
            shared,
            server: Some(server),
            registry: Arc::new(Mutex::new(registry)),
            address,
            _directory_lock: directory_lock,
        })
    }
}

/// Everything that blocks: identity, state, log.
fn open(
    env: &Env,
    config: &Config,
    directory: MetadataDirectory,
    pool: BufferPool,
) -> Result<OpenedDirectory, StartError> {
    let refuse = |reason: String| StartError::Directory {
        directory: config.data.clone(),
        reason,
    };
    let disk = Arc::clone(&directory.disk);
    let identity = drystone_identity::load(&*disk).map_err(|error| refuse(error.to_string()))?;
    if identity.role != Role::Metadata {
        return Err(refuse(format!(
            "was formatted for role {:?}, not for a metadata server",
            identity.role
        )));
    }
    let boot =
        drystone_identity::boot(&*disk, &mut env.rng("boot")).map_err(|error| refuse(error.to_string()))?;
    layout::prepare(&*disk).map_err(|error| refuse(error.to_string()))?;
    let (state, damage) = open_state(&directory, &identity)?;
    let begun = layout::begun(&*disk).map_err(|error| refuse(error.to_string()))?;
    let raft = raft_config(config, &identity, boot, begun.is_some(), &state);
    let rng = env.rng(&format!("raft {} {}", identity.node, boot.random));
    let (node, opened) = RaftNode::open(Arc::clone(&disk), raft, rng, pool).map_err(|error| match error {
        OpenError::StateBehindLog { .. } => {
            let reason = damage.clone().unwrap_or_else(|| error.to_string());
            StartError::StateDamaged {
                directory: config.data.clone(),
                reason,
            }
        }
        OpenError::Log(_)
        | OpenError::Record { .. }
        | OpenError::NoLog { .. }
        | OpenError::LogBehindState { .. }
        | OpenError::OfAnother { .. } => StartError::LogDamaged {
            directory: config.data.clone(),
            reason: error.to_string(),
        },
        other => StartError::Raft(other.to_string()),
    })?;
    let log = begun.unwrap_or_else(|| env.rng(&format!("log {}", boot.random)).next_u64());
    layout::set_begun(&*disk, log).map_err(|error| refuse(error.to_string()))?;
    if let Some(torn) = &opened.torn {
        tracing::warn!(node = %identity.node, file = torn.file, offset = torn.offset, reason = torn.reason, "log: torn tail cut");
    }
    // A damaged one is kept until another holds all that it held.
    if damage.is_none() || !opened.needs_snapshot {
        (directory.states.remove_old()).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(OpenedDirectory {
        directory,
        identity,
        boot,
        log,
        state,
        node,
        opened,
    })
}

/// The state that counts. If it is damaged, that of an export or an empty one, and what was wrong: the log or a
/// snapshot fills it.
fn open_state(
    directory: &MetadataDirectory,
    identity: &Identity,
) -> Result<(StateMachine, Option<String>), StartError> {
    let refused = |failure: OpenFailure| StartError::Store(failure.reason);
    let attempt = |store: Arc<dyn OrderedStore>| -> Result<StateMachine, OpenFailure> {
        Namespace::open(Arc::new(StateStore(store)), settings_of(identity)).map_err(|error| OpenFailure {
            damage: matches!(
                error,
                NamespaceError::Hole { .. }
                    | NamespaceError::Unfinished
                    | NamespaceError::Store(StoreError::Corrupt { .. })
            ),
            reason: error.to_string(),
        })
    };
    let reason = match directory.states.open().and_then(attempt) {
        Ok(state) => return Ok((state, None)),
        Err(failure) if !failure.damage => return Err(refused(failure)),
        Err(failure) => failure.reason,
    };
    tracing::error!(node = %identity.node, reason, "the state store is damaged; it is set aside");
    let rebuilt = rebuild::from_exports(&*directory.states, &*directory.disk, identity);
    if let Some((state, export)) = rebuilt.map_err(StartError::Store)? {
        tracing::warn!(node = %identity.node, export = export.applied.0,
            "the state is rebuilt from an export; the log since is applied to it");
        return Ok((state, Some(reason)));
    }
    let state = directory.states.abandon().and_then(attempt).map_err(refused)?;
    Ok((state, Some(reason)))
}

fn raft_config(
    config: &Config,
    identity: &Identity,
    boot: BootId,
    begun: bool,
    state: &StateMachine,
) -> RaftConfig {
    let start = match (begun, identity.joining) {
        (true, _) => Start::Existing,
        (false, true) => Start::Join,
        (false, false) => Start::FirstBoot {
            voters: identity.voters.iter().map(|(node, _)| *node).collect(),
        },
    };
    let segment = config.log_segment.0;
    let wal = WalConfig {
        directory: layout::LOG.to_owned(),
        identity: log_identity(identity),
        segment_bytes: segment,
        batch_bytes: config.log_batch(),
        ..WalConfig::default()
    };
    RaftConfig {
        tick: config.raft_tick / 2,
        ..RaftConfig::new(identity.node, boot, start, state.applied(), wal)
    }
}

/// What is stamped into every batch of the log.
pub(crate) fn log_identity(identity: &Identity) -> u64 {
    identity.node_incarnation.0 ^ identity.node.0.rotate_left(32)
}

type Lock = Option<Box<dyn Send + Sync>>;
type Running = ((Arc<Shared>, Lock), Registry);

/// Starts the threads.
fn run(
    env: Env,
    config: Config,
    address: String,
    opened_directory: OpenedDirectory,
    pool: BufferPool,
) -> Running {
    let OpenedDirectory {
        directory,
        identity,
        boot,
        log,
        state,
        node,
        opened,
    } = opened_directory;
    let (metrics, registry) = Metrics::registered();
    let mut client = [0; 16];
    env.rng(&format!("client {}", boot.random)).fill(&mut client);
    let channels = Channels::new(
        env.clone(),
        ChannelOptions {
            cluster: Some(identity.cluster),
            history: Some(identity.history),
            node: identity.node,
            incarnation: identity.node_incarnation,
            software: crate::service::SOFTWARE.to_owned(),
            ..ChannelOptions::new(pool.clone(), ClientId(client))
        },
    );
    let peers = Arc::new(Peers::default());
    for (node, address) in &identity.voters {
        peers.learn(*node, address);
    }
    peers.learn(identity.node, &address);
    let (to_raft, raft_inbox) = unbounded_channel();
    let (to_apply, apply_inbox) = unbounded_channel();
    let (to_flush, flush_inbox) = unbounded_channel();
    let (snapshot_parts, parts) = channel(SNAPSHOT_PARTS);
    let applied = AppliedState::of(&state);
    let alone = identity.voters.len() == 1 && !identity.joining;
    let shared = Arc::new(Shared {
        transport: Transport::new(
            channels.clone(),
            Arc::clone(&peers),
            metrics.clone(),
            Process::new(boot, log, address.clone()),
        ),
        processes: Processes::new(identity.node, boot, log),
        env,
        config,
        identity,
        boot,
        log,
        address,
        disk: directory.disk,
        states: directory.states,
        channels,
        peers,
        reads: ReadQueue::default(),
        applied: AppliedIndex::default(),
        view: watch::Sender::new(RaftView::default()),
        snapshots: Snapshots::default(),
        snapshot_parts,
        metrics,
        stopped: watch::Sender::new(false),
        threads: Threads::default(),
        disk_full: AtomicBool::new(false),
        flushing: Mutex::new(()),
        state: RwLock::new(state),
        raft: to_raft,
        flush: to_flush.clone(),
        failure: Mutex::new(None),
    });
    shared.take_records(shared.read().nodes());
    shared.applied.publish(applied.index);
    let lanes = (
        disk_io::start(&shared, "meta-log", pool.clone()),
        disk_io::start(&shared, "meta-log-new", pool),
    );
    shared.thread("meta-apply", apply::run(Arc::clone(&shared), apply_inbox));
    shared.background("meta-receive", receive(Arc::clone(&shared), parts));
    shared.thread(
        "meta-flush",
        flush::run(Arc::clone(&shared), flush_inbox, opened.purged),
    );
    let driver = Driver::new(
        Arc::clone(&shared),
        node,
        raft_inbox,
        lanes,
        (to_apply, to_flush),
        applied,
    );
    shared.thread("meta-raft", driver.run());
    if alone {
        // Nobody else could win: no need to wait for an election timeout.
        shared.to_raft(ToRaft::Input(Input::Campaign));
    }
    ((shared, directory.lock), registry)
}

/// A running metadata server. Dropping it stops it as [`Handle::shutdown`] does, without waiting.
pub struct Handle {
    shared: Arc<Shared>,
    server: Option<ServerHandle>,
    registry: Arc<Mutex<Registry>>,
    address: SocketAddr,
    // Last: it is released when everything above is dropped.
    _directory_lock: Lock,
}

impl Handle {
    /// Where the wire listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.shared.identity.node
    }

    /// The cluster that it was formatted for.
    pub fn cluster(&self) -> ClusterId {
        self.shared.identity.cluster
    }

    /// The history that it serves.
    pub fn history(&self) -> HistoryId {
        self.shared.identity.history
    }

    /// True while a leader is known, this server holds a state that is not known to be incomplete, and it has not lost its
    /// vote by moving: the others would not do without it.
    pub fn is_ready(&self) -> bool {
        let view = self.shared.raft_view();
        if self.shared.is_stopped() || !is_ready(&view, self.node()) {
            return false;
        }
        let me = self.node().0;
        !(view.conf.learners.contains(&me) && self.shared.read().node(me).is_some_and(awaits_vote))
    }

    /// True while this server leads and takes commands.
    pub fn is_leader(&self) -> bool {
        !self.shared.is_stopped() && self.shared.office().is_some()
    }

    /// The leader, as far as this server knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.shared.view.borrow().leader
    }

    /// The log index applied here.
    pub fn applied(&self) -> u64 {
        self.shared.applied.applied()
    }

    /// Completes when [`Handle::is_ready`] first holds, or the server has ended (false).
    pub async fn ready(&self) -> bool {
        let (mut view, mut stopped) = (self.shared.view.subscribe(), self.shared.stopped.subscribe());
        let node = self.node();
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => false,
            ready = view.wait_for(|view| is_ready(view, node)) => ready.is_ok(),
        }
    }

    /// Why the server stopped by itself (a failed disk), if it did.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    /// [`Handle::stopped`], for those who do not keep the handle.
    pub fn watch_stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopped = self.shared.stopped.subscribe();
        async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    }

    /// The applied index and a hash over the whole state at it, for comparing voters; `None` if it cannot be read.
    /// Costs a scan of everything.
    pub fn state_hash(&self) -> Option<(u64, u64)> {
        let state = self.shared.read();
        Some((state.applied().0, state.state_hash().ok()?))
    }

    /// Completes when the server has stopped, by itself or by [`Handle::shutdown`].
    pub async fn stopped(&self) {
        let _ = self.shared.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Metrics, to be encoded by the admin port.
    pub fn registry(&self) -> Arc<Mutex<Registry>> {
        Arc::clone(&self.registry)
    }

    /// Stops: hands leadership over if it can within a second, flushes the state, ends every thread and unlocks
    /// the directory.
    pub async fn shutdown(self) {
        self.hand_over().await;
        self.end().await;
    }

    /// Stops without handing leadership over, as if the process had been asked to leave at once.
    pub async fn abandon(self) {
        self.end().await;
    }

    /// Returns when nothing of the server is left but this handle, so that the directory can be opened again.
    async fn end(mut self) {
        self.stop();
        self.server = None;
        self.shared.threads.ended().await;
        let clock = &self.shared.env.clock;
        let patience = clock.now().plus(LAST_TASKS);
        while Arc::strong_count(&self.shared) > 1 && clock.now() < patience {
            clock.sleep(Duration::from_millis(2)).await;
        }
    }

    async fn hand_over(&self) {
        let view = self.shared.raft_view();
        let best = view
            .members
            .iter()
            .filter(|member| member.voter && member.recent_active && member.id != self.node())
            .max_by_key(|member| member.matched);
        if let (Some(_), Some(best)) = (view.office, best) {
            self.shared.to_raft(ToRaft::Input(Input::TransferLeader(best.id)));
            let deadline = self.shared.env.clock.now().plus(HAND_OVER);
            let mut watch = self.shared.view.subscribe();
            let node = self.node();
            let clock = Arc::clone(&self.shared.env.clock);
            let _ = clock
                .until(
                    deadline,
                    watch.wait_for(|view| view.leader.is_some_and(|leader| leader != node)),
                )
                .await;
        }
    }

    fn stop(&self) {
        if let Some(server) = &self.server {
            server.shutdown();
        }
        self.shared.stopped.send_replace(true);
        self.shared.channels.close();
        self.shared.to_raft(ToRaft::Stop);
        self.shared.to_flush(ToFlush::Stop);
    }
}

fn is_ready(view: &RaftView, me: NodeId) -> bool {
    match view.leader {
        // Who is removed hears nothing more, not even who leads after that.
        _ if view.is_removed(me) => false,
        Some(leader) if leader == me => view.office.is_some(),
        Some(_) => !view.needs_snapshot,
        None => false,
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}
