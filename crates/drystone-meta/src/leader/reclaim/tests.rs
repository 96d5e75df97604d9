use super::*;
use drystone_proto::data::DeleteOrder;
use drystone_proto::record::PlacementState;
use std::collections::BTreeSet;

fn ack(chunk: u64, replica: ReplicaRecord, code: u32) -> OrderAck {
    let order = DeleteOrder {
        chunk,
        replica: Some(replica),
        order: bytes::Bytes::new(),
    };
    OrderAck {
        order: Some(ServerOrder::delete(order)),
        code,
        message: String::new(),
    }
}

fn replica(disk: u64) -> ReplicaRecord {
    ReplicaRecord {
        disk,
        incarnation: 1,
        placement: 9,
    }
}

#[test]
fn an_order_is_repeated_until_it_is_confirmed_and_then_logged_once() {
    let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
    let chunk = ChunkRecord {
        id: 5,
        replicas: [1, 2, 3]
            .map(|disk| PlacedReplica::new(replica(disk), PlacementState::Verified))
            .to_vec(),
        ..ChunkRecord::default()
    };
    reclaim.doom(std::slice::from_ref(&chunk), |disk, _| disk != 3);
    assert_eq!(reclaim.orders_for(&[(1, 1), (3, 1)], now, 10), [(5, replica(1))]);
    assert_eq!(reclaim.orders_for(&[(1, 1)], now, 10).len(), 1);
    let done = ack(5, replica(1), 0);
    reclaim.acknowledge(&[done.clone(), done], now);
    assert_eq!(reclaim.orders_for(&[(1, 1)], now, 10), []);
    let log = reclaim.to_log(10);
    assert_eq!(log.len(), 2);
    reclaim.doom(std::slice::from_ref(&chunk), |disk, _| disk != 3);
    assert_eq!(reclaim.orders_for(&[(1, 1)], now, 10), []);
    reclaim.logged(&log);
    assert_eq!(reclaim.to_log(10), []);
}

#[test]
fn a_disk_that_refuses_leaves_room_for_other_disks_and_for_orphans() {
    let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
    let chunks: Vec<_> = (1..=100)
        .map(|id| ChunkRecord {
            id,
            replicas: [1, 2]
                .map(|disk| PlacedReplica::new(replica(disk), PlacementState::Verified))
                .to_vec(),
            ..ChunkRecord::default()
        })
        .collect();
    reclaim.doom(&chunks, |_, _| true);
    let disks = [(1, 1), (2, 1)];
    let orders = reclaim.orders_for(&disks, now, 40);
    assert_eq!(orders.len(), 30, "a quarter is left to orphans");
    let on = |orders: &[Order], disk| orders.iter().filter(|(_, held)| held.disk == disk).count();
    assert_eq!((on(&orders, 1), on(&orders, 2)), (15, 15));
    let refused: Vec<_> = (1..=100).map(|chunk| ack(chunk, replica(1), 5)).collect();
    reclaim.acknowledge(&refused, now);
    let orders = reclaim.orders_for(&disks, now, 40);
    assert_eq!((on(&orders, 1), on(&orders, 2)), (0, 30));
    let later = now.plus(REFUSED);
    assert_eq!(
        on(&reclaim.orders_for(&disks, later, 40), 1),
        15,
        "it is asked again"
    );
    assert_eq!(reclaim.to_log(10), [], "a refusal ends nothing");
}

#[test]
fn a_disk_whose_deletions_go_on_leaves_those_of_others_their_turn() {
    let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
    let chunks = |ids: std::ops::Range<u64>, disk| {
        let chunk = move |id| ChunkRecord {
            id,
            replicas: vec![PlacedReplica::new(replica(disk), PlacementState::Verified)],
            ..ChunkRecord::default()
        };
        ids.map(chunk).collect::<Vec<_>>()
    };
    let acks = |ids: std::ops::Range<u64>, disk| {
        let acks = ids.map(move |id| ack(id, replica(disk), 0));
        acks.collect::<Vec<_>>()
    };
    for (ids, disk) in [(0..10, 1), (0..3, 2)] {
        reclaim.doom(&chunks(ids.clone(), disk), |_, _| true);
        reclaim.acknowledge(&acks(ids, disk), now);
    }
    let mut logged = Vec::new();
    for round in 1..=3 {
        let log = reclaim.to_log(5);
        assert_eq!(log.len(), 5);
        logged.extend(log.iter().map(|gone| (gone.replica.unwrap().disk, gone.chunk)));
        reclaim.logged(&log);
        // More than are logged come meanwhile, all of them on the first disk.
        let more = round * 10..round * 10 + 10;
        reclaim.doom(&chunks(more.clone(), 1), |_, _| true);
        reclaim.acknowledge(&acks(more, 1), now);
    }
    let other = logged.iter().filter(|(disk, _)| *disk == 2).count();
    assert_eq!((other, logged.len()), (3, 15), "{logged:?}");
    let distinct: BTreeSet<_> = logged.iter().collect();
    assert_eq!(distinct.len(), 15, "once each");
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
        [orphan(5, 1), orphan(5, 2)]
    );
    reclaim.remove_orphan(5, &replica(1));
    assert_eq!(
        reclaim.due_orphans(&[(1, 1), (2, 1)], 10, now, 9),
        [orphan(9, 1), orphan(5, 2)]
    );
}

#[test]
fn orphans_of_a_disk_that_hangs_leave_room_for_those_of_others() {
    let (mut reclaim, now) = (Reclaim::default(), Monotonic(1));
    let orphan = |chunk, disk| Orphan {
        chunk,
        replica: replica(disk),
        bytes: 7,
    };
    let first = (1..=100).map(|chunk| orphan(chunk, 1));
    reclaim.add_orphans(first.chain([orphan(7, 2), orphan(8, 2)]).collect());
    let due = reclaim.due_orphans(&[(1, 1), (2, 1)], 1000, now, 6);
    let on = |disk| due.iter().filter(|orphan| orphan.replica.disk == disk).count();
    assert_eq!((on(1), on(2)), (4, 2));
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
    reclaim.acknowledge(&[ack(1, replica(1), 0)], later);
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
