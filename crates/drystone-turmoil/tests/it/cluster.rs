//! A little cluster: real metadata and chunk servers on disks in memory, and a REST door.

use crate::seams::Host;
use crate::user::{self, whole};
use drystone_chunk::{ChunkServer, DataDirectory};
use drystone_client::{Client, Options};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, Rng, SeededRng};
use drystone_identity::{Identity, Role};
use drystone_meta::{MetadataDirectory, MetadataServer};
use drystone_proto::grant::ClusterKey;
use drystone_rest::RestConfig;
use drystone_sim::states::SimStates;
use drystone_types::{
    AckPolicy, ByteCount, ClusterId, DiskId, DiskRef, HistoryId, Incarnation, NodeId, Policy,
};
use http::Method;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const META_PORT: u16 = 9710;
const CHUNK_PORT: u16 = 9720;
const DOOR_PORT: u16 = 9700;

/// How long the door tries before it says that it could not.
const DOOR_DEADLINE: Duration = Duration::from_secs(4);

/// What the door may have of uploads that no chunk server has acknowledged.
pub(crate) const DOOR_UNACKNOWLEDGED: u64 = 8 << 20;

/// A running part and the host that it runs on.
type Slot<T> = Arc<Mutex<Option<(T, Host)>>>;

/// Where its parts can be looked at.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) metas: Vec<Slot<drystone_meta::Handle>>,
    pub(crate) chunks: Vec<Slot<drystone_chunk::Handle>>,
    pub(crate) door: Slot<drystone_rest::Handle>,
}

pub(crate) fn meta_name(at: usize) -> String {
    format!("meta-{at}")
}

pub(crate) fn chunk_name(at: usize) -> String {
    format!("chunk-{at}")
}

impl Cluster {
    /// Formats and starts `metas` metadata servers, `chunks` chunk servers with one disk each, and the host `door`.
    /// Content has two replicas in chunks of 1 MiB, and up to 1 KiB goes into the namespace.
    pub(crate) fn start(sim: &mut turmoil::Sim<'static>, seed: u64, metas: usize, chunks: usize) -> Self {
        let mut rng = SeededRng::new(seed).split("cluster");
        let address = |name: String, port| SocketAddr::new(sim.lookup(name), port);
        let meta_addresses: Vec<SocketAddr> =
            (0..metas).map(|at| address(meta_name(at), META_PORT)).collect();
        let chunk_addresses: Vec<SocketAddr> = (0..chunks)
            .map(|at| address(chunk_name(at), CHUNK_PORT))
            .collect();
        let (mut cluster, mut history, mut key) = ([0; 16], [0; 16], [0; 32]);
        for part in [&mut cluster[..], &mut history, &mut key] {
            rng.fill(part);
        }
        let voters = meta_addresses.iter().zip(1..);
        let identity = Identity {
            cluster: ClusterId(cluster),
            history: HistoryId(history),
            key: ClusterKey(key),
            node: NodeId(0),
            node_incarnation: Incarnation(0),
            role: Role::Metadata,
            disk: None,
            voters: voters
                .map(|(address, node)| (NodeId(node), address.to_string()))
                .collect(),
            joining: false,
            name: String::new(),
        };
        let metadata: Vec<String> = meta_addresses.iter().map(ToString::to_string).collect();
        let metas = meta_addresses.iter().enumerate();
        let metas = metas.map(|(at, address)| start_meta(sim, seed, at, *address, &identity, &mut rng));
        let metas: Vec<_> = metas.collect();
        let chunks = chunk_addresses.iter().enumerate();
        let chunks =
            chunks.map(|(at, address)| start_chunk(sim, seed, at, *address, &metadata, &identity, &mut rng));
        let chunks: Vec<_> = chunks.collect();
        Self {
            metas,
            chunks,
            door: start_door(sim, seed, metadata),
        }
    }

    /// Waits until a file can be written.
    pub(crate) async fn up(&self, host: &Host) {
        for _ in 0..300 {
            let content = vec![1; 10_000];
            let got = user::ask(host, Method::PUT, "/files/up", &[], whole(content), 10_000).await;
            if got.is_ok_and(|got| got.status == 201) {
                return;
            }
            host.pass(100).await;
        }
        panic!("the cluster does not come up");
    }

    /// The door's host.
    pub(crate) fn door_host(&self) -> Host {
        host(&self.door).expect("it runs")
    }

    /// The first metadata server's host.
    pub(crate) fn meta_host(&self) -> Host {
        host(&self.metas[0]).expect("it runs")
    }

    /// Bytes that all servers have handed to their sockets.
    pub(crate) fn written(&self) -> u64 {
        let of = |host: Option<Host>| host.map_or(0, |host| host.faults.written());
        let metas = self.metas.iter().map(|slot| of(host(slot)));
        metas.chain(self.chunks.iter().map(|slot| of(host(slot)))).sum()
    }

    /// Every chunk server's name.
    pub(crate) fn chunk_names(&self) -> Vec<String> {
        (0..self.chunks.len()).map(chunk_name).collect()
    }

