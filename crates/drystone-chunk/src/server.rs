//! Puts a chunk server together: directories, stores, listener, registration; and takes it apart again.

use crate::config::Config;
use crate::disk::directory::{self, Crew, DataDirectory};
use crate::disk::runner::DiskRunner;
use crate::error::{DiskFault, StartError, StopReason};
use crate::member::Member;
use crate::node::{DiskEntry, Node, SharedNode, Standing};
use crate::service::ChunkService;
use drystone_env::{BufferPool, Env, Rng};
use drystone_rpc::{ChannelOptions, Channels, ServerHandle, ServerOptions, serve};
use drystone_store::Store;
use drystone_types::{ClientId, DiskRef, MAX_PAYLOAD_BYTES, NodeId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// be opened is left out and reported. [`Config::data`] is not looked at.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub async fn start(
        env: Env,
        config: Config,
        directories: Vec<DataDirectory>,
    ) -> Result<Handle, StartError> {
        config.validate()?;
        let crew = directory::muster(&env, directories).await?;
        // Unused buffers are kept for what is in flight and for what the disks write beside it.
        let pool = BufferPool::new(config.in_flight.0.min(256 << 20) as usize);
        let (identity, boot) = (crew.identity.clone(), crew.boot);
        // Before the disks are opened: nothing has to be undone if the address is taken.
        let listener = env.net.bind(config.listen).await;
        let listener = listener.map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let (disks, faults, locks) = open_disks(&env, &config, crew, &pool).await?;
        for fault in &faults {
            tracing::error!(path = %fault.path, reason = %fault.reason, "a disk is left out");
        }
        let address = listener.address();
        let told = config.advertise.clone().unwrap_or_else(|| address.to_string());
        let channels = Channels::new(env.clone(), channel_options(&env, &identity, &pool));
        let node = Arc::new(Node::new(
            env.clone(),
            config,
            identity,
            boot,
            told,
            disks,
            faults,
            channels,
        ));
        let service = Arc::new(ChunkService::new(Arc::clone(&node)));
        let rpc = serve(env.clone(), listener, service, ServerOptions::new(pool));
        tracing::info!(node = node.identity.node.0, %address, disks = node.disks.len(), "chunk server started");
        supervise(&env, &node, rpc, locks);
        Ok(Handle { node, address })
    }

    /// [`ChunkServer::start`] on the directories in [`Config::data`], locked.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_configured(env: Env, config: Config) -> Result<Handle, StartError> {
        config.validate()?;
        let mut directories = Vec::new();
        let mut faults = Vec::new();
        for path in &config.data {
            match DataDirectory::open(path) {
                Ok(directory) => directories.push(directory),
                Err(fault) => faults.push(fault),
            }
        }
        if directories.is_empty() {
            return Err(StartError::NoDisk(faults));
        }
        for fault in &faults {
            tracing::error!(path = %fault.path, reason = %fault.reason, "a disk is left out");
        }
        Self::start(env, config, directories).await
    }
}

fn channel_options(env: &Env, identity: &drystone_identity::Identity, pool: &BufferPool) -> ChannelOptions {
    let mut client = [0; 16];
    env.rng(&format!("chunk-client-{}", identity.node))
        .fill(&mut client);
    let mut options = ChannelOptions::new(pool.clone(), ClientId(client));
    options.cluster = Some(identity.cluster);
    options.history = Some(identity.history);
    options.node = identity.node;
    options.incarnation = identity.node_incarnation;
    options.software = crate::SOFTWARE.into();
    options
}

type Locks = Vec<Box<dyn Send + Sync>>;

