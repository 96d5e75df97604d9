//! Chunk servers as this leader has heard them. Suspicion never deletes and never grants.

use crate::config::Config;
use drystone_env::Monotonic;
use drystone_placement::{DiskFacts, DiskState, DiskView};
use drystone_proto::cluster::DiskLoad;
use drystone_proto::record::{NodeRecord, role};
use drystone_types::{ByteCount, DiskId, DiskRef, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long placement works with the same view of the disks, unless a server comes or a disk fails: a small part of a
/// heartbeat, and the cost of looking at all disks is spread over the grants of that time.
const VIEWS_AGE: Duration = Duration::from_millis(100);
/// Before it is said that there is no space the disks are looked at again, but no more often than this while no server
/// tells anything.
const LEAST_VIEWS_AGE: Duration = Duration::from_millis(10);

/// What a server said last.
#[derive(Default)]
pub(crate) struct Server {
    /// Its last heartbeat; none since it registered.
    pub(crate) last: Option<Monotonic>,
    /// Loads of its disks.
    pub(crate) loads: Vec<DiskLoad>,
    registered: Monotonic,
}

/// Servers that reported to this leader, by node. Bounded by the nodes that the namespace knows.
#[derive(Default)]
pub(crate) struct Servers {
    servers: BTreeMap<u64, Server>,
    /// Servers that cannot be reached: nothing listens at their address, or another node.
    unreachable: BTreeSet<u64>,
    /// Servers of which nothing came back in time when they were asked: they may only be slow.
    silent: BTreeSet<u64>,
    /// Servers that wait while their removal is decided, and when they asked last.
    waiting: BTreeMap<u64, Monotonic>,
    views: Option<Views>,
}

/// The disks as placement saw them a moment ago, less what was granted since.
struct Views {
    made: Monotonic,
    /// Something changed which disks are there.
    is_old: bool,
    /// A server has told something since.
    is_behind: bool,
    disks: Vec<DiskView>,
}

/// What the disks of one device told.
#[derive(Default)]
struct Device {
    disks: u32,
    /// Free bytes that are one disk's alone.
    own: u64,
    /// Free bytes that any of the disks can take, as the one told that saw most: another may have a limit of its own.
    shared: u64,
    reserved: u64,
}

impl Device {
    fn free(&self) -> u64 {
        self.own.saturating_add(self.shared).saturating_sub(self.reserved)
    }
}

impl Servers {
    /// A server introduced itself to this leader.
    pub(crate) fn register(&mut self, node: u64, now: Monotonic) {
        self.servers.entry(node).or_default().registered = now;
        self.forget_views();
        self.unreachable.remove(&node);
        self.silent.remove(&node);
        self.waiting.remove(&node);
    }

    /// The server asked whether its removal is decided.
    pub(crate) fn note_waiting(&mut self, node: u64, now: Monotonic) {
        self.waiting.insert(node, now);
    }

    /// The server was asked to report and did not answer: nobody has to wait for it.
    pub(crate) fn note_unreachable(&mut self, node: u64) {
        if !self.servers.contains_key(&node) {
            self.unreachable.insert(node);
        }
    }

    /// True if it was asked to report and cannot be reached.
    pub(crate) fn is_unreachable(&self, node: u64) -> bool {
        self.unreachable.contains(&node)
    }

    /// The server was asked to report and nothing came back: it may be slow. Grants do not wait for it, and it is not
    /// known to be away.
    pub(crate) fn note_silent(&mut self, node: u64) {
        if !self.servers.contains_key(&node) {
            self.silent.insert(node);
        }
    }

    /// A heartbeat; false if the server must introduce itself first.
    pub(crate) fn heartbeat(&mut self, node: u64, loads: Vec<DiskLoad>, now: Monotonic) -> bool {
        let Some(server) = self.servers.get_mut(&node) else {
            return false;
        };
        let differs =
            |(old, new): (&DiskLoad, &DiskLoad)| (old.disk, old.read_only) != (new.disk, new.read_only);
        let is_news = server.last.is_none()
            || server.loads.len() != loads.len()
            || server.loads.iter().zip(&loads).any(differs);
        server.last = Some(now);
        server.loads = loads;
        if let Some(views) = &mut self.views {
            views.is_behind = true;
        }
        if is_news {
            self.forget_views();
        }
        true
    }

    /// The server was removed from the cluster.
    pub(crate) fn forget(&mut self, node: u64) {
        self.servers.remove(&node);
        self.unreachable.remove(&node);
        self.silent.remove(&node);
        self.waiting.remove(&node);
        self.forget_views();
    }

    /// What the server said last.
    pub(crate) fn get(&self, node: u64) -> Option<&Server> {
        self.servers.get(&node)
    }

    fn silence(&self, node: u64, now: Monotonic) -> Option<std::time::Duration> {
        self.servers
            .get(&node)
            .map(|server| now.since(server.last.unwrap_or(server.registered)))
    }

    /// It reported to this leader and then missed some heartbeats.
    pub(crate) fn is_suspect(&self, node: u64, now: Monotonic, config: &Config) -> bool {
        self.silence(node, now)
            .is_some_and(|silence| silence >= config.suspect_after)
    }

    /// How much longer the server must be silent before another process may take its place: it is not a suspect
    /// yet, or the office is too young to know.
    pub(crate) fn holds_for(
        &self,
        node: u64,
        now: Monotonic,
        begun: Monotonic,
        config: &Config,
    ) -> std::time::Duration {
        match self.silence(node, now) {
            Some(silence) => config.suspect_after.saturating_sub(silence),
            None => (config.suspect_after + config.heartbeat * 2).saturating_sub(now.since(begun)),
        }
    }

    /// True if its process was heard a moment ago, or may only not have found this leader yet. One that waits for its
    /// removal to be decided lives; one that is fenced for another reason counts for nothing.
    pub(crate) fn may_be_alive(
        &self,
        node: &NodeRecord,
        now: Monotonic,
        begun: Monotonic,
        config: &Config,
    ) -> bool {
        let waiting = self.waiting.get(&node.id).map(|asked| now.since(*asked));
        let heard = [self.silence(node.id, now), waiting].into_iter().flatten().min();
        match heard {
            _ if node.fenced && !node.removing => false,
            Some(silence) => silence < config.suspect_after,
            None => now.since(begun) < config.suspect_after && !self.is_unreachable(node.id),
        }
    }

    /// The state for people.
    pub(crate) fn state(&self, node: &NodeRecord, now: Monotonic, config: &Config) -> &'static str {
        match self.silence(node.id, now) {
            _ if node.fenced => "fenced",
            None => "unknown",
            Some(silence) if silence >= config.dead_after => "dead",
            Some(silence) if silence >= config.suspect_after => "suspect",
            Some(_) if node.draining => "draining",
            Some(_) => "alive",
        }
    }

    /// True if a chunk server of the cluster has sent no heartbeat to this leader yet, and it is not known that it does
    /// not answer.
    pub(crate) fn misses_some<'a>(&self, mut nodes: impl Iterator<Item = &'a NodeRecord>) -> bool {
        nodes.any(|node| {
            let counts = node.roles & role::CHUNK != 0 && !node.fenced;
            counts
                && !self.unreachable.contains(&node.id)
                && !self.silent.contains(&node.id)
                && self
                    .servers
                    .get(&node.id)
                    .is_none_or(|server| server.last.is_none())
        })
    }

    /// A record of a node was changed.
    pub(crate) fn forget_views(&mut self) {
        if let Some(views) = &mut self.views {
            views.is_old = true;
        }
    }

    /// True if the disks were looked at a moment ago, and nothing changed which are there.
    pub(crate) fn has_views(&self, now: Monotonic) -> bool {
        let views = self.views.as_ref();
        views.is_some_and(|views| !views.is_old && now.since(views.made) < VIEWS_AGE)
    }

    /// True if another look at the disks would hardly show anything new.
    pub(crate) fn has_new_views(&self, now: Monotonic) -> bool {
        let is_new = |views: &Views| !views.is_behind && now.since(views.made) < LEAST_VIEWS_AGE;
        self.has_views(now) && self.views.as_ref().is_some_and(is_new)
    }

    /// Looks at the disks of the cluster, of each of which so many bytes are `reserved`.
    pub(crate) fn look_at_disks<'a>(
        &mut self,
        nodes: impl Iterator<Item = &'a NodeRecord>,
        now: Monotonic,
        config: &Config,
        reserved: impl Fn(u64) -> u64,
    ) {
        let disks = self.look(nodes, now, config, reserved);
        self.views = Some(Views {
            made: now,
            is_old: false,
            is_behind: false,
            disks,
        });
    }

    /// The disks of the cluster, as placement saw them last; `None` before it first did.
    pub(crate) fn views(&self) -> Option<&[DiskView]> {
        self.views.as_ref().map(|views| &views.disks[..])
    }

    /// Each of these disks has promised so many bytes.
    pub(crate) fn note_taken(&mut self, disks: &[DiskRef], bytes: u64) {
        let Some(views) = &mut self.views else { return };
        for disk in disks {
            let device = views.disks.iter_mut().find_map(|view| {
                let is_it = view.disk == *disk;
                is_it.then(|| {
                    view.free.0 = view.free.0.saturating_sub(bytes);
                    view.device
                })
            });
            for view in views.disks.iter_mut().filter(|view| Some(view.device) == device) {
                view.device_free.0 = view.device_free.0.saturating_sub(bytes);
            }
        }
    }

    fn look<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeRecord>,
        now: Monotonic,
        config: &Config,
        reserved: impl Fn(u64) -> u64,
    ) -> Vec<DiskView> {
        let mut views = Vec::new();
        let mut devices = BTreeMap::<u64, Device>::new();
        for node in nodes.filter(|node| node.roles & role::CHUNK != 0) {
            let loads = match self.servers.get(&node.id) {
                Some(server) if !node.fenced => &server.loads[..],
                _ => &[],
            };
            let silence = self.silence(node.id, now);
            let is_silent_for = |time| silence.is_some_and(|silence| silence >= time);
            for disk in &node.disks {
                let load = loads.iter().find(|load| load.disk == disk.id);
                let reserved = reserved(disk.id);
                let device = devices.entry(disk.device).or_default();
                device.disks += 1;
                // What a silent server said last may be long gone.
                if let Some(load) = load.filter(|_| !is_silent_for(config.suspect_after)) {
                    let shared = load.shared_free_bytes.min(load.free_bytes);
                    device.shared = device.shared.max(shared);
                    device.own = device.own.saturating_add(load.free_bytes - shared);
                    device.reserved = device.reserved.saturating_add(reserved);
                }
                let free = load.map_or(0, |load| load.free_bytes);
                views.push(DiskView {
                    disk: DiskRef {
                        disk: DiskId(disk.id),
                        incarnation: Incarnation(disk.incarnation),
                    },
                    node: NodeId(node.id),
                    host: node.host.clone(),
                    rack: node.rack.clone(),
                    zone: node.zone.clone(),
                    device: disk.device,
                    device_disks: 1,
                    device_free: ByteCount(0),
                    free: ByteCount(free.saturating_sub(reserved)),
                    load: load.map_or(0, |load| load.queue),
                    state: DiskState::of(DiskFacts {
                        heard: load.is_some(),
                        suspect: is_silent_for(config.suspect_after),
                        dead: is_silent_for(config.dead_after),
                        read_only: load.is_some_and(|load| load.read_only),
                        full: load.is_some_and(|load| load.free_bytes == 0),
                        draining: node.draining,
                        fenced: node.fenced,
                    }),
                    draining: node.draining,
                });
            }
        }
        for view in &mut views {
            if let Some(device) = devices.get(&view.device) {
                view.device_disks = device.disks;
                view.device_free = ByteCount(device.free());
            }
        }
        views
    }

    /// True when it can be said which disks are there: every chunk server has reported to this leader, was asked to and
    /// did not answer, or had the time for it. A server that was not heard by then is away like one that fell silent.
    pub(crate) fn knows_all<'a>(
        &self,
        mut nodes: impl Iterator<Item = &'a NodeRecord>,
        now: Monotonic,
        begun: Monotonic,
        config: &Config,
    ) -> bool {
        let was_heard = |node: &NodeRecord| {
            let server = self.servers.get(&node.id);
            server.is_some_and(|server| server.last.is_some()) || self.unreachable.contains(&node.id)
        };
        now.since(begun) >= config.suspect_after + config.heartbeat * 2
            || nodes.all(|node| node.roles & role::CHUNK == 0 || node.fenced || was_heard(node))
    }

    /// Disks whose replicas count now: of servers that this leader has heard and does not suspect.
    pub(crate) fn present_disks<'a>(
        &self,
        nodes: impl Iterator<Item = &'a NodeRecord>,
        now: Monotonic,
        config: &Config,
    ) -> BTreeSet<DiskRef> {
        let mut present = BTreeSet::new();
        for node in nodes.filter(|node| node.roles & role::CHUNK != 0 && !node.fenced) {
            let server = self.servers.get(&node.id);
            let Some(server) = server.filter(|server| server.last.is_some()) else {
                continue;
            };
            if self.is_suspect(node.id, now, config) {
                continue;
            }
            for disk in &node.disks {
                // A heartbeat names every disk that is served. After a failed sync a disk serves reads as a last resort
                // and counts for no redundancy; a full one still counts.
                let load = server.loads.iter().find(|load| load.disk == disk.id);
                if load.is_some_and(|load| !load.read_only || load.free_bytes == 0) {
                    present.insert(DiskRef {
                        disk: DiskId(disk.id),
                        incarnation: Incarnation(disk.incarnation),
                    });
                }
            }
        }
        present
    }
}

#[cfg(test)]
mod tests;