    /// The metadata server that leads, if one thinks so.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.metas.iter().position(|slot| {
            let slot = slot.lock().unwrap();
            slot.as_ref().is_some_and(|(handle, _)| handle.is_leader())
        })
    }

    /// What each metadata server has applied, and the hash of its state there.
    pub(crate) fn states(&self) -> Vec<Option<(u64, u64)>> {
        let state = |slot: &Slot<drystone_meta::Handle>| slot.lock().unwrap().as_ref()?.0.state_hash();
        self.metas.iter().map(state).collect()
    }
}

fn host<T>(slot: &Slot<T>) -> Option<Host> {
    slot.lock().unwrap().as_ref().map(|(_, host)| host.clone())
}

fn format(seed: u64, identity: &Identity) -> SimDisk {
    let disk = SimDisk::with_capacity(seed, 4 << 30);
    drystone_identity::format(&disk, identity).expect("a fresh disk can be formatted");
    disk
}

fn start_meta(
    sim: &mut turmoil::Sim<'static>,
    seed: u64,
    at: usize,
    listen: SocketAddr,
    identity: &Identity,
    rng: &mut SeededRng,
) -> Slot<drystone_meta::Handle> {
    let name = meta_name(at);
    let identity = Identity {
        node: NodeId(at as u64 + 1),
        node_incarnation: Incarnation(rng.next_u64()),
        name: name.clone(),
        ..identity.clone()
    };
    let (disk, states) = (format(rng.next_u64(), &identity), SimStates::new(rng.next_u64()));
    let policy = Policy {
        replicas: 2,
        ack: AckPolicy::All,
        degraded_minimum: 0,
        chunk_bytes: ByteCount(1 << 20),
    };
    let config = drystone_meta::Config {
        policy: policy.into(),
        log_segment: ByteCount(128 << 10),
        overlay: ByteCount(16 << 20),
        disk_reserve: ByteCount(64 << 20),
        heartbeat: Duration::from_secs(1),
        suspect_after: Duration::from_secs(3),
        dead_after: Duration::from_secs(20),
        inline_max: ByteCount(1 << 10),
        host: name.clone(),
        ..drystone_meta::Config::new(PathBuf::from(&name), listen)
    };
    let slot = Slot::default();
    let out = Arc::clone(&slot);
    sim.host(name.clone(), move || {
        let (out, config, name) = (Arc::clone(&out), config.clone(), name.clone());
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
            *out.lock().unwrap() = Some((handle, host));
            stopped.await;
            Err(format!("{name} stopped by itself").into())
        }
    });
    slot
}

fn start_chunk(
    sim: &mut turmoil::Sim<'static>,
    seed: u64,
    at: usize,
    listen: SocketAddr,
    metadata: &[String],
    identity: &Identity,
    rng: &mut SeededRng,
) -> Slot<drystone_chunk::Handle> {
    let name = chunk_name(at);
    let node = 101 + at as u64;
    let identity = Identity {
        node: NodeId(node),
        node_incarnation: Incarnation(rng.next_u64()),
        role: Role::Chunk,
        disk: Some(DiskRef {
            disk: DiskId(node << 8),
            incarnation: Incarnation(rng.next_u64()),
        }),
        name: name.clone(),
        ..identity.clone()
    };
    let disk = format(rng.next_u64(), &identity);
    let config = drystone_chunk::Config {
        listen,
        metadata: metadata.to_vec(),
        host: name.clone(),
        in_flight: ByteCount(32 << 20),
        read_cache: ByteCount(0),
        io_threads: 2,
        heartbeat: Duration::from_secs(1),
        journal_segment: ByteCount(256 << 10),
        ..drystone_chunk::Config::default()
    };
    let slot = Slot::default();
    let out = Arc::clone(&slot);
    sim.host(name.clone(), move || {
        let (out, config, name) = (Arc::clone(&out), config.clone(), name.clone());
        let directory = DataDirectory {
            path: name.clone(),
            disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
            lock: None,
        };
        async move {
            let host = Host::new(&name, seed);
            let handle = ChunkServer::start(host.env.clone(), config, vec![directory]).await?;
            *out.lock().unwrap() = Some((handle.clone(), host));
            Err(format!("{name} stopped by itself: {}", handle.stopped().await).into())
        }
    });
    slot
}

fn start_door(
    sim: &mut turmoil::Sim<'static>,
    seed: u64,
    metadata: Vec<String>,
) -> Slot<drystone_rest::Handle> {
    let slot = Slot::default();
    let out = Arc::clone(&slot);
    sim.host("door", move || {
        let (out, metadata) = (Arc::clone(&out), metadata.clone());
        async move {
            let host = Host::new("door", seed);
            let options = Options {
                deadline: DOOR_DEADLINE,
                unacknowledged: ByteCount(DOOR_UNACKNOWLEDGED),
                ..Options::new(metadata)
            };
            let client = Client::connect(host.env.clone(), options).await?;
            let config = RestConfig {
                listen: ([0, 0, 0, 0], DOOR_PORT).into(),
                default_user: "drystone".to_owned(),
            };
            let handle = drystone_rest::serve(host.env.clone(), config, client).await?;
            *out.lock().unwrap() = Some((handle, host));
            std::future::pending().await
        }
    });
    slot
}
