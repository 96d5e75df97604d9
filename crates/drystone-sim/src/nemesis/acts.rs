//! What each fault does to the cluster.

use super::{Nemesis, ROOM};
use crate::cluster::{DISK_HALF, Node};
use crate::operator::Order;
use crate::run::Run;
use crate::sometimes::sometimes;
use drystone_env::Rng;
use drystone_env::sim::world::{HostId, Link};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An aimed power cut waits so long for a moment at which the disk has something to lose.
const AIM: Duration = Duration::from_millis(500);

#[allow(missing_docs, reason = "the names say what they do")]
/// What to do at a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// With `aimed` at a moment at which writes are not synced.
    Stop {
        node: Node,
        power: bool,
        aimed: bool,
    },
    Restart(Node),
    PowerCutOfAll,
    RestartAll,
    Pause(Node),
    Resume(Node),
    /// Nothing passes from the first to the second.
    Cut(Node, Node),
    Heal(Node, Node),
    CutHosts(HostId, HostId),
    HealHosts(HostId, HostId),
    /// No metadata server and this client hear each other for so long, from a moment on at which it has begun a change.
    CutClient {
        client: usize,
        time: u64,
    },
    /// Who leads now and the other metadata servers do not hear each other for so long; for the first part of it the
    /// leader stands still, so that it does not notice.
    CutLeader {
        time: u64,
        still: u64,
    },
    /// Who leads now stands still for so long.
    PauseLeader {
        time: u64,
    },
    /// Delay in microseconds and losses of a thousand, both ways between a node and all others.
    Slow {
        node: Node,
        delay: u64,
        loss: u64,
    },
    Quick(Node),
    SlowDisk {
        node: Node,
        half: u64,
    },
    /// Operations that begin now take so long.
    StallDisk {
        node: Node,
        time: u64,
    },
    QuickDisk(Node),
    FailDisk {
        node: Node,
        how: DiskFault,
    },
    /// Free bytes left on the disks of a node.
    Full(Node, u64),
    Roomy(Node),
    Wall {
        node: Node,
        micros: i64,
    },
    Drift {
        node: Node,
        ppm: i64,
    },
    StopLeader {
        power: bool,
    },
    RestartMetas,
    TransferLeader(usize),
    KillClient(usize),
    /// Its disks are empty and formatted anew, under its old name.
    WipeChunk(usize),
    /// A copy of its disks starts elsewhere; with `running` beside it, else together with it.
    CloneChunk {
        at: usize,
        running: bool,
    },
    /// A copy of its directory starts elsewhere; with `running` beside it, else together with it.
    CloneMeta {
        at: usize,
        running: bool,
    },
    /// Somebody copies its directory.
    CopyMeta(usize),
    /// Its host is gone, and its directory, or the copy of it, is started elsewhere.
    MoveMeta(usize),
    /// It starts with its identity and nothing else.
    WipeMeta(usize),
    /// A new voter takes its place; with `lost` it is gone for ever before.
    ReplaceMeta {
        at: usize,
        lost: bool,
    },
}

/// What a disk does once, at its `nth` operation of the kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DiskFault {
    Sync(u64),
    Write(u64),
    Read(u64),
    Lost(u64),
    Misdirected(u64),
    Flip,
}

