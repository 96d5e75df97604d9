//! A little cluster: real metadata and chunk servers on disks in memory, and a REST door.

mod servers;

use crate::seams::Host;
use crate::user::{self, whole};
use drystone_env::{Rng, SeededRng};
use drystone_identity::{Identity, Role};
use drystone_proto::grant::ClusterKey;
use drystone_types::{ClusterId, HistoryId, Incarnation, NodeId};
use http::Method;
use servers::Maker;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

const META_PORT: u16 = 9710;
const CHUNK_PORT: u16 = 9720;

/// What the door may have of uploads that no chunk server has acknowledged.
pub(crate) const DOOR_UNACKNOWLEDGED: u64 = 8 << 20;

/// A running part, until it is stopped, and the host that it runs on.
type Slot<T> = Arc<Mutex<Option<(Option<T>, Host)>>>;

/// Where its parts can be looked at.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) metas: Vec<Slot<drystone_meta::Handle>>,
    pub(crate) chunks: Vec<Slot<drystone_chunk::Handle>>,
    pub(crate) door: Slot<drystone_rest::Handle>,
    /// Tells every server to stop.
    stop: Arc<Notify>,
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
        let stop = Arc::new(Notify::new());
        let mut maker = Maker {
            sim,
            seed,
            rng,
            identity,
            stop: Arc::clone(&stop),
            metadata: meta_addresses.iter().map(ToString::to_string).collect(),
        };
        let metas = (0..)
            .zip(meta_addresses)
            .map(|(at, address)| maker.start_meta(at, address));
        let metas = metas.collect();
        let chunks = (0..)
            .zip(chunk_addresses)
            .map(|(at, address)| maker.start_chunk(at, address));
        Self {
            metas,
            chunks: chunks.collect(),
            door: maker.start_door(),
            stop,
        }
    }

    /// Waits until a file can be written.
    pub(crate) async fn up(&self, host: &Host) {
        for _ in 0..300 {
            let content = vec![1; 10_000];
            let got = user::ask(host, Method::PUT, "/files/up", &[], whole(content), 10_000).await;
            if got.is_ok_and(|got| [200, 201].contains(&got.status)) {
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

    /// Tells every server, but not the door, to stop. Their hosts stay to be looked at.
    pub(crate) fn stop(&self) {
        self.stop.notify_waiters();
    }

    /// Tells the door to stop.
    pub(crate) fn stop_door(&self) {
        let door = self.door.lock().unwrap();
        let handle = door.as_ref().and_then(|(handle, _)| handle.as_ref());
        handle.expect("it runs").shutdown();
    }

    /// Hosts of all servers.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        let metas = self.metas.iter().filter_map(host);
        metas.chain(self.chunks.iter().filter_map(host)).collect()
    }

    /// The first metadata server's host.
    pub(crate) fn meta_host(&self) -> Host {
        host(&self.metas[0]).expect("it runs")
    }

    /// Bytes that all servers have handed to their sockets.
    pub(crate) fn written(&self) -> u64 {
        self.hosts().iter().map(|host| host.faults.written()).sum()
    }

    /// Names of all hosts.
    pub(crate) fn names(&self) -> Vec<String> {
        let metas = (0..self.metas.len()).map(meta_name);
        metas
            .chain(self.chunk_names())
            .chain(["door".to_owned()])
            .collect()
    }

    /// Every chunk server's name.
    pub(crate) fn chunk_names(&self) -> Vec<String> {
        (0..self.chunks.len()).map(chunk_name).collect()
    }

    /// The metadata server that leads, if one thinks so.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.metas.iter().position(|slot| {
            let slot = slot.lock().unwrap();
            let handle = slot.as_ref().and_then(|(handle, _)| handle.as_ref());
            handle.is_some_and(|handle| handle.is_leader())
        })
    }

    /// What each metadata server has applied, and the hash of its state there.
    pub(crate) fn states(&self) -> Vec<Option<(u64, u64)>> {
        let state =
            |slot: &Slot<drystone_meta::Handle>| slot.lock().unwrap().as_ref()?.0.as_ref()?.state_hash();
        self.metas.iter().map(state).collect()
    }
}

fn host<T>(slot: &Slot<T>) -> Option<Host> {
    slot.lock().unwrap().as_ref().map(|(_, host)| host.clone())
}
