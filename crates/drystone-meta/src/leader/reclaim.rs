//! Replicas to delete: of doomed chunks, and orphans that can never be committed.
//!
//! An order is given only for a state that is committed and cannot be undone (a doomed record, or an id below the
//! grant floor without a record that names the replica), and names the placement it is about.

use super::confirmed::Confirmed;
use super::deletion_limit::DeletionLimit;
use super::orphan::Orphan;
use drystone_env::Monotonic;
use drystone_proto::command::ChunkReplica;
use drystone_proto::data::{OrderAck, ServerOrder};
use drystone_proto::record::{ChunkRecord, PlacedReplica, ReplicaRecord};
use std::collections::BTreeMap;
use std::time::Duration;

/// A replica to delete.
pub(crate) type Order = (u64, ReplicaRecord);

/// Doomed replicas kept per disk: more are read when these are gone.
const PER_DISK: usize = 8_192;
/// Replicas without a record that wait for the floor; more are forgotten and found by a later comparison.
const ORPHANS: usize = 65_536;
/// An order for an orphan that is not confirmed is given again after this time: others have their turn meanwhile.
const REPEAT: Duration = Duration::from_secs(10);
/// An order that its server refused, or whose disk failed, is given again after this time.
const REFUSED: Duration = Duration::from_secs(60);
/// Orders on doomed chunks leave at least one in this many places of a heartbeat to orphans.
const ORPHANS_SHARE: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    disk: u64,
    incarnation: u64,
    chunk: u64,
    placement: u64,
}

impl Key {
    fn new(chunk: u64, replica: &ReplicaRecord) -> Self {
        Self {
            disk: replica.disk,
            incarnation: replica.incarnation,
            chunk,
            placement: replica.placement,
        }
    }

    fn order(self) -> Order {
        let Self {
            disk,
            incarnation,
            chunk,
            placement,
        } = self;
        (
            chunk,
            ReplicaRecord {
                disk,
                incarnation,
                placement,
            },
        )
    }
}

struct KnownOrphan {
    /// What it holds.
    bytes: u64,
    /// Until then its deletion is not ordered (again).
    not_before: Option<Monotonic>,
}

/// Of one disk: (chunk, placement), and from when on its deletion may be ordered.
type DoomedReplicas = BTreeMap<(u64, u64), Option<Monotonic>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Reclaim {
    /// (disk, incarnation) -> (chunk, placement) -> when it may be ordered (again), after a refusal.
    doomed: BTreeMap<(u64, u64), DoomedReplicas>,
    /// Replicas without a record, until they are gone or turn out to have one.
    orphans: BTreeMap<Key, KnownOrphan>,
    confirmed: Confirmed<Key>,
    deletion_limit: DeletionLimit,
}

impl Reclaim {
    /// Doomed chunks as the namespace has them; replicas on disks that nobody holds any more are gone.
    pub(crate) fn doom(&mut self, chunks: &[ChunkRecord], held: impl Fn(u64, u64) -> bool) {
        for chunk in chunks {
            for replica in chunk.holders().map(PlacedReplica::replica) {
                let key = Key::new(chunk.id, &replica);
                if !held(replica.disk, replica.incarnation) {
                    self.confirmed.add(key);
                } else if !self.confirmed.contains(&key) {
                    let disk = self.doomed.entry((key.disk, key.incarnation)).or_default();
                    if disk.len() < PER_DISK {
                        disk.entry((key.chunk, key.placement)).or_default();
                    }
                }
            }
        }
    }

    /// Replicas that a server reported without a record: looked at again when they are below the floor.
    pub(crate) fn add_orphans(&mut self, replicas: Vec<Orphan>) {
        for orphan in replicas {
            let key = Key::new(orphan.chunk, &orphan.replica);
            if let Some(known) = self.orphans.get_mut(&key) {
                known.bytes = orphan.bytes;
            } else if self.orphans.len() < ORPHANS {
                let (bytes, not_before) = (orphan.bytes, None);
                self.orphans.insert(key, KnownOrphan { bytes, not_before });
            }
        }
    }

    /// This replica has a record after all.
    pub(crate) fn remove_orphan(&mut self, chunk: u64, replica: &ReplicaRecord) {
        self.orphans.remove(&Key::new(chunk, replica));
    }

    /// Orders for at most `room` of these orphans on `node`, as far as the deletion limit lets them go. All of them stay here
    /// until they are confirmed.
    pub(crate) fn admit(
        &mut self,
        (node, used): (u64, u64),
        now: Monotonic,
        orphans: Vec<Orphan>,
        room: usize,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        for orphan in &orphans {
            if orders.len() >= room {
                break;
            }
            if self.deletion_limit.admit(node, used, now, orphan) {
                orders.push((orphan.chunk, orphan.replica));
            }
        }
        assert!(orders.len() <= room, "no more orders than there is room for");
        self.add_orphans(orphans);
        for (chunk, replica) in &orders {
            if let Some(known) = self.orphans.get_mut(&Key::new(*chunk, replica)) {
                known.not_before = Some(now.plus(REPEAT));
            }
        }
        orders
    }

