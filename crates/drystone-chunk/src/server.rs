//! Puts a chunk server together: directories, stores, listener, registration; and takes it apart again.

use crate::chain::append::Appends;
use crate::chain::chains::Chains;
use crate::changes::ChangeLog;
use crate::config::Config;
use crate::disk::directory::{self, DataDirectory};
use crate::disk::disks::Disks;
use crate::disk::open::open_disks;
use crate::disk::runner::CLOSING;
use crate::error::{StartError, StopError, StopReason};
use crate::grants::GrantFloor;
use crate::member::{AskedReports, LeaderContact, Member, MemberParts};
use crate::memory::budget::Budget;
use crate::memory::cache::Cache;
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::refusals::Refusals;
use crate::service::{ChunkService, Copies, Reads, Replicas};
use crate::signatures::Signatures;
use crate::standing::{ServerState, Standing};
use drystone_env::{BufferPool, Clock, Env, Rng};
use drystone_identity::Identity;
use drystone_rpc::{ChannelOptions, Channels, ServerHandle, ServerIdentity, ServerOptions, serve};
use drystone_types::{BootId, ClientId, DiskRef, NodeId};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// State of one disk of a running server.
#[derive(Clone, PartialEq, Debug)]
pub struct DiskReport {
    /// The data directory.
    pub path: String,
    /// Which disk it is, if that could be read.
    pub disk: Option<DiskRef>,
    /// Why it is not used; empty when it is.
    pub fault: String,
}

/// A chunk server.
pub struct ChunkServer;

impl ChunkServer {
    /// Starts a chunk server on `directories` (each formatted, see `drystone_identity`): recovers every disk, in
    /// parallel, listens, and begins to register with the metadata leader in the background. A disk that cannot
    /// be opened, or does not answer for ten seconds, is left out and reported. [`Config::data`] is not looked at.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(
        env: Env,
        config: Config,
        directories: Vec<DataDirectory>,
    ) -> Result<Handle, StartError> {
        config.validate()?;
        let opened = directory::open(&env, directories).await?;
        // Unused buffers are kept for what is in flight and for what the disks write beside it.
        let pool = BufferPool::new(config.in_flight.0.min(256 << 20) as usize);
        let (identity, boot) = (opened.identity.clone(), opened.boot);
        // Before the disks are opened: nothing has to be undone if the address is taken.
        let listener = env.net.bind(config.listen).await;
        let listener = listener.map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let (disks, faults) = open_disks(&env, &config, opened, &pool).await?;
        for fault in &faults {
            tracing::error!(path = %fault.path, reason = %fault.reason, "a disk is left out");
        }
        let address = listener.address();
        let told = config.advertise.clone().unwrap_or_else(|| address.to_string());
        let channels = Channels::new(env.clone(), channel_options(&env, &identity, &pool));
        let disks = Arc::new(Disks::new(disks, faults));
        let parts = Parts::new(&env, &config, &identity, disks, channels);
        let service = Arc::new(parts.service(&identity));
        let rpc = serve(env.clone(), listener, service, ServerOptions::new(pool));
        tracing::info!(node = identity.node.0, %address, disks = parts.disks.served().len(), "chunk server started");
        let handle = Handle {
            node: identity.node,
            address,
            clock: Arc::clone(&env.clock),
            disks: Arc::clone(&parts.disks),
            contact: Arc::clone(&parts.contact),
            standing: Arc::clone(&parts.standing),
            metrics: Arc::clone(&parts.metrics),
        };
        let member = parts.member(&config, &identity, boot, &told);
        supervise(&env, identity.node, parts, member, rpc);
        Ok(handle)
    }

    /// [`ChunkServer::start`] on the directories in [`Config::data`], locked. One that does not answer for ten seconds, as
    /// on a mount whose server is away, is left out and reported.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_configured(env: Env, config: Config) -> Result<Handle, StartError> {
        config.validate()?;
        let (directories, faults) = directory::lock_all(&env, &config.data).await;
        if directories.is_empty() {
            return Err(StartError::NoDisk(faults));
        }
        for fault in &faults {
            tracing::error!(path = %fault.path, reason = %fault.reason, "a disk is left out");
        }
        Self::start(env, config, directories).await
    }
}

