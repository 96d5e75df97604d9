//! What becomes of servers in time: wiped, copied, joined by new ones.

use super::{ChunkNode, Cluster, DISK_HALF, META_PORT, MetaNode, Node};
use crate::sometimes::sometimes;
use crate::states::SimStates;
use crate::trace;
use drystone_env::Rng;
use drystone_env::SeededRng;
use drystone_env::sim::SimDisk;
use drystone_identity::{Identity, Role};
use drystone_types::{DiskId, Incarnation, NodeId};
use std::sync::atomic::Ordering;

impl Cluster {
    /// A chunk server comes back under its old name with empty disks, as a new node; or as the node that it was, with
    /// one empty disk among others.
    ///
    /// # Panics
    /// If its disks are not formatted.
    pub fn wipe_chunk(&mut self, at: usize, rng: &mut SeededRng) {
        self.harmed.store(true, Ordering::Relaxed);
        self.stop(Node::Chunk(at), true);
        let node = &mut self.chunks[at];
        let count = node.disks.len() as u64;
        let only = (count > 1 && rng.chance(1, 2)).then(|| rng.below(count) as usize);
        let node_incarnation = Incarnation(rng.next_u64());
        for (index, disk) in node.disks.iter().enumerate() {
            if only.is_some_and(|only| only != index) {
                continue;
            }
            let mut identity = drystone_identity::load(disk).expect("it is formatted");
            let me = identity.disk.as_mut().expect("a chunk server's disk");
            node.lost.push(me.disk.0);
            me.incarnation = Incarnation(rng.next_u64());
            if only.is_none() {
                identity.node = NodeId(201 + at as u64);
                identity.node_incarnation = node_incarnation;
                me.disk = DiskId(identity.node.0 << 8 | index as u64);
            }
            disk.wipe();
            drystone_identity::format(disk, &identity).expect("a fresh disk can be formatted");
        }
        sometimes(if only.is_some() {
            "one disk of several wiped"
        } else {
            "chunk server wiped"
        });
        self.restart(Node::Chunk(at));
    }

    /// A copy of a chunk server's disks starts on another host: while the old one runs, or when it starts as well.
    pub fn clone_chunk(&mut self, at: usize, running: bool, rng: &mut SeededRng) {
        self.harmed.store(true, Ordering::Relaxed);
        if !running {
            self.stop(Node::Chunk(at), false);
        }
        let name = format!("clone-of-chunk-{at}");
        trace::name_host(&name);
        let disks: Vec<SimDisk> = self.chunks[at]
            .disks
            .iter()
            .map(|disk| disk.fork(rng.next_u64()))
            .collect();
        let mut all = self.chunk_disks.lock().expect("no panic holds it");
        all.extend_from_slice(&disks);
        drop(all);
        self.clones.push(ChunkNode {
            host: self.world.add_host(&name),
            disks,
            handle: Default::default(),
            ended: Default::default(),
            damaged: true,
            lost: Vec::new(),
        });
        self.chunks[at].damaged = true;
        self.restart(Node::Chunk(at));
        self.run_chunk(at, &self.clones[self.clones.len() - 1]);
        sometimes(if running {
            "clone beside the original"
        } else {
            "clone together with the original"
        });
    }

    /// A new metadata server joins as a learner. The answer is its node's number.
    ///
    /// # Panics
    /// If formatting fails.
    pub fn join_meta(&mut self, rng: &mut SeededRng) -> u64 {
        let at = self.metas.len();
        let number = at as u64 + 1;
        let name = format!("meta-{at}");
        trace::name_host(&name);
        let voters = self.metas.iter().zip(1..);
        let voters = voters.map(|(node, number)| (NodeId(number), format!("{}:{META_PORT}", node.host.ip())));
        let identity = Identity {
            node: NodeId(number),
            node_incarnation: Incarnation(rng.next_u64()),
            role: Role::Metadata,
            disk: None,
            voters: voters.collect(),
            joining: true,
            name: name.clone(),
            ..self.identity.clone()
        };
        let disk = SimDisk::with_capacity(rng.next_u64(), 8 << 30);
        disk.set_timing(&self.world, DISK_HALF);
        drystone_identity::format(&disk, &identity).expect("a fresh disk can be formatted");
        self.metas.push(MetaNode {
            host: self.world.add_host(&name),
            disk,
            states: SimStates::new(rng.next_u64()),
            handle: Default::default(),
            ended: Default::default(),
            damaged: false,
            retired: false,
            lost: false,
            lives: 0,
        });
        self.start_meta(at);
        sometimes("metadata server joins");
        number
    }
}
