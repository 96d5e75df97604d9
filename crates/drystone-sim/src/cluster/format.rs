//! Who the servers are: their disks as an operator formats them.

use super::{ChunkNode, Cluster, DISK_HALF, META_PORT, MetaNode, Shape};
use crate::states::SimStates;
use crate::trace;
use drystone_env::sim::world::HostId;
use drystone_env::sim::{SimDisk, World};
use drystone_env::{Rng, SeededRng};
use drystone_identity::{Identity, Role};
use drystone_proto::grant::ClusterKey;
use drystone_types::{ClusterId, DiskId, DiskRef, HistoryId, Incarnation, NodeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

impl Cluster {
    /// Formats a cluster's disks; nothing runs yet.
    ///
    /// # Panics
    /// If formatting fails: no fault is armed yet.
    pub fn format(world: &World, shape: Shape, rng: &mut SeededRng) -> Self {
        let mut id = [[0; 16]; 2];
        id.iter_mut().for_each(|id| rng.fill(id));
        let mut key = [0; 32];
        rng.fill(&mut key);
        let host = |name: String| {
            trace::name_host(&name);
            world.add_host(&name)
        };
        let meta_hosts: Vec<HostId> = (0..shape.metas).map(|at| host(format!("meta-{at}"))).collect();
        let chunk_hosts: Vec<HostId> = (0..shape.chunks).map(|at| host(format!("chunk-{at}"))).collect();
        let voters: Vec<(NodeId, String)> = meta_hosts
            .iter()
            .enumerate()
            .map(|(at, host)| (NodeId(at as u64 + 1), format!("{}:{META_PORT}", host.ip())))
            .collect();
        let mut identity = Identity {
            cluster: ClusterId(id[0]),
            history: HistoryId(id[1]),
            key: ClusterKey(key),
            node: NodeId(0),
            node_incarnation: Incarnation(0),
            role: Role::Metadata,
            disk: None,
            voters,
            joining: false,
            name: String::new(),
        };
        let disk = |rng: &mut SeededRng, identity: &Identity| {
            let disk = SimDisk::with_capacity(rng.next_u64(), 8 << 30);
            disk.set_timing(world, DISK_HALF);
            drystone_identity::format(&disk, identity).expect("a fresh disk can be formatted");
            disk
        };
        let mut metas = Vec::new();
        for (at, host) in meta_hosts.into_iter().enumerate() {
            identity.node = NodeId(at as u64 + 1);
            identity.node_incarnation = Incarnation(rng.next_u64());
            identity.name = format!("meta-{at}");
            metas.push(MetaNode {
                host,
                disk: disk(rng, &identity),
                states: SimStates::new(rng.next_u64()),
                handle: Default::default(),
                ended: Default::default(),
                damaged: false,
                retired: false,
                lost: false,
                lives: 0,
            });
        }
        identity.role = Role::Chunk;
        let mut chunks = Vec::new();
        for (at, host) in chunk_hosts.into_iter().enumerate() {
            let node = 101 + at as u64;
            identity.node = NodeId(node);
            identity.node_incarnation = Incarnation(rng.next_u64());
            identity.name = format!("chunk-{at}");
            let disks = (0..shape.disks).map(|index| {
                identity.disk = Some(DiskRef {
                    disk: DiskId(node << 8 | u64::from(index)),
                    incarnation: Incarnation(rng.next_u64()),
                });
                disk(rng, &identity)
            });
            chunks.push(ChunkNode {
                host,
                disks: disks.collect(),
                handle: Default::default(),
                ended: Default::default(),
                damaged: false,
                lost: Vec::new(),
            });
        }
        let chunk_disks = chunks.iter().flat_map(|node| node.disks.iter().cloned());
        let chunk_disks = Arc::new(Mutex::new(chunk_disks.collect()));
        Self {
            world: world.clone(),
            shape,
            metas,
            chunks,
            clones: Vec::new(),
            chunk_disks,
            cloned_voters: Vec::new(),
            copies: BTreeMap::new(),
            wiped: Vec::new(),
            lost_logs: Arc::default(),
            harmed: Default::default(),
            faults: Default::default(),
            identity,
        }
    }
}