/// The parts of one server that more than one of its tasks use.
struct Parts {
    env: Env,
    disks: Arc<Disks>,
    channels: Channels,
    chains: Arc<Chains>,
    floor: Arc<GrantFloor>,
    changes: Arc<ChangeLog>,
    cache: Arc<Cache>,
    from_clients: Budget,
    signatures: Arc<Signatures>,
    metrics: Arc<Metrics>,
    refusals: Refusals,
    orders: Arc<Orders>,
    contact: Arc<LeaderContact>,
    asked: Arc<AskedReports>,
    standing: Arc<Standing>,
}

impl Parts {
    fn new(env: &Env, config: &Config, identity: &Identity, disks: Arc<Disks>, channels: Channels) -> Self {
        let signatures = Arc::new(Signatures::new(identity));
        let metrics = Arc::new(Metrics::new());
        let refusals = Refusals::new(Arc::clone(&metrics), Arc::clone(&signatures));
        let changes = Arc::new(ChangeLog::new());
        let cache = Arc::new(Cache::new(config.cache_bytes()));
        let orders = Arc::new(Orders {
            clock: Arc::clone(&env.clock),
            disks: Arc::clone(&disks),
            cache: Arc::clone(&cache),
            changes: Arc::clone(&changes),
            signatures: Arc::clone(&signatures),
            metrics: Arc::clone(&metrics),
            refusals: refusals.clone(),
        });
        Self {
            env: env.clone(),
            disks,
            chains: Arc::new(Chains::new(channels.clone(), Arc::clone(&signatures))),
            channels,
            floor: Arc::default(),
            changes,
            cache,
            from_clients: Budget::new(config.in_flight.0 / 2),
            signatures,
            metrics,
            refusals,
            orders,
            contact: Arc::default(),
            asked: Arc::default(),
            standing: Arc::default(),
        }
    }

    fn service(&self, identity: &Identity) -> ChunkService {
        let clock = || Arc::clone(&self.env.clock);
        let (disks, floor) = (|| Arc::clone(&self.disks), || Arc::clone(&self.floor));
        let (changes, metrics) = (|| Arc::clone(&self.changes), || Arc::clone(&self.metrics));
        let signatures = || Arc::clone(&self.signatures);
        ChunkService {
            identity: ServerIdentity {
                cluster: identity.cluster,
                history: identity.history,
                node: identity.node,
                incarnation: identity.node_incarnation,
                software: crate::SOFTWARE.into(),
            },
            appends: Arc::new(Appends {
                clock: clock(),
                disks: disks(),
                chains: Arc::clone(&self.chains),
                floor: floor(),
                changes: changes(),
                signatures: signatures(),
                metrics: metrics(),
                refusals: self.refusals.clone(),
                from_clients: self.from_clients.clone(),
                next_frame: AtomicU64::new(0),
            }),
            reads: Arc::new(Reads {
                disks: disks(),
                cache: Arc::clone(&self.cache),
                metrics: metrics(),
                refusals: self.refusals.clone(),
            }),
            replicas: Arc::new(Replicas {
                clock: clock(),
                disks: disks(),
                floor: floor(),
                changes: changes(),
                signatures: signatures(),
                metrics: metrics(),
                orders: Arc::clone(&self.orders),
            }),
            copies: Arc::new(Copies {
                clock: clock(),
                disks: disks(),
                channels: self.channels.clone(),
                floor: floor(),
                signatures: signatures(),
            }),
            asked: Arc::clone(&self.asked),
            refusals: self.refusals.clone(),
        }
    }

    fn member(&self, config: &Config, identity: &Identity, boot: BootId, address: &str) -> Member {
        let parts = MemberParts {
            env: self.env.clone(),
            channels: self.channels.clone(),
            disks: Arc::clone(&self.disks),
            chains: Arc::clone(&self.chains),
            changes: Arc::clone(&self.changes),
            floor: Arc::clone(&self.floor),
            orders: Arc::clone(&self.orders),
            contact: Arc::clone(&self.contact),
            standing: Arc::clone(&self.standing),
            metrics: Arc::clone(&self.metrics),
            cache: Arc::clone(&self.cache),
            from_clients: self.from_clients.clone(),
            asked: Arc::clone(&self.asked),
        };
        Member::new(parts, config, identity, boot, address)
    }
}

