//! The cluster under test: real servers on seeded hosts and disks, and how they are started and lose their lives.

mod change;
mod cloned_voter;
mod format;
mod shape;
mod start;

pub use shape::Shape;

use crate::check::replicas;
use crate::sometimes::sometimes;
use crate::states::SimStates;
use drystone_env::sim::world::HostId;
use drystone_env::sim::{SimDisk, World};
use drystone_identity::Identity;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

const META_PORT: u16 = 9710;
const CHUNK_PORT: u16 = 9720;
/// Time of half an operation of a healthy disk, in microseconds.
pub const DISK_HALF: (u64, u64) = (10, 400);

/// A running server's handle, where the harness can reach it.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn put<T>(slot: &Slot<T>, value: Option<T>) {
    let old = std::mem::replace(&mut *slot.lock().expect("no panic holds it"), value);
    drop(old);
}

/// A metadata server.
pub struct MetaNode {
    /// Where it runs.
    pub host: HostId,
    /// Its log and identity.
    pub disk: SimDisk,
    /// Its state.
    pub states: SimStates,
    /// While it runs.
    pub handle: Slot<drystone_meta::Handle>,
    /// Why it ended by itself or refused to start.
    pub ended: Slot<String>,
    /// Its disk was made to fail: it need not come back.
    pub damaged: bool,
    /// Another voter takes its place: what becomes of it does not matter.
    pub retired: bool,
    /// It never comes back.
    pub lost: bool,
    /// So often it is started again when it ends by itself.
    pub lives: u32,
}

/// A chunk server.
pub struct ChunkNode {
    /// Where it runs.
    pub host: HostId,
    /// Its disks.
    pub disks: Vec<SimDisk>,
    /// While it runs.
    pub handle: Slot<drystone_chunk::Handle>,
    /// Why it ended by itself or refused to start.
    pub ended: Slot<String>,
    /// Its disks were made to fail: its replicas count for nothing, and it need not come back.
    pub damaged: bool,
    /// Disks that were wiped: their replicas are gone.
    pub lost: Vec<u64>,
}

/// See the module.
pub struct Cluster {
    /// Where it runs.
    pub world: World,
    /// How it was made.
    pub shape: Shape,
    /// Metadata servers.
    pub metas: Vec<MetaNode>,
    /// Chunk servers.
    pub chunks: Vec<ChunkNode>,
    /// Copies of chunk servers that run beside them.
    pub clones: Vec<ChunkNode>,
    /// All disks of chunk servers, those of clones too.
    pub chunk_disks: Arc<Mutex<Vec<SimDisk>>>,
    /// Copies of metadata servers that run beside them, each with the number of the original.
    pub cloned_voters: Vec<(usize, MetaNode)>,
    /// What somebody copied of metadata servers, by number.
    pub copies: BTreeMap<usize, (SimDisk, SimStates)>,
    /// Metadata servers that were wiped and started under their old ids.
    pub wiped: Vec<usize>,
    /// Metadata servers that stopped because their log lacked what they had acknowledged, and what they said.
    pub lost_logs: Arc<Mutex<Vec<(usize, String)>>>,
    /// A chunk server was made to lose or garble something.
    pub harmed: Arc<AtomicBool>,
    /// What was wrong with disks when their servers were started again.
    pub faults: Mutex<Vec<String>>,
    /// Whose cluster it is.
    identity: Identity,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let chunks = self.chunks.iter().chain(&self.clones).map(|node| node.host);
        let voters = self.cloned_voters.iter().map(|(_, node)| node);
        for host in self
            .metas
            .iter()
            .chain(voters)
            .map(|node| node.host)
            .chain(chunks)
        {
            self.world.power_off(host);
        }
    }
}

impl Cluster {
    /// `host:port` of every metadata server.
    pub fn metadata(&self) -> Vec<String> {
        self.metas
            .iter()
            .map(|node| format!("{}:{META_PORT}", node.host.ip()))
            .collect()
    }

    /// A node's process dies; with `power` its unsynced writes die with it.
    pub fn stop(&self, node: Node, power: bool) {
        let host = self.host(node);
        let was_alive = self.world.is_alive(host);
        if power {
            self.world.power_off(host);
        } else {
            self.world.kill(host);
        }
        match node {
            Node::Meta(at) => {
                let node = &self.metas[at];
                put(&node.handle, None);
                crash_disk(&node.disk, power);
                node.states.crash(power);
            }
            Node::Chunk(at) => {
                let node = &self.chunks[at];
                put(&node.handle, None);
                node.disks.iter().for_each(|disk| crash_disk(disk, power));
            }
        }
        if was_alive {
            sometimes(if power { "power cut" } else { "killed" });
        }
    }