/// Recovers all disks at the same time and starts their threads.
async fn open_disks(
    env: &Env,
    config: &Config,
    crew: Crew,
    pool: &BufferPool,
) -> Result<(BTreeMap<u64, DiskEntry>, Vec<DiskFault>, Locks), StartError> {
    let (mut disks, mut faults, mut locks) = (BTreeMap::new(), crew.faults, Locks::new());
    // Shared out, so that answers that a hung disk owes hold nothing of the others'; one whole answer at least.
    let share = config.in_flight.0 / 2 / crew.members.len().max(1) as u64;
    let reads = share.max(MAX_PAYLOAD_BYTES as u64);
    let opening: Vec<_> = crew
        .members
        .into_iter()
        .map(|member| {
            let (disk, me) = (Arc::clone(&member.directory.disk), member.me);
            let (store_config, pool) = (crate::disk::ops::store_config(config), pool.clone());
            let name = format!("open-{}", me.disk);
            // The thread starts now; the future only waits for it.
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let open = async move { drop(sender.send(Store::open(disk, store_config, me, pool))) };
            env.spawn.thread(&name, Box::pin(open));
            (member, receiver)
        })
        .collect();
    for (member, opened) in opening {
        let path = member.directory.path.clone();
        match opened.await {
            Ok(Ok((store, report))) => {
                tracing::info!(disk = %member.me, %path, ?report, "disk recovered");
                let limits = (config.io_threads, config.in_flight.0 / 2, reads);
                let runner = DiskRunner::start(env, path, member.me, store, pool.clone(), limits);
                disks.insert(
                    member.me.disk.0,
                    DiskEntry {
                        runner,
                        device: member.device,
                        disk: member.directory.disk,
                    },
                );
                locks.extend(member.directory.lock);
            }
            Ok(Err(error)) => faults.push(DiskFault {
                path,
                reason: error.to_string(),
            }),
            Err(_) => faults.push(DiskFault {
                path,
                reason: "opening it failed, see the log".into(),
            }),
        }
    }
    if disks.is_empty() {
        Err(StartError::NoDisk(faults))
    } else {
        Ok((disks, faults, locks))
    }
}

/// Registers, beats, and takes the server apart when it is to stop.
fn supervise(env: &Env, node: &SharedNode, rpc: ServerHandle, locks: Locks) {
    let node = Arc::clone(node);
    let task = async move {
        let mut standing = node.standing.subscribe();
        let stranger = tokio::select! {
            biased;
            _ = standing.wait_for(|standing| standing.stopped.is_some()) => None,
            reason = Member::new(Arc::clone(&node)).run() => Some(reason),
        };
        if let Some(reason) = stranger {
            tracing::error!(node = node.identity.node.0, %reason, "the chunk server stops");
            node.stop(reason);
        }
        rpc.shutdown();
        node.channels.close();
        for entry in node.disks.values() {
            entry.runner.close().await;
        }
        drop(locks);
        node.standing.send_modify(|standing| standing.down = true);
        tracing::info!(node = node.identity.node.0, "chunk server stopped");
    };
    env.spawn.spawn("chunk-server", Box::pin(task));
}

/// A running chunk server. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    node: SharedNode,
    address: SocketAddr,
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its id in the cluster.
    pub fn node(&self) -> NodeId {
        self.node.identity.node
    }

    /// True once a metadata leader has taken its registration and while heartbeats are answered (none for ten
    /// intervals: false): `/readyz`.
    pub fn ready(&self) -> bool {
        let standing = self.node.standing.borrow().clone();
        standing.registered
            && standing.stopped.is_none()
            && self.node.pulse.is_alive(self.node.env.clock.now())
    }

    /// Completes when it is registered for the first time.
    ///
    /// # Errors
    /// The reason, if it stopped.
    pub async fn registered(&self) -> Result<(), StopReason> {
        match self
            .wait(|standing| standing.registered || standing.stopped.is_some())
            .await
        {
            Standing {
                stopped: Some(reason),
                ..
            } => Err(reason),
            _ => Ok(()),
        }
    }

    /// Each disk that was given: those that are served, then those that are not.
    pub fn disks(&self) -> Vec<DiskReport> {
        let served = self.node.disks.values().map(|entry| DiskReport {
            path: entry.runner.path.clone(),
            disk: Some(entry.runner.me),
            fault: if entry.runner.is_closed() {
                "it is not served any more".into()
            } else {
                String::new()
            },
        });
        let faulty = self.node.faults.iter();
        let faulty = faulty.map(|fault| DiskReport {
            path: fault.path.clone(),
            disk: None,
            fault: fault.reason.clone(),
        });
        served.chain(faulty).collect()
    }

    /// Its metrics in the OpenMetrics text format, for `/metrics`.
    pub fn metrics(&self) -> String {
        self.node.metrics.text()
    }

    /// Completes when it has stopped serving, with the reason.
    pub async fn stopped(&self) -> StopReason {
        self.wait(|standing| standing.down)
            .await
            .stopped
            .unwrap_or(StopReason::Asked)
    }

    /// Stops it: no new request is taken, disks finish what they do, directories are unlocked. Completes when
    /// all of that is done.
    pub async fn shutdown(&self) {
        self.node.stop(StopReason::Asked);
        self.stopped().await;
    }

    async fn wait(&self, until: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = self.node.standing.subscribe();
        match standing.wait_for(|standing| until(standing)).await {
            Ok(standing) => standing.clone(),
            // The sender lives in the node, which this handle holds.
            Err(_) => Standing::default(),
        }
    }
}
