use super::*;
use crate::memory::MemoryStore;
use crate::namespace::Settings;
use crate::read::Caller;
use crate::redundancy::{Redundancy, RedundancyCount, Tally};
use drystone_proto::grant::ClusterKey;
use drystone_proto::record::{
    ChunkState, DiskRecord, NodeRecord, PlacedReplica, PlacementState, PolicyRecord, role,
};
use drystone_types::{HistoryId, LogIndex, ShardId};
use std::sync::Arc;

/// Six nodes with a disk each, and commands applied up to index 100.
fn namespace() -> Namespace<MemoryStore> {
    let settings = Settings {
        shard: ShardId(0),
        key: ClusterKey([1; 32]),
        history: HistoryId([2; 16]),
    };
    let mut ns = Namespace::open(Arc::new(MemoryStore::default()), settings).unwrap();
    ns.skip(LogIndex(100));
    for id in 1..=6 {
        let command = drystone_proto::command::RegisterNode {
            node: Some(NodeRecord {
                id,
                incarnation: 1,
                roles: role::CHUNK,
                disks: vec![DiskRecord {
                    id,
                    incarnation: 1,
                    ..DiskRecord::default()
                }],
                ..NodeRecord::default()
            }),
        };
        assert_eq!(ns.register_node(&context(), &command).unwrap().code, 0);
    }
    ns
}

fn context() -> Context {
    Context {
        index: 100,
        since: 100 << 16,
        now: 1,
        wall: 1,
        caller: Caller::superuser(),
    }
}

fn disk(id: u64) -> DiskRef {
    DiskRef {
        disk: DiskId(id),
        incarnation: Incarnation(1),
    }
}

fn replica(id: u64, placement: u64) -> ReplicaRecord {
    ReplicaRecord::new(disk(id), PlacementIndex(placement))
}

/// A chunk of 10 bytes that wants three replicas.
fn chunk(id: u64, verified: &[u64]) -> ChunkRecord {
    let placed = |&id: &u64| PlacedReplica::new(replica(id, 5), PlacementState::Verified);
    ChunkRecord {
        id,
        state: ChunkState::Sealed as i32,
        length: 10,
        policy: Some(PolicyRecord {
            replicas: 3,
            ..PolicyRecord::default()
        }),
        replicas: verified.iter().map(placed).collect(),
        ..ChunkRecord::default()
    }
}

/// Counted in slices of one set; what is under redundant, lost, and exposed to one more failure, in chunks.
fn count(ns: &Namespace<MemoryStore>, away: &[u64]) -> (u64, u64, u64) {
    let is_live = |disk: DiskRef| !away.contains(&disk.disk.0);
    let mut count = RedundancyCount::begin(ns, is_live).unwrap();
    let found: Redundancy = loop {
        if let Some(found) = count.step(ns, 1).unwrap() {
            break found;
        }
    };
    let chunks = |tally: Tally| {
        assert_eq!(tally.bytes, 10 * tally.chunks);
        tally.chunks
    };
    (
        chunks(found.under_redundant()),
        chunks(found.lost()),
        chunks(found.exposure(1)),
    )
}

#[test]
fn a_copy_that_is_being_made_below_the_floor_is_no_orphan() {
    let mut ns = namespace();
    ns.state.grant_floor = 1_000;
    let mut record = chunk(7, &[1, 2]);
    let copy = PlacedReplica::new(replica(3, 90), PlacementState::Placing);
    record.replicas.push(copy);
    ns.put_chunk(&context(), None, &record).unwrap();
    let recorded = |replica| ns.is_recorded(ChunkId(7), &replica).unwrap();
    assert_eq!(recorded(replica(3, 90)), Recorded::Named);
    assert_eq!(recorded(replica(1, 5)), Recorded::Named);
    assert_eq!(
        recorded(replica(1, 4)),
        Recorded::Never,
        "another placement on a disk that holds the chunk"
    );
    assert_eq!(
        recorded(replica(3, 101)),
        Recorded::Undecided,
        "placed by a command that this state has not applied"
    );
    assert_eq!(recorded(replica(4, 5)), Recorded::Never);
    let none = ns.is_recorded(ChunkId(1_000), &replica(4, 5)).unwrap();
    assert_eq!(
        none,
        Recorded::Undecided,
        "at the floor it may still be committed"
    );
}

#[test]
fn a_disk_may_hold_two_placements_of_a_chunk() {
    let mut ns = namespace();
    let mut record = chunk(7, &[1, 2]);
    record
        .replicas
        .push(PlacedReplica::new(replica(2, 90), PlacementState::Placing));
    ns.put_chunk(&context(), None, &record).unwrap();
    let on = |ns: &Namespace<MemoryStore>| {
        let first = (ChunkId(0), PlacementIndex(0));
        ns.replicas_on(disk(2), first, 10).unwrap()
    };
    assert_eq!(
        on(&ns),
        [(ChunkId(7), replica(2, 5)), (ChunkId(7), replica(2, 90))]
    );
    let mut after = record.clone();
    after.replicas.retain(|held| held.replica() != replica(2, 5));
    ns.put_chunk(&context(), Some(&record), &after).unwrap();
    assert_eq!(on(&ns), [(ChunkId(7), replica(2, 90))]);
}

