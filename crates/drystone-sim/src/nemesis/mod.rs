//! Faults: what may befall a cluster in one run, drawn from the seed, and how each is undone.
//!
//! What is drawn stays within what the cluster promises to bear: at most one chunk server and one metadata server
//! lose what they had, lie, or are replaced; everything else is a crash, a cut, a pause or a delay.

mod acts;
mod draw;
mod kinds;

use crate::cluster::{DISK_HALF, Node};
use crate::run::Run;
use crate::scenario::Kind;
use crate::trace;
use acts::Act;
use drystone_env::sim::{SimDisk, World};
use drystone_env::{Rng, SeededRng};
use std::collections::BTreeMap;

/// Bytes of a roomy disk.
const ROOM: u64 = 8 << 30;

fn mend(disk: &SimDisk, world: &World) {
    disk.set_timing(world, DISK_HALF);
    disk.set_capacity(ROOM);
    disk.disarm();
}

/// The faults of one run.
pub struct Nemesis {
    schedule: BTreeMap<(u64, u32), Act>,
    /// The one chunk server and the one metadata server that may lose or garble what they had; of chunk servers there
    /// may be none.
    liars: (usize, usize),
    rng: SeededRng,
}

impl Nemesis {
    /// Draws faults between two moments (microseconds); everything is undone by `end`.
    pub fn draw(kind: Kind, run: &Run, rng: &mut SeededRng, begin: u64, end: u64) -> Self {
        let cluster = &run.cluster;
        let liars = (
            rng.below(cluster.chunks.len().max(1) as u64) as usize,
            rng.below(cluster.metas.len() as u64) as usize,
        );
        // What one of several voters loses the others have.
        if cluster.metas.len() > 1 && rng.chance(1, 2) {
            cluster.metas[liars.1].states.allow_holes();
        }
        let mut nemesis = Self {
            schedule: BTreeMap::new(),
            liars,
            rng: SeededRng::new(rng.next_u64()),
        };
        let faults = 3 + rng.below(10);
        for _ in 0..faults {
            let from = begin + rng.below(end - begin);
            let most = [200_000, 2_000_000, 12_000_000][rng.below(3) as usize];
            let to = (from + 1 + rng.below(most)).min(end);
            nemesis.add(run, from, to);
        }
        // What the one voter loses otherwise would be more than the cluster promises to bear.
        if kind != Kind::Moves {
            nemesis.add_loss(run, begin + rng.below(end - begin), end);
        }
        nemesis.add_kind(kind, run, begin, end);
        nemesis
    }

    fn at(&mut self, time: u64, act: Act) {
        let order = self.schedule.len() as u32;
        self.schedule.insert((time, order), act);
    }

    /// When the next fault comes.
    pub fn next(&self) -> Option<u64> {
        self.schedule.keys().next().map(|(time, _)| *time)
    }

    /// Does what is due now.
    pub fn act(&mut self, run: &mut Run) {
        let now = run.cluster.world.now().0;
        while let Some(entry) = self.schedule.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let act = entry.remove();
            trace::note(now, &format!("{act:?}"));
            self.carry_out(run, &act);
        }
    }

    /// Undoes everything: the cluster is to recover from here.
    pub fn end(&mut self, run: &mut Run) {
        let cluster = &mut run.cluster;
        trace::note(cluster.world.now().0, "all faults end");
        self.schedule.clear();
        let nodes = cluster.nodes();
        for &a in &nodes {
            for &b in &nodes {
                cluster.world.heal(cluster.host(a), cluster.host(b));
            }
        }
        for client in run.clients.hosts() {
            for &node in &nodes {
                cluster.world.heal(client, cluster.host(node));
                cluster.world.heal(cluster.host(node), client);
            }
        }
        for &node in &nodes {
            cluster.world.resume(cluster.host(node));
            for disk in cluster.disks(node) {
                mend(&disk, &cluster.world);
            }
            cluster.restart(node);
        }
        // Its copy may count instead of the original, and what was wrong with a disk was copied, too.
        for (_, clone) in &cluster.cloned_voters {
            mend(&clone.disk, &cluster.world);
        }
    }

    fn node(&mut self, run: &Run) -> Node {
        let nodes = run.cluster.nodes();
        nodes[self.rng.below(nodes.len() as u64) as usize]
    }

    fn disk(&mut self, disks: &[SimDisk]) -> SimDisk {
        disks[self.rng.below(disks.len() as u64) as usize].clone()
    }
}