fn channel_options(env: &Env, identity: &Identity, pool: &BufferPool) -> ChannelOptions {
    let mut client = [0; 16];
    env.rng(&format!("chunk-client-{}", identity.node))
        .fill(&mut client);
    let mut options = ChannelOptions::new(pool.clone(), ClientId(client));
    options.cluster = Some(identity.cluster);
    options.history = Some(identity.history);
    options.node = identity.node;
    options.incarnation = identity.node_incarnation;
    options.roles = drystone_proto::record::role::CHUNK;
    options.software = crate::SOFTWARE.into();
    options
}

/// Keeps up membership, and takes the server apart when it is to stop.
fn supervise(env: &Env, node: NodeId, parts: Parts, member: Member, rpc: ServerHandle) {
    let task = async move {
        let standing = &parts.standing;
        let stranger = tokio::select! {
            biased;
            _ = standing.wait(|state| state.stopped.is_some()) => None,
            reason = member.run() => Some(reason),
        };
        if let Some(reason) = stranger {
            tracing::error!(node = node.0, %reason, "the chunk server stops");
            standing.stop(reason);
        }
        rpc.shutdown();
        parts.channels.close();
        let closing = (parts.disks.served().values())
            .map(|disk| async move { (&disk.runner.path, disk.runner.close().await) });
        let closed = join_all(closing).await;
        let mut hanging = Vec::new();
        for (path, _) in closed.into_iter().filter(|(_, is_done)| !is_done) {
            tracing::error!(
                node = node.0,
                path,
                "a disk does not finish its work: it stays locked until it has"
            );
            hanging.push(path.clone());
        }
        standing.ended(hanging);
        tracing::info!(node = node.0, "chunk server stopped");
    };
    env.spawn.spawn("chunk-server", Box::pin(task));
}

/// A running chunk server. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    node: NodeId,
    address: SocketAddr,
    clock: Arc<dyn Clock>,
    disks: Arc<Disks>,
    contact: Arc<LeaderContact>,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its id in the cluster.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// True once a metadata leader has taken its registration and while heartbeats are answered (none for ten
    /// intervals: false): `/readyz`.
    pub fn ready(&self) -> bool {
        let state = self.standing.now();
        state.registered && state.stopped.is_none() && self.contact.is_alive(self.clock.now())
    }

    /// Completes when it is registered for the first time.
    ///
    /// # Errors
    /// The reason, if it stopped.
    pub async fn registered(&self) -> Result<(), StopReason> {
        let is_decided = |state: &ServerState| state.registered || state.stopped.is_some();
        self.standing.wait(is_decided).await.stopped.map_or(Ok(()), Err)
    }

    /// Each disk that was given: those that are served, then those that are not.
    pub fn disks(&self) -> Vec<DiskReport> {
        let served = self.disks.served().values().map(|entry| DiskReport {
            path: entry.runner.path.clone(),
            disk: Some(entry.runner.me),
            fault: if entry.runner.is_closed() {
                "it is not served any more".into()
            } else {
                String::new()
            },
        });
        let faulty = self.disks.faults().iter();
        let faulty = faulty.map(|fault| DiskReport {
            path: fault.path.clone(),
            disk: None,
            fault: fault.reason.clone(),
        });
        served.chain(faulty).collect()
    }

    /// Its metrics in the OpenMetrics text format, for `/metrics`.
    pub fn metrics(&self) -> String {
        self.metrics.text()
    }

    /// Completes when it has stopped serving, with the reason.
    pub async fn stopped(&self) -> StopReason {
        let state = self.standing.wait(|state| state.ended.is_some()).await;
        state.stopped.unwrap_or(StopReason::Asked)
    }

    /// Stops it: no new request is taken, disks finish what they do, directories are unlocked. Completes when
    /// all of that is done.
    ///
    /// # Errors
    /// A disk has not finished within ten seconds.
    pub async fn shutdown(&self) -> Result<(), StopError> {
        self.standing.stop(StopReason::Asked);
        let state = self.standing.wait(|state| state.ended.is_some()).await;
        match state.ended.unwrap_or_default() {
            disks if disks.is_empty() => Ok(()),
            disks => Err(StopError {
                node: self.node,
                disks,
                patience: CLOSING,
            }),
        }
    }
}