impl Nemesis {
    pub(super) fn carry_out(&mut self, run: &mut Run, act: &Act) {
        let cluster = &mut run.cluster;
        match *act {
            Act::Stop { node, power, aimed } => {
                let disks = cluster.disks(node);
                if power && aimed && cluster.world.is_alive(cluster.host(node)) {
                    cluster
                        .world
                        .run_until(AIM, || disks.iter().any(|disk| disk.unsynced() > 0));
                }
                cluster.stop(node, power);
            }
            Act::Restart(node) => cluster.restart(node),
            Act::PowerCutOfAll => {
                cluster
                    .nodes()
                    .into_iter()
                    .for_each(|node| cluster.stop(node, true));
                sometimes("power cut of all");
            }
            Act::RestartAll => cluster.nodes().into_iter().for_each(|node| cluster.restart(node)),
            Act::StopLeader { power } => {
                if let Some(at) = cluster.leader() {
                    cluster.stop(Node::Meta(at), power);
                    sometimes("leader stopped");
                }
            }
            Act::RestartMetas => (0..cluster.metas.len()).for_each(|at| cluster.restart(Node::Meta(at))),
            Act::Pause(node) => {
                cluster.world.pause(cluster.host(node));
                sometimes("paused");
            }
            Act::Resume(node) => cluster.world.resume(cluster.host(node)),
            Act::Cut(a, b) => {
                cluster.world.cut(cluster.host(a), cluster.host(b));
                sometimes("link cut");
            }
            Act::Heal(a, b) => cluster.world.heal(cluster.host(a), cluster.host(b)),
            Act::CutHosts(a, b) => cluster.world.cut(a, b),
            Act::HealHosts(a, b) => cluster.world.heal(a, b),
            Act::CutClient { client, time } => {
                let world = cluster.world.clone();
                let clients = &run.clients;
                world.run_until(AIM, || clients.is_changing(client));
                // Somewhere between its first look and the commit.
                world.run_for(Duration::from_micros(self.rng.below(30_000)));
                let host = run.clients.hosts()[client];
                let end = world.now().0 + time;
                for at in 0..cluster.metas.len() {
                    let meta = cluster.host(Node::Meta(at));
                    for (a, b) in [(host, meta), (meta, host)] {
                        world.cut(a, b);
                        self.at(end, Act::HealHosts(a, b));
                    }
                }
                sometimes("client cut off during a change");
            }
            Act::CutLeader { time, still } => {
                let Some(leader) = cluster.leader() else { return };
                let now = cluster.world.now().0;
                let end = now + time;
                if still > 0 {
                    cluster.world.pause(cluster.host(Node::Meta(leader)));
                    self.at(now + still, Act::Resume(Node::Meta(leader)));
                    sometimes("leader deposed while it stood still");
                }
                for other in (0..cluster.metas.len()).filter(|other| *other != leader) {
                    for (a, b) in [(leader, other), (other, leader)] {
                        let (a, b) = (cluster.host(Node::Meta(a)), cluster.host(Node::Meta(b)));
                        cluster.world.cut(a, b);
                        self.at(end, Act::HealHosts(a, b));
                    }
                }
                sometimes("leader cut off from its followers");
            }
            Act::PauseLeader { time } => {
                if let Some(at) = cluster.leader() {
                    let node = Node::Meta(at);
                    cluster.world.pause(cluster.host(node));
                    let now = cluster.world.now().0;
                    self.at(now + time, Act::Resume(node));
                    sometimes("leader paused");
                }
            }
            Act::Slow { node, delay, loss } => {
                let link = Link {
                    delay: (50, 50 + delay),
                    loss,
                    ..Link::default()
                };
                set_links(run, node, link);
                sometimes("links slow and lossy");
            }
            Act::Quick(node) => set_links(run, node, Link::default()),
            Act::SlowDisk { node, half } => {
                set_timing(run, node, (DISK_HALF.0, half));
                sometimes("disk slow");
            }
            Act::StallDisk { node, time } => {
                set_timing(run, node, (time, time));
                sometimes("disk stalled");
            }
            Act::QuickDisk(node) => set_timing(run, node, DISK_HALF),
            Act::FailDisk { node, how } => self.fail_disk(run, node, how),
            Act::Full(node, free) => {
                for disk in cluster.disks(node) {
                    if let Ok(space) = drystone_env::Disk::space(&disk) {
                        disk.set_capacity(space.total - space.free + free);
                    }
                }
                sometimes("disk full");
            }
            Act::Roomy(node) => cluster
                .disks(node)
                .iter()
                .for_each(|disk| disk.set_capacity(ROOM)),
            Act::Wall { node, micros } => {
                cluster.world.set_wall_error(cluster.host(node), micros);
                sometimes("wall clock set wrong");
            }
            Act::Drift { node, ppm } => {
                cluster.world.set_drift(cluster.host(node), ppm);
                sometimes("clock drifts");
            }
            Act::TransferLeader(at) => run.operator.order(Order::Transfer(at as u64 + 1)),
            Act::KillClient(client) => run.clients.kill(client),
            Act::WipeChunk(at) => cluster.wipe_chunk(at, &mut self.rng),
            Act::CloneChunk { at, running } => cluster.clone_chunk(at, running, &mut self.rng),
            Act::CloneMeta { at, running } => cluster.clone_meta(at, running, &mut self.rng),
            Act::CopyMeta(at) => cluster.copy_meta(at, &mut self.rng),
            Act::MoveMeta(at) => cluster.move_meta(at, &mut self.rng),
            Act::WipeMeta(at) => cluster.wipe_meta(at, &mut self.rng),
            Act::ReplaceMeta { at, lost } => {
                if lost {
                    cluster.stop(Node::Meta(at), true);
                    cluster.metas[at].lost = true;
                }
                let new = cluster.join_meta(&mut self.rng);
                cluster.metas[at].retired = true;
                run.operator.order(Order::Replace {
                    old: at as u64 + 1,
                    new,
                });
            }
        }
    }

    fn fail_disk(&mut self, run: &mut Run, node: Node, how: DiskFault) {
        let disk = self.disk(&run.cluster.disks(node));
        match how {
            DiskFault::Sync(nth) => disk.fail_sync(nth),
            DiskFault::Write(nth) => disk.fail_write(nth),
            DiskFault::Read(nth) => disk.fail_read(nth),
            DiskFault::Lost(nth) => disk.lose_write(nth),
            DiskFault::Misdirected(nth) => disk.misdirect_write(nth),
            DiskFault::Flip => {
                let files = disk.files().into_iter().filter(|name| name.contains('/'));
                let lengths = files.map(|name| (disk.length(&name).unwrap_or(0), name));
                let files: Vec<(u64, String)> = lengths.filter(|(length, _)| *length > 0).collect();
                if files.is_empty() {
                    return;
                }
                let (length, name) = &files[self.rng.below(files.len() as u64) as usize];
                // Arenas begin with what is used first.
                let offset = self.rng.below((*length).min(1 << 20));
                disk.flip(name, offset, self.rng.below(8) as u8);
                sometimes("bit flipped");
            }
        }
        match node {
            Node::Meta(at) => run.cluster.metas[at].damaged = true,
            Node::Chunk(at) => {
                run.cluster.harmed.store(true, Ordering::Relaxed);
                run.cluster.chunks[at].damaged = true;
            }
        }
    }
}

fn set_links(run: &Run, node: Node, link: Link) {
    let cluster = &run.cluster;
    let host = cluster.host(node);
    for other in cluster.nodes().into_iter().filter(|other| *other != node) {
        let other = cluster.host(other);
        for (from, to) in [(host, other), (other, host)] {
            let open = cluster.world.link(from, to).open;
            cluster.world.set_link(from, to, Link { open, ..link });
        }
    }
}

fn set_timing(run: &Run, node: Node, half: (u64, u64)) {
    let disks = run.cluster.disks(node);
    disks
        .iter()
        .for_each(|disk| disk.set_timing(&run.cluster.world, half));
}