    /// An operator has looked at what the deletion limit holds back on `node`; false if it holds nothing.
    pub(crate) fn release_sweep(&mut self, node: u64, now: Monotonic) -> bool {
        self.deletion_limit.release(node, now)
    }

    /// What limits the orders for orphans.
    pub(crate) fn deletion_limit(&self) -> &DeletionLimit {
        &self.deletion_limit
    }

    /// At most `limit` orphans on these disks whose chunks are below the floor now, and whose deletion was not ordered
    /// just before. Each disk gets an equal share, so that one that hangs does not keep the others waiting.
    pub(crate) fn due_orphans(
        &self,
        disks: &[(u64, u64)],
        floor: u64,
        now: Monotonic,
        limit: usize,
    ) -> Vec<Orphan> {
        let waits = |known: &KnownOrphan| known.not_before.is_some_and(|time| now < time);
        let of_disk = |&(disk, incarnation): &(u64, u64)| {
            let key = |chunk: u64| Key {
                disk,
                incarnation,
                chunk,
                placement: 0,
            };
            let orphans = self.orphans.range(key(0)..key(floor));
            orphans.filter(|(_, known)| !waits(known))
        };
        let mut disks: Vec<_> = disks.iter().map(of_disk).collect();
        let mut due = Vec::new();
        while !disks.is_empty() && due.len() < limit {
            disks.retain_mut(|disk| match disk.next() {
                Some((key, known)) if due.len() < limit => {
                    let (chunk, replica) = key.order();
                    let bytes = known.bytes;
                    due.push(Orphan {
                        chunk,
                        replica,
                        bytes,
                    });
                    true
                }
                _ => false,
            });
        }
        due
    }

    /// Replicas of doomed chunks to delete on these disks, at most `limit` less a share that is left to orphans. An
    /// order is repeated until it is acknowledged, after a refusal only when some time has passed. Each disk gets an
    /// equal share, so that one that refuses or is slow does not keep the others waiting.
    pub(crate) fn orders_for(&self, disks: &[(u64, u64)], now: Monotonic, limit: usize) -> Vec<Order> {
        let limit = limit - limit / ORPHANS_SHARE;
        let mut due: Vec<_> = (disks.iter())
            .filter_map(|disk| Some((disk, self.doomed.get(disk)?)))
            .map(|(&(disk, incarnation), chunks)| {
                let due = chunks
                    .iter()
                    .filter(|(_, not_before)| not_before.is_none_or(|time| now >= time));
                due.map(move |(&(chunk, placement), _)| {
                    let key = Key {
                        disk,
                        incarnation,
                        chunk,
                        placement,
                    };
                    key.order()
                })
            })
            .collect();
        let mut orders = Vec::new();
        while !due.is_empty() && orders.len() < limit {
            due.retain_mut(|disk| match disk.next() {
                Some(order) if orders.len() < limit => {
                    orders.push(order);
                    true
                }
                _ => false,
            });
        }
        orders
    }

    /// What a server did with these orders. Those that it refused wait: others have their turn.
    pub(crate) fn acknowledge(&mut self, acks: &[OrderAck], now: Monotonic) {
        for ack in acks {
            let Some(order) = ack.order.as_ref().and_then(ServerOrder::as_delete) else {
                continue;
            };
            let Some(replica) = &order.replica else { continue };
            let key = Key::new(order.chunk, replica);
            if ack.code == 0 {
                self.confirm(key);
            } else {
                self.refused(key, now);
            }
        }
    }

    fn confirm(&mut self, key: Key) {
        self.orphans.remove(&key);
        let doomed = self.doomed.get_mut(&(key.disk, key.incarnation));
        // An orphan has no record that would have to forget it.
        if doomed.is_some_and(|disk| disk.remove(&(key.chunk, key.placement)).is_some()) {
            self.confirmed.add(key);
        }
    }

    fn refused(&mut self, key: Key, now: Monotonic) {
        let later = Some(now.plus(REFUSED));
        if let Some(orphan) = self.orphans.get_mut(&key) {
            orphan.not_before = later;
        }
        let doomed = self.doomed.get_mut(&(key.disk, key.incarnation));
        if let Some(not_before) = doomed.and_then(|disk| disk.get_mut(&(key.chunk, key.placement))) {
            *not_before = later;
        }
    }

    /// At most `limit` confirmed deletions, to be logged, those that wait longest first; they stay until
    /// [`Reclaim::logged`].
    pub(crate) fn to_log(&self, limit: usize) -> Vec<ChunkReplica> {
        let orders = self.confirmed.iter().take(limit).map(Key::order);
        orders
            .map(|(chunk, replica)| ChunkReplica {
                chunk,
                replica: Some(replica),
            })
            .collect()
    }

    /// These have been logged.
    pub(crate) fn logged(&mut self, replicas: &[ChunkReplica]) {
        for replica in replicas {
            if let Some(record) = &replica.replica {
                self.confirmed.remove(&Key::new(replica.chunk, record));
            }
        }
    }
}

#[cfg(test)]
mod tests;
