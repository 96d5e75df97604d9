//! Replicas to delete: of doomed chunks, and orphans that can never be committed.
//!
//! An order is given only for a state that is committed and cannot be undone (a doomed record, or an id below the
//! grant floor without a record that names the replica), and names the placement it is about.

use super::deletion_limit::DeletionLimit;
use super::orphan::Orphan;
use drystone_env::Monotonic;
use drystone_proto::command::ChunkReplica;
use drystone_proto::data::DeleteOrder;
use drystone_proto::record::{ChunkRecord, PlacedReplica, ReplicaRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A replica to delete.
pub(crate) type Order = (u64, ReplicaRecord);

/// Doomed replicas kept per disk: more are read when these are gone.
const PER_DISK: usize = 8_192;
/// Replicas without a record that wait for the floor; more are forgotten and found by a later comparison.
const ORPHANS: usize = 65_536;
/// An order for an orphan that is not confirmed is given again after this time: others have their turn meanwhile.
const REPEAT: Duration = Duration::from_secs(10);
/// Deletions that wait to be logged; beyond it they are reported again by the next scan.
const CONFIRMED: usize = 65_536;

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
    /// When its deletion was ordered last.
    ordered: Option<Monotonic>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Reclaim {
    doomed: BTreeMap<(u64, u64), BTreeSet<(u64, u64)>>,
    /// Replicas without a record, until they are gone or turn out to have one.
    orphans: BTreeMap<Key, KnownOrphan>,
    confirmed: BTreeSet<Key>,
    deletion_limit: DeletionLimit,
}

impl Reclaim {
    /// Doomed chunks as the namespace has them; replicas on disks that nobody holds any more are gone.
    pub(crate) fn doom(&mut self, chunks: &[ChunkRecord], held: impl Fn(u64, u64) -> bool) {
        for chunk in chunks {
            for replica in chunk.holders().map(PlacedReplica::replica) {
                let key = Key::new(chunk.id, &replica);
                if !held(replica.disk, replica.incarnation) {
                    self.add_confirmed(key);
                } else if !self.confirmed.contains(&key) {
                    let disk = self.doomed.entry((key.disk, key.incarnation)).or_default();
                    if disk.len() < PER_DISK {
                        disk.insert((key.chunk, key.placement));
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
                let (bytes, ordered) = (orphan.bytes, None);
                self.orphans.insert(key, KnownOrphan { bytes, ordered });
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
        self.add_orphans(orphans);
        for (chunk, replica) in &orders {
            if let Some(known) = self.orphans.get_mut(&Key::new(*chunk, replica)) {
                known.ordered = Some(now);
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
    /// just before.
    pub(crate) fn due_orphans(
        &self,
        disks: &[(u64, u64)],
        floor: u64,
        now: Monotonic,
        limit: usize,
    ) -> Vec<Orphan> {
        let mut due = Vec::new();
        for &(disk, incarnation) in disks {
            let key = |chunk: u64| Key {
                disk,
                incarnation,
                chunk,
                placement: 0,
            };
            let waits = |known: &KnownOrphan| {
                let ordered = known.ordered.map(|at| now.since(at));
                ordered.is_some_and(|since| since < REPEAT)
            };
            let orphans = self.orphans.range(key(0)..key(floor));
            let orphans = orphans.filter(|(_, known)| !waits(known));
            due.extend(orphans.take(limit - due.len()).map(|(key, known)| {
                let (chunk, replica) = key.order();
                let bytes = known.bytes;
                Orphan {
                    chunk,
                    replica,
                    bytes,
                }
            }));
        }
        due
    }

    /// What is to be deleted on these disks. It is repeated until it is confirmed.
    pub(crate) fn orders_for(&self, disks: &[(u64, u64)], limit: usize) -> Vec<Order> {
        let orders = disks
            .iter()
            .filter_map(|disk| Some((disk, self.doomed.get(disk)?)))
            .flat_map(|(disk, chunks)| {
                chunks.iter().map(|&(chunk, placement)| {
                    Key {
                        disk: disk.0,
                        incarnation: disk.1,
                        chunk,
                        placement,
                    }
                    .order()
                })
            });
        orders.take(limit).collect()
    }

    /// A server has carried these out.
    pub(crate) fn confirm(&mut self, orders: &[DeleteOrder]) {
        for order in orders {
            let Some(replica) = &order.replica else { continue };
            let key = Key::new(order.chunk, replica);
            self.orphans.remove(&key);
            let doomed = self.doomed.get_mut(&(key.disk, key.incarnation));
            // An orphan has no record that would have to forget it.
            if doomed.is_some_and(|disk| disk.remove(&(key.chunk, key.placement))) {
                self.add_confirmed(key);
            }
        }
    }

    fn add_confirmed(&mut self, key: Key) {
        if self.confirmed.len() < CONFIRMED {
            self.confirmed.insert(key);
        }
    }

    /// At most `limit` confirmed deletions, to be logged; they stay until [`Reclaim::logged`].
    pub(crate) fn to_log(&self, limit: usize) -> Vec<ChunkReplica> {
        let orders = self.confirmed.iter().take(limit).map(|key| key.order());
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
mod tests {
    use super::*;
    use drystone_proto::record::PlacementState;

    fn replica(disk: u64) -> ReplicaRecord {
        ReplicaRecord {
            disk,
            incarnation: 1,
            placement: 9,
        }
    }

    #[test]
    fn an_order_is_repeated_until_it_is_confirmed_and_then_logged_once() {
        let mut reclaim = Reclaim::default();
        let chunk = ChunkRecord {
            id: 5,
            replicas: [1, 2, 3]
                .map(|disk| PlacedReplica::new(replica(disk), PlacementState::Verified))
                .to_vec(),
            ..ChunkRecord::default()
        };
        reclaim.doom(std::slice::from_ref(&chunk), |disk, _| disk != 3);
        assert_eq!(reclaim.orders_for(&[(1, 1), (3, 1)], 10), [(5, replica(1))]);
        assert_eq!(reclaim.orders_for(&[(1, 1)], 10).len(), 1);
        let order = DeleteOrder {
            chunk: 5,
            replica: Some(replica(1)),
            order: bytes::Bytes::new(),
        };
        reclaim.confirm(&[order.clone(), order]);
        assert_eq!(reclaim.orders_for(&[(1, 1)], 10), []);
        let log = reclaim.to_log(10);
        assert_eq!(log.len(), 2);
        reclaim.doom(std::slice::from_ref(&chunk), |disk, _| disk != 3);
        assert_eq!(reclaim.orders_for(&[(1, 1)], 10), []);
        reclaim.logged(&log);
        assert_eq!(reclaim.to_log(10), []);
    }

    #[test]
    fn a_replica_without_a_record_waits_for_the_floor() {
        let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
        let orphan = |chunk, disk| Orphan {
            chunk,
            replica: replica(disk),
            bytes: 7,
        };
        reclaim.add_orphans(vec![orphan(5, 1), orphan(9, 1), orphan(5, 2)]);
        assert_eq!(reclaim.due_orphans(&[(1, 1)], 5, now, 10), []);
        assert_eq!(reclaim.due_orphans(&[(1, 1)], 6, now, 10), [orphan(5, 1)]);
        assert_eq!(
            reclaim.due_orphans(&[(1, 1), (2, 1)], 10, now, 2),
            [orphan(5, 1), orphan(9, 1)]
        );
        reclaim.remove_orphan(5, &replica(1));
        assert_eq!(
            reclaim.due_orphans(&[(1, 1), (2, 1)], 10, now, 9),
            [orphan(9, 1), orphan(5, 2)]
        );
    }

    #[test]
    fn an_order_for_an_orphan_is_repeated_until_it_is_confirmed_and_others_have_their_turn() {
        let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
        let orphan = |chunk| Orphan {
            chunk,
            replica: replica(1),
            bytes: 7,
        };
        reclaim.add_orphans(vec![orphan(1), orphan(2)]);
        let due = reclaim.due_orphans(&[(1, 1)], 100, now, 1);
        assert_eq!(reclaim.admit((7, 0), now, due, 1), [(1, replica(1))]);
        // The reply is lost; the next one is about the other.
        let due = reclaim.due_orphans(&[(1, 1)], 100, now, 1);
        assert_eq!(due, [orphan(2)]);
        reclaim.admit((7, 0), now, due, 1);
        assert_eq!(reclaim.due_orphans(&[(1, 1)], 100, now, 1), []);
        let later = now.plus(REPEAT);
        let due = reclaim.due_orphans(&[(1, 1)], 100, later, 9);
        assert_eq!(due, [orphan(1), orphan(2)], "both are ordered again");
        let done = DeleteOrder {
            chunk: 1,
            replica: Some(replica(1)),
            order: bytes::Bytes::new(),
        };
        reclaim.confirm(&[done]);
        assert_eq!(reclaim.due_orphans(&[(1, 1)], 100, later, 9), [orphan(2)]);
        assert_eq!(reclaim.to_log(9), [], "no record has to forget it");
    }

    #[test]
    fn orphans_beyond_the_deletion_limit_or_the_room_wait() {
        let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
        let orphans = (0..4).map(|chunk| Orphan {
            chunk,
            replica: replica(1),
            bytes: 400 << 20,
        });
        let orphans: Vec<_> = orphans.collect();
        let orders = reclaim.admit((7, 1 << 30), now, orphans.clone(), 1);
        assert_eq!(orders, [(0, replica(1))]);
        let waiting = reclaim.due_orphans(&[(1, 1)], 100, now, 10);
        assert_eq!(waiting, orphans[1..]);
        let orders = reclaim.admit((7, 1 << 30), now, waiting, 10);
        assert_eq!(orders, [(1, replica(1))], "1 GiB an hour at least, no more");
        assert!(reclaim.deletion_limit().stops(7, now));
        let waiting = reclaim.due_orphans(&[(1, 1)], 100, now, 10);
        assert_eq!(waiting, orphans[2..]);
        assert!(reclaim.release_sweep(7, now));
        assert_eq!(reclaim.admit((7, 1 << 30), now, waiting, 10).len(), 2);
    }
}
