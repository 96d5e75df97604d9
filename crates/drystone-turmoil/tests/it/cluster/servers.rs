//! How the parts are formatted, configured and run.

use super::{DOOR_UNACKNOWLEDGED, Slot, chunk_name, meta_name};
use crate::seams::Host;
use drystone_chunk::{ChunkServer, DataDirectory};
use drystone_client::{Client, Options};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, Rng, SeededRng};
use drystone_gateway::Metrics;
use drystone_identity::{Identity, Role};
use drystone_meta::{MetadataDirectory, MetadataServer};
use drystone_rest::RestConfig;
use drystone_sim::states::SimStates;
use drystone_types::{AckPolicy, ByteCount, DiskId, DiskRef, Incarnation, NodeId, Policy};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const DOOR_PORT: u16 = 9700;
/// How long the door tries before it says that it could not.
const DOOR_DEADLINE: Duration = Duration::from_secs(4);

/// Makes the parts of one cluster.
pub(super) struct Maker<'a> {
    pub(super) sim: &'a mut turmoil::Sim<'static>,
    pub(super) seed: u64,
    pub(super) rng: SeededRng,
    /// What all nodes have in common.
    pub(super) identity: Identity,
    pub(super) stop: Arc<Notify>,
    /// Addresses of the metadata servers.
    pub(super) metadata: Vec<String>,
}

fn format(seed: u64, identity: &Identity) -> SimDisk {
    let disk = SimDisk::with_capacity(seed, 4 << 30);
    drystone_identity::format(&disk, identity).expect("a fresh disk can be formatted");
    disk
}

fn meta_config(name: &str, listen: SocketAddr) -> drystone_meta::Config {
    let policy = Policy {
        replicas: 2,
        ack: AckPolicy::All,
        degraded_minimum: 0,
        chunk_bytes: ByteCount(1 << 20),
    };
    drystone_meta::Config {
        policy: policy.into(),
        log_segment: ByteCount(128 << 10),
        overlay: ByteCount(16 << 20),
        disk_reserve: Some(ByteCount(64 << 20)),
        heartbeat: Duration::from_secs(1),
        suspect_after: Duration::from_secs(3),
        dead_after: Duration::from_secs(20),
        inline_max: ByteCount(1 << 10),
        host: name.to_owned(),
        ..drystone_meta::Config::new(PathBuf::from(name), listen)
    }
}

impl Maker<'_> {
    pub(super) fn start_meta(&mut self, at: usize, listen: SocketAddr) -> Slot<drystone_meta::Handle> {
        let (name, rng, seed) = (meta_name(at), &mut self.rng, self.seed);
        let identity = Identity {
            node: NodeId(at as u64 + 1),
            node_incarnation: Incarnation(rng.next_u64()),
            name: name.clone(),
            ..self.identity.clone()
        };
        let (disk, states) = (format(rng.next_u64(), &identity), SimStates::new(rng.next_u64()));
        let config = meta_config(&name, listen);
        let (slot, stop) = (Slot::default(), Arc::clone(&self.stop));
        let out = Arc::clone(&slot);
        self.sim.host(name.clone(), move || {
            let (out, config, name, stop) =
                (Arc::clone(&out), config.clone(), name.clone(), Arc::clone(&stop));
            let directory = MetadataDirectory {
                name: name.clone(),
                disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
                states: Arc::new(states.clone()),
                lock: None,
            };
            async move {
                let host = Host::new(&name, seed);
                let handle = MetadataServer::start_on(host.env.clone(), config, directory).await?;
                let stopped = handle.watch_stopped();
                *out.lock().unwrap() = Some((Some(handle), host));
                tokio::select! {
                    biased;
                    () = stopped => return Err(format!("{name} stopped by itself").into()),
                    () = stop.notified() => {}
                }
                let handle = out.lock().unwrap().as_mut().and_then(|(handle, _)| handle.take());
                handle.expect("it runs").shutdown().await?;
                std::future::pending().await
            }
        });
        slot
    }

    pub(super) fn start_chunk(&mut self, at: usize, listen: SocketAddr) -> Slot<drystone_chunk::Handle> {
        let (name, node, seed) = (chunk_name(at), 101 + at as u64, self.seed);
        let identity = Identity {
            node: NodeId(node),
            node_incarnation: Incarnation(self.rng.next_u64()),
            role: Role::Chunk,
            disk: Some(DiskRef {
                disk: DiskId(node << 8),
                incarnation: Incarnation(self.rng.next_u64()),
            }),
            name: name.clone(),
            ..self.identity.clone()
        };
        let disk = format(self.rng.next_u64(), &identity);
        let config = drystone_chunk::Config {
            listen,
            metadata: self.metadata.clone(),
            host: name.clone(),
            in_flight: ByteCount(32 << 20),
            read_cache: Some(ByteCount(0)),
            io_threads: 2,
            heartbeat: Duration::from_secs(1),
            journal_segment: ByteCount(256 << 10),
            arena: Some(ByteCount(4 << 20)),
            ..drystone_chunk::Config::default()
        };
        let (slot, stop) = (Slot::default(), Arc::clone(&self.stop));
        let out = Arc::clone(&slot);
        self.sim.host(name.clone(), move || {
            let (out, config, name, stop) = (Arc::clone(&out), config.clone(), name.clone(), Arc::clone(&stop));
            let directory = DataDirectory {
                path: name.clone(),
                disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
                lock: None,
            };
            async move {
                let host = Host::new(&name, seed);
                let handle = ChunkServer::start(host.env.clone(), config, vec![directory]).await?;
                *out.lock().unwrap() = Some((Some(handle.clone()), host));
                tokio::select! {
                    biased;
                    reason = handle.stopped() => return Err(format!("{name} stopped by itself: {reason}").into()),
                    () = stop.notified() => {}
                }
                handle.shutdown().await?;
                drop(handle);
                if let Some((handle, _)) = out.lock().unwrap().as_mut() {
                    *handle = None;
                }
                std::future::pending().await
            }
        });
        slot
    }

    pub(super) fn start_door(&mut self) -> Slot<drystone_rest::Handle> {
        let (slot, metadata, seed) = (Slot::default(), self.metadata.clone(), self.seed);
        let out = Arc::clone(&slot);
        self.sim.host("door", move || {
            let (out, metadata) = (Arc::clone(&out), metadata.clone());
            async move {
                let host = Host::new("door", seed);
                let options = Options {
                    deadline: DOOR_DEADLINE,
                    unacknowledged: ByteCount(DOOR_UNACKNOWLEDGED),
                    ..Options::new(metadata)
                };
                let client = Client::connect(host.env.clone(), options).await?;
                let listen = ([0, 0, 0, 0], DOOR_PORT).into();
                let mut config = RestConfig::new(listen, Metrics::default());
                config.default_user = "drystone".to_owned();
                config.http.hosts = vec!["door".to_owned()];
                let handle = drystone_rest::serve(host.env.clone(), config, client).await?;
                *out.lock().unwrap() = Some((Some(handle), host));
                std::future::pending().await
            }
        });
        slot
    }
}
