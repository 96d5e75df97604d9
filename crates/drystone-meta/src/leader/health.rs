//! How much redundancy there is: a scan of all chunk records in slices, against the disks that live now.

use drystone_proto::record::ChunkRecord;
use std::collections::BTreeSet;

/// The result of the last whole scan.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) under_redundant: u64,
    pub(crate) lost: u64,
    pub(crate) exposure_bytes: u64,
}

impl Health {
    /// Counts a chunk.
    pub(crate) fn count(&mut self, chunk: &ChunkRecord, live: &BTreeSet<(u64, u64)>) {
        if chunk.is_doomed() {
            return;
        }
        let here = chunk.redundancy(|disk| live.contains(&(disk.disk.0, disk.incarnation.0)));
        if here == 0 {
            self.lost += 1;
        } else if here < chunk.wanted() {
            self.under_redundant += 1;
            if here == 1 {
                self.exposure_bytes += chunk.length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::record::{ChunkState, PlacedReplica, PlacementState, PolicyRecord, ReplicaRecord};

    #[test]
    fn chunks_are_counted_by_their_live_replicas() {
        let chunk = |disks: &[u64]| ChunkRecord {
            length: 100,
            policy: Some(PolicyRecord {
                replicas: 3,
                ..PolicyRecord::default()
            }),
            replicas: disks
                .iter()
                .map(|&disk| {
                    let replica = ReplicaRecord {
                        disk,
                        incarnation: 1,
                        placement: 1,
                    };
                    PlacedReplica::new(replica, PlacementState::Verified)
                })
                .collect(),
            ..ChunkRecord::default()
        };
        let live = BTreeSet::from([(1, 1), (2, 1), (3, 1)]);
        let mut health = Health::default();
        for disks in [&[1, 2, 3][..], &[1, 2, 9], &[1, 8, 9], &[7, 8, 9]] {
            health.count(&chunk(disks), &live);
        }
        assert_eq!(
            health,
            Health {
                under_redundant: 2,
                lost: 1,
                exposure_bytes: 100
            }
        );
        let mut doomed = chunk(&[]);
        doomed.state = ChunkState::Doomed as i32;
        health.count(&doomed, &live);
        assert_eq!(health.lost, 1);
    }
}