#[test]
fn redundancy_is_counted_from_the_sets_of_disks() {
    let mut ns = namespace();
    let cx = context();
    let placed: [&[u64]; 6] = [&[1, 2, 3], &[1, 2, 3], &[1, 2, 4], &[4, 5, 6], &[1, 5], &[6]];
    for (id, disks) in (1..).zip(placed) {
        ns.put_chunk(&cx, None, &chunk(id, disks)).unwrap();
    }
    // Chunks 5 and 6 were written with fewer replicas than their policy asks for.
    assert_eq!(count(&ns, &[]), (2, 0, 1));
    assert_eq!(ns.below_policy(ChunkId(0), 10).unwrap(), [ChunkId(5), ChunkId(6)]);
    assert_eq!(count(&ns, &[1]), (5, 0, 2));
    assert_eq!(count(&ns, &[1, 2]), (5, 0, 5), "a chunk on both is counted once");
    assert_eq!(count(&ns, &[1, 2, 3]), (3, 2, 3));
    assert_eq!(count(&ns, &[6]), (2, 1, 0));
    assert_eq!(count(&ns, &[1, 2, 3, 4, 5, 6]), (0, 6, 0));
    // A doomed chunk is not missed.
    let doomed = ChunkRecord {
        state: ChunkState::Doomed as i32,
        ..chunk(6, &[6])
    };
    ns.put_chunk(&cx, Some(&chunk(6, &[6])), &doomed).unwrap();
    assert_eq!(count(&ns, &[6]), (2, 0, 0));
    assert_eq!(ns.below_policy(ChunkId(0), 10).unwrap(), [ChunkId(5)]);
    // A replica that is damaged, or being made, counts for nothing.
    let mut damaged = chunk(4, &[4, 5, 6]);
    damaged.replicas[0].state = PlacementState::Damaged as i32;
    ns.put_chunk(&cx, Some(&chunk(4, &[4, 5, 6])), &damaged).unwrap();
    assert_eq!(ns.below_policy(ChunkId(0), 10).unwrap(), [ChunkId(4), ChunkId(5)]);
    assert_eq!(count(&ns, &[5]), (2, 0, 2));
    // All is taken back with the last chunk.
    for (id, disks) in (1..).zip(placed).take(3) {
        ns.end_chunk(&chunk(id, disks)).unwrap();
    }
    ns.end_chunk(&damaged).unwrap();
    ns.end_chunk(&chunk(5, &[1, 5])).unwrap();
    assert_eq!(ns.disks_in_use().unwrap(), []);
    assert_eq!(count(&ns, &[1, 2, 3, 4, 5, 6]), (0, 0, 0));
}

#[test]
fn a_disk_that_no_node_holds_is_away() {
    let mut ns = namespace();
    let mut record = chunk(1, &[1, 2, 3]);
    record.replicas[0].incarnation = 9;
    ns.put_chunk(&context(), None, &record).unwrap();
    assert_eq!(count(&ns, &[]), (1, 0, 0), "the disk was formatted anew");
}

#[test]
fn the_cost_of_a_count_is_that_of_the_sets_and_not_of_the_chunks() {
    let mut ns = namespace();
    for id in 1..=1_000 {
        ns.put_chunk(&context(), None, &chunk(id, &[1, 2, 3])).unwrap();
    }
    assert_eq!(ns.disk_sets(disk(1), &[], 10).unwrap().len(), 1);
    assert_eq!(count(&ns, &[1]), (1_000, 0, 0));
}

#[test]
fn candidates_for_loss_are_the_chunks_on_disks_that_are_away_and_those_below_their_policy() {
    let mut ns = namespace();
    // More than a page on a disk; every sixth chunk has a replica less.
    let mut expected = Vec::new();
    for id in 1..=400 {
        let first = id % 6 + 1;
        let mut disks = vec![first, first % 6 + 1, (first + 1) % 6 + 1];
        if id % 6 == 4 {
            disks.pop();
        }
        ns.put_chunk(&context(), None, &chunk(id, &disks)).unwrap();
        if disks.len() < 3 || disks.contains(&2) || disks.contains(&3) {
            expected.push(ChunkId(id));
        }
    }
    assert!(expected.len() > 200 && expected.len() < 400, "{}", expected.len());
    let is_live = |disk: DiskRef| ![2, 3].contains(&disk.disk.0);
    for after in [0, 1, 77, 399, 400] {
        let mut candidates = crate::Candidates::begin(&ns, is_live, ChunkId(after)).unwrap();
        let mut found = Vec::new();
        while let Some(chunk) = candidates.next(&ns).unwrap() {
            found.push(chunk);
        }
        let expected: Vec<_> = expected.iter().filter(|chunk| chunk.0 > after).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "above {after}");
    }
}