    /// Starts a node that was stopped.
    pub fn restart(&self, node: Node) {
        let host = self.host(node);
        let lost = matches!(node, Node::Meta(at) if self.metas[at].lost);
        if lost || self.world.is_alive(host) {
            return;
        }
        if let Node::Chunk(at) = node {
            self.verify(at);
        }
        self.world.power_on(host);
        match node {
            Node::Meta(at) => self.start_meta(at),
            Node::Chunk(at) => self.start_chunk(at),
        }
    }

    /// What lies on the disks of a chunk server that starts again is what was written there, also of chunks that nothing refers
    /// to any more: nobody knows that of a disk by itself.
    fn verify(&self, at: usize) {
        let node = &self.chunks[at];
        if node.damaged {
            return;
        }
        for (index, disk) in node.disks.iter().enumerate() {
            sometimes("a disk looked at when its server starts again");
            let found = replicas::on_disk(&disk.fork(0));
            let rotten = match found {
                // A server that was cut off before its first start has nothing.
                Err(why) => vec![why],
                Ok(found) => {
                    let rotten = found.iter().filter(|replica| replica.checksum.is_none());
                    rotten
                        .map(|replica| format!("{replica:?} cannot be read"))
                        .collect()
                }
            };
            let mut faults = self.faults.lock().expect("no panic holds it");
            faults.extend(
                rotten
                    .iter()
                    .map(|why| format!("disk {index} of chunk-{at}: {why}")),
            );
        }
    }

    /// Where a node runs.
    pub fn host(&self, node: Node) -> HostId {
        match node {
            Node::Meta(at) => self.metas[at].host,
            Node::Chunk(at) => self.chunks[at].host,
        }
    }

    /// The disks of a node.
    pub fn disks(&self, node: Node) -> Vec<SimDisk> {
        match node {
            Node::Meta(at) => vec![self.metas[at].disk.clone()],
            Node::Chunk(at) => self.chunks[at].disks.clone(),
        }
    }

    /// Numbers of the metadata servers that must serve at the end.
    pub fn sound_voters(&self) -> Vec<u64> {
        let nodes = self.metas.iter().zip(1..);
        let sound = nodes.filter(|(node, _)| !(node.damaged || node.retired || node.lost));
        sound.map(|(_, number)| number).collect()
    }

    /// Voters that lacked what they had acknowledged although nobody had made them lose it: the others counted on them,
    /// whatever became of it.
    pub fn forgetful_voters(&self) -> Vec<String> {
        let lost = self.lost_logs.lock().expect("no panic holds it");
        let sound = lost.iter().filter(|(at, _)| {
            let node = &self.metas[*at];
            !(node.damaged || node.retired || node.lost)
        });
        sound.map(|(at, why)| format!("meta-{at}: {why}")).collect()
    }

    /// Numbers of chunk servers that need not be alive at the end.
    pub fn excused(&self) -> Vec<u64> {
        let nodes = self.chunks.iter().zip(101..);
        let excused = nodes.filter(|(node, _)| node.damaged || !node.lost.is_empty());
        // One that was wiped has got another number.
        excused.flat_map(|(_, number)| [number, number + 100]).collect()
    }

    /// Disks whose replicas count for nothing: they were made to fail, or wiped.
    pub fn damaged_disks(&self) -> Vec<u64> {
        let nodes = self.chunks.iter().zip(101..);
        let damaged = nodes.flat_map(|(node, number): (_, u64)| {
            let count = if node.damaged { node.disks.len() as u64 } else { 0 };
            // One that was wiped has got another number.
            let all = (0..count).flat_map(move |index| [number << 8 | index, (number + 100) << 8 | index]);
            all.chain(node.lost.iter().copied())
        });
        damaged.collect()
    }

    /// Every node.
    pub fn nodes(&self) -> Vec<Node> {
        let metas = (0..self.metas.len()).map(Node::Meta);
        metas.chain((0..self.chunks.len()).map(Node::Chunk)).collect()
    }

    /// The metadata server that leads, if one thinks so.
    pub fn leader(&self) -> Option<usize> {
        self.metas.iter().position(|node| {
            let handle = node.handle.lock().expect("no panic holds it");
            handle.as_ref().is_some_and(|handle| handle.is_leader())
        })
    }
}

fn crash_disk(disk: &SimDisk, power: bool) {
    if power {
        let before = disk.stats().unsynced_at_crash;
        disk.crash();
        if disk.stats().unsynced_at_crash > before {
            sometimes("unsynced blocks at a power cut");
        }
    } else {
        disk.kill();
    }
}

/// A node of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Node {
    /// A metadata server.
    Meta(usize),
    /// A chunk server.
    Chunk(usize),
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Node::Meta(at) => write!(f, "meta-{at}"),
            Node::Chunk(at) => write!(f, "chunk-{at}"),
        }
    }
}
