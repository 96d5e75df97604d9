//! Space: what chunks take, what they give back, and that any of it serves any chunk.

use crate::harness::{How, K64, M1, Sim, content, deletion, frame, tiny};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, Rng, SeededRng};
use drystone_proto::checksum::block_checksums;
use drystone_store::format::{UNIT, units_for};
use drystone_store::{IoClass, RequestId, StoreConfig, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, PlacementIndex};
use std::collections::BTreeMap;
use std::time::Duration;

const DISK: u64 = 12 << 20;

fn free(sim: &Sim) -> u64 {
    sim.store.status().free_bytes
}

/// Writes chunks from `first` on until the disk refuses one: the lengths of those that are there.
fn fill(sim: &mut Sim, first: u64, length: impl Fn(u64) -> usize) -> BTreeMap<u64, usize> {
    let mut held = BTreeMap::new();
    for chunk in first.. {
        let length = length(chunk);
        match sim.write(chunk, M1, &content(chunk, 1, length)) {
            Ok(_) => held.insert(chunk, length),
            Err(StoreError::NoSpace { .. }) => return held,
            Err(other) => panic!("{other}"),
        };
        assert!(held.len() < 10_000, "the disk is never full");
    }
    unreachable!()
}

#[test]
fn a_disk_that_was_full_of_one_size_takes_any_other_ten_times_over() {
    let disk = SimDisk::with_capacity(20, DISK);
    let mut sim = Sim::on(disk, 20, tiny()).unwrap();
    let mut next = 1;
    for round in 0..12 {
        let lengths = |chunk: u64| match round % 4 {
            0 => 70_000,
            1 => 1_000_000,
            2 => 1 + SeededRng::new(chunk).below(200_000) as usize,
            _ => 10_000,
        };
        let held = fill(&mut sim, next, lengths);
        let taken: u64 = held.values().map(|length| units_for(*length as u64) * UNIT).sum();
        let capacity = sim.store.status().capacity_bytes;
        // The journal and the checkpoints lie on the same disk.
        assert!(
            capacity > DISK * 7 / 10,
            "round {round}: {capacity} of {DISK} bytes"
        );
        assert!(
            taken + M1 > capacity,
            "round {round}: full with {taken} of {capacity} bytes taken"
        );
        sim.settle();
        if round % 3 == 1 {
            sim = sim.crash().unwrap();
        }
        for (chunk, length) in &held {
            let found = sim.read_all(*chunk, *length as u64).unwrap();
            assert!(found == content(*chunk, 1, *length), "chunk {chunk}");
            sim.delete(*chunk);
        }
        next += held.len() as u64 + 1;
        if round % 3 == 2 {
            sim = sim.restart().unwrap();
        }
        if round % 2 == 1 {
            sim.settle();
        }
    }
}

#[test]
fn a_stream_gives_back_what_it_did_not_need() {
    let mut sim = Sim::on(SimDisk::with_capacity(21, DISK), 21, tiny()).unwrap();
    let before = free(&sim);
    for (chunk, length) in [(1, 10), (2, 70_000), (3, 500_000)] {
        let data = content(chunk, 1, length);
        let half = length / 2;
        sim.append(chunk, M1, 0, &data[..half], How::Sync);
        sim.run();
        assert_eq!(
            before - free(&sim),
            units_for(M1) * UNIT
                + (1..chunk)
                    .map(|done| units_for([10, 70_000][done as usize - 1]) * UNIT)
                    .sum::<u64>(),
            "while it grows all that it may become is kept for it"
        );
        sim.append(chunk, M1, half as u64, &data[half..], How::Last(None));
        sim.run();
    }
    let taken = [10, 70_000, 500_000].map(|length| units_for(length) * UNIT);
    assert_eq!(before - free(&sim), taken.iter().sum::<u64>());
    sim.settle();
    let mut sim = sim.crash().unwrap();
    assert_eq!(before - free(&sim), taken.iter().sum::<u64>());
    assert_eq!(sim.read_all(3, 500_000).unwrap(), content(3, 1, 500_000));
}

/// Free units that lie apart hold a chunk that needs them together, over several arenas.
#[test]
fn a_chunk_lies_in_pieces_where_there_is_no_room_in_a_row() {
    for seed in 0..6 {
        let mut sim = Sim::on(SimDisk::with_capacity(22, DISK), seed, tiny()).unwrap();
        let held = fill(&mut sim, 1, |_| 50_000);
        for chunk in held.keys().filter(|chunk| **chunk % 2 == 0) {
            sim.delete(*chunk);
        }
        let data = content(5000, 1, 900_000);
        if seed % 2 == 0 {
            sim.write(5000, M1, &data).unwrap();
        } else {
            for (at, part) in data.chunks(250_000).enumerate() {
                let at = at * 250_000;
                let how = if at + part.len() == data.len() {
                    How::Last(None)
                } else {
                    How::Sync
                };
                sim.append(5000, M1, at as u64, part, how);
            }
            sim.run();
        }
        assert_eq!(sim.read_all(5000, 900_000).unwrap(), data);
        // Past the checksums in memory.
        let mut sim = sim.crash().unwrap();
        assert_eq!(sim.read_all(5000, 900_000).unwrap(), data, "seed {seed}");
        for chunk in held.keys().filter(|chunk| **chunk % 2 == 1) {
            assert_eq!(sim.read_all(*chunk, 50_000).unwrap(), content(*chunk, 1, 50_000));
        }
    }
}

#[test]
fn the_last_part_of_a_disk_is_for_repair() {
    let mut sim = Sim::on(SimDisk::with_capacity(23, DISK), 23, tiny()).unwrap();
    fill(&mut sim, 1, |_| 50_000);
    assert!(free(&sim) < UNIT);
    let mut repaired = 0;
    for chunk in 1000..1100 {
        let data = content(chunk, 1, 50_000);
        let (sums, bytes) = (block_checksums(&data), bytes::Bytes::from(data));
        let answer = sim.ask(|request| {
            let mut input = frame(request, chunk, 1, K64, 0, bytes, sums, How::Last(None));
            if let StoreInput::Append { frame, .. } = &mut input {
                frame.io_class = IoClass::Repair;
            }
            input
        });
        match answer {
            Ok(_) => repaired += 1,
            Err(StoreError::NoSpace { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let kept = repaired * UNIT;
    assert!(
        (DISK / 25..=DISK / 15).contains(&kept),
        "repair found {kept} of {DISK} bytes"
    );
}

fn arenas(sim: &Sim) -> Vec<String> {
    sim.disk.list("arenas").unwrap()
}

#[test]
fn arenas_that_nobody_needs_are_removed_and_their_numbers_are_not_given_again() {
    let mut sim = Sim::on(SimDisk::with_capacity(24, DISK), 24, tiny()).unwrap();
    let (mut highest, mut next) = (0, 1);
    for round in 0..6 {
        let held = fill(&mut sim, next, |_| 60_000);
        next += held.len() as u64 + 1;
        let full = arenas(&sim);
        assert!(full.len() > 10, "{full:?}");
        for chunk in held.keys() {
            sim.delete(*chunk);
        }
        sim.settle();
        for _ in 0..20 {
            sim.tick(Duration::from_millis(100));
            sim.run();
        }
        let left = arenas(&sim);
        assert!(left.len() <= 3, "round {round}: {left:?} are left of {full:?}");
        let number = |name: &String| name.parse::<u32>().unwrap();
        let new = full.iter().map(number).filter(|number| *number > highest);
        if round > 0 {
            assert!(
                new.count() >= full.len() - 3,
                "round {round}: {full:?} after {highest}"
            );
        }
        highest = full.iter().map(number).max().unwrap();
        sim = match round % 3 {
            0 => sim.crash().unwrap(),
            1 => sim.restart().unwrap(),
            _ => {
                sim.store.begin_checkpoint();
                sim.settle();
                sim.crash().unwrap()
            }
        };
    }
}

/// Many streams at once: who is refused is refused with the first frame, the others come to their end.
#[test]
fn streams_that_were_let_in_do_not_run_out_of_space() {
    let mut sim = Sim::on(SimDisk::with_capacity(25, DISK), 25, tiny()).unwrap();
    let chunks = 1..=50_u64;
    let data = |chunk: u64| content(chunk, 1, 300_000 + chunk as usize * 1000);
    let first: BTreeMap<u64, _> = chunks
        .map(|chunk| {
            (
                chunk,
                sim.append(chunk, M1, 0, &data(chunk)[..100_000], How::Sync),
            )
        })
        .collect();
    sim.run();
    let mut let_in = Vec::new();
    for (chunk, request) in first {
        match sim.replies.remove(&request).expect("answered") {
            Ok(_) => let_in.push(chunk),
            Err(StoreError::NoSpace { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!((5..15).contains(&let_in.len()), "{let_in:?}");
    for chunk in &let_in {
        let data = data(*chunk);
        let last = sim.append(*chunk, M1, 100_000, &data[100_000..], How::Last(None));
        sim.run();
        assert!(
            sim.replies.remove(&last).expect("answered").is_ok(),
            "chunk {chunk}"
        );
        assert_eq!(sim.read_all(*chunk, data.len() as u64).unwrap(), data);
    }
}

/// A direct write that was issued before a seal cut the chunk may land after it: the units that it goes to are nobody
/// else's until then.
#[test]
fn units_are_not_taken_while_a_write_to_them_is_under_way() {
    for seed in 0..300 {
        let config = StoreConfig {
            arena_bytes: Some(2 << 20),
            ..tiny()
        };
        let mut sim = Sim::on(SimDisk::with_capacity(seed, 4 << 20), seed, config).unwrap();
        let data = content(1, 1, 700_000);
        sim.append(1, M1, 0, &data[..200_000], How::Sync);
        sim.run();
        sim.append(1, M1, 200_000, &data[200_000..], How::Received);
        // Some of the writes are carried out, others are not.
        for _ in 0..sim.rng.below(4) {
            sim.step();
        }
        sim.request(|request| StoreInput::Finish {
            request,
            chunk: ChunkId(1),
            epoch: drystone_types::Epoch::FIRST,
            placement: PlacementIndex(1),
            length: 150_000,
        });
        for chunk in 2..6 {
            let data = content(chunk, 1, 400_000);
            sim.append(chunk, M1, 0, &data, How::Last(None));
            for _ in 0..sim.rng.below(12) {
                sim.step();
            }
        }
        sim.settle();
        assert_eq!(sim.read_all(1, 150_000).unwrap(), data[..150_000], "seed {seed}");
        for chunk in 2..6 {
            if let Ok(found) = sim.read_all(chunk, 400_000) {
                assert!(found == content(chunk, 1, 400_000), "seed {seed}: chunk {chunk}");
            }
        }
    }
}

/// An arena goes while bytes that were in it are being moved from the journal: who waits for its sync must not wait for
/// ever.
#[test]
fn an_arena_that_goes_holds_up_nobody() {
    let mut removed = 0;
    for seed in 0..400 {
        let mut sim = Sim::on(SimDisk::with_capacity(seed, DISK), seed, tiny()).unwrap();
        // What fills whole arenas, then small ones alone in the last.
        for chunk in 1..=10 {
            sim.write(chunk, M1, &content(chunk, 1, 450_000)).unwrap();
        }
        sim.settle();
        let before = arenas(&sim).len();
        for chunk in 1..=10 {
            sim.delete(chunk);
        }
        // Arenas may go from the next tick on.
        sim.tick(Duration::from_millis(1));
        for chunk in 20..26 {
            sim.append(chunk, K64, 0, &content(chunk, 1, 5000), How::Last(None));
            for _ in 0..sim.rng.below(6) {
                sim.step();
            }
            sim.tick(Duration::from_millis(60));
            for _ in 0..sim.rng.below(6) {
                sim.step();
            }
            sim.request(|request| deletion(request, chunk));
            for _ in 0..sim.rng.below(6) {
                sim.step();
            }
        }
        // That everything is in its place after a while is asserted there.
        sim.settle();
        removed += before - arenas(&sim).len().min(before);
        sim.store.begin_checkpoint();
        sim.settle();
        sim.write(50, K64, b"still").unwrap();
    }
    assert!(removed > 400, "{removed} arenas went");
}

/// A first frame that is not to be durable waits for an arena like any other: it is answered when it is known whether there
/// is one.
#[test]
fn a_frame_that_waits_for_space_is_answered_when_it_has_some_or_none() {
    for is_there in [true, false] {
        let mut sim = Sim::on(SimDisk::with_capacity(26, DISK), 26, tiny()).unwrap();
        let data = content(1, 1, 700_000);
        let first = sim.append(1, M1, 0, &data[..100_000], How::Received);
        let second = sim.append(1, M1, 100_000, &data[100_000..200_000], How::Received);
        let synced = sim.append(1, M1, 200_000, &data[200_000..300_000], How::Sync);
        assert!(
            sim.replies.is_empty(),
            "an arena is being made: {:?}",
            sim.replies
        );
        if !is_there {
            let used = DISK - sim.disk.space().unwrap().free;
            sim.disk.set_capacity(used);
        }
        sim.run();
        for request in [first, second, synced] {
            let answer = sim.replies.remove(&request).expect("answered");
            match answer {
                Ok(StoreReply::Appended { .. }) => assert!(is_there),
                Err(StoreError::NoSpace { .. }) => assert!(!is_there),
                other => panic!("{other:?}"),
            }
        }
        if is_there {
            sim.append(1, M1, 300_000, &data[300_000..], How::Last(None));
            sim.run();
            assert_eq!(sim.read_all(1, 700_000).unwrap(), data);
        }
    }
}

/// Who needs much is served before those who come later and need little, and does not hold them up when there is not as
/// much.
#[test]
fn whoever_waits_for_space_is_served_before_those_who_come_later() {
    for is_there in [true, false] {
        for seed in 0..20 {
            let config = StoreConfig {
                spare_bytes: 512 << 10,
                ..tiny()
            };
            let mut sim = Sim::on(SimDisk::with_capacity(27, DISK), seed, config).unwrap();
            sim.run();
            assert!(free(&sim) > 4 * M1);
            let large = sim.append(1, 4 * M1, 0, &content(1, 1, 100_000), How::Received);
            let mut small = Vec::new();
            // Each arena that comes holds some of them.
            for chunk in 2..=40 {
                small.push(sim.append(chunk, K64, 0, &content(chunk, 1, 50_000), How::Last(None)));
                let waits = !sim.replies.contains_key(&large);
                let served = small
                    .iter()
                    .any(|request| sim.replies.get(request).is_some_and(Result::is_ok));
                assert!(!(waits && served), "seed {seed}: one that came later is served");
                if chunk == 4 && !is_there {
                    let used = DISK - sim.disk.space().unwrap().free;
                    sim.disk.set_capacity(used + 300_000);
                }
                if chunk % 3 == 0 {
                    sim.step();
                }
            }
            sim.run();
            let large = sim.replies.remove(&large).expect("answered");
            let small: Vec<_> = small
                .iter()
                .map(|request| sim.replies.remove(request).unwrap())
                .collect();
            match large {
                Ok(_) => assert!(is_there && small.iter().all(Result::is_ok), "seed {seed}"),
                Err(StoreError::NoSpace { .. }) => {
                    assert!(!is_there);
                    let let_in = small.iter().filter(|answer| answer.is_ok()).count();
                    assert!(let_in >= 5, "seed {seed}: {let_in}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn the_file_system_is_looked_at_when_the_store_is_asked_to() {
    let mut sim = Sim::on(SimDisk::with_capacity(28, DISK), 28, tiny()).unwrap();
    sim.run();
    let before = free(&sim);
    sim.disk.set_capacity(DISK / 2);
    assert_eq!(free(&sim), before);
    sim.store.refresh_space();
    let now = free(&sim);
    assert!(now < before - DISK * 4 / 10, "{before} bytes, then {now}");
}

/// Others have taken all that is left of the file system, and the journal gets no new segment: what is deleted goes all the
/// same, for ever.
#[test]
fn deletions_go_on_where_the_journal_cannot_grow() {
    let config = StoreConfig {
        checkpoint_bytes: 8 << 20,
        ..tiny()
    };
    let mut sim = Sim::on(SimDisk::with_capacity(29, DISK), 29, config).unwrap();
    for chunk in 1..20 {
        sim.write(chunk, K64, &content(chunk, 1, 50_000)).unwrap();
    }
    sim.settle();
    let used = DISK - sim.disk.space().unwrap().free;
    sim.disk.set_capacity(used);
    for chunk in 20..300 {
        let deleted = sim.request(|request| deletion(request, chunk - 19));
        let written = sim.append(chunk, K64, 0, &content(chunk, 1, 15_000), How::Last(None));
        for request in [deleted, written] {
            for _ in 0..100 {
                sim.run();
                if sim.replies.contains_key(&request) {
                    break;
                }
                sim.tick(Duration::from_millis(20));
            }
            let answer = sim.replies.remove(&request).expect("answered in the end");
            assert!(answer.is_ok(), "chunk {chunk}: {answer:?}");
        }
    }
    sim.settle();
    assert_eq!(sim.read_all(299, 15_000).unwrap(), content(299, 1, 15_000));
}

/// Another program has filled the file system to the last byte: what a checkpoint must write waits, and nothing else is hurt.
#[test]
fn a_checkpoint_waits_for_room() {
    let config = StoreConfig {
        checkpoint_bytes: 8 << 20,
        remove_after: Duration::from_secs(3600),
        leaf_bytes: 150,
        leaf_step_bytes: 16 << 10,
        ..tiny()
    };
    for seed in 0..20 {
        let mut sim = Sim::on(SimDisk::with_capacity(seed, 2 * DISK), seed, config.clone()).unwrap();
        for chunk in 1..20 {
            sim.write(chunk, K64, &content(chunk, 1, 50_000)).unwrap();
        }
        sim.settle();
        let used = 2 * DISK - sim.disk.space().unwrap().free;
        sim.disk.set_capacity(used + seed * 8192);
        let mut waits = Vec::new();
        for floor in 1..3000 {
            waits.push(sim.request(|request| StoreInput::RaiseFloor {
                request,
                floor: ChunkId(100_000 + floor),
            }));
            sim.run();
            if floor % 100 == 0 {
                sim.tick(Duration::from_millis(300));
                sim.run();
            }
            assert_eq!(sim.store.status().read_only, None, "seed {seed}");
        }
        assert_eq!(sim.read_all(7, 50_000).unwrap(), content(7, 1, 50_000));
        sim.disk.set_capacity(used + DISK / 2);
        for _ in 0..100 {
            sim.tick(Duration::from_millis(100));
            sim.run();
        }
        for request in waits {
            assert!(
                matches!(sim.replies.get(&request), Some(Ok(StoreReply::Floor(_)))),
                "seed {seed}"
            );
        }
        sim.store.begin_checkpoint();
        sim.settle();
        sim.write(500, K64, b"goes on").unwrap();
        let mut sim = sim.crash().unwrap();
        assert_eq!(sim.read_all(19, 50_000).unwrap(), content(19, 1, 50_000));
        assert_eq!(sim.store.floor(), ChunkId(102_999));
    }
}

/// Where no segment can be made: once the deletion of an open chunk waited for room in the journal, a checkpoint that would
/// have made some for the deletion, and all writes of the disk stood still.
#[test]
fn open_chunks_can_be_deleted_where_the_journal_cannot_grow() {
    for seed in 0..20 {
        let config = StoreConfig {
            remove_after: Duration::from_secs(3600),
            checkpoint_bytes: 8 << 20,
            ..tiny()
        };
        let mut sim = Sim::on(SimDisk::with_capacity(seed, DISK), seed, config).unwrap();
        for chunk in 1..20 {
            sim.write(chunk, K64, &content(chunk, 1, 50_000)).unwrap();
        }
        sim.settle();
        for _ in 0..4 {
            sim.store.begin_checkpoint();
            sim.settle();
        }
        // Room for index and copies, none for a segment.
        let used = DISK - sim.disk.space().unwrap().free;
        sim.disk.set_capacity(used + (200 << 10));
        let mut refused = 0;
        for chunk in 1000..1400 {
            let request = sim.append(chunk, K64, 0, &content(chunk, 1, 3000), How::Sync);
            let appended = answer(&mut sim, request);
            if let Err(error) = appended {
                assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
                refused += 1;
                continue;
            }
            for try_number in 0.. {
                assert!(try_number < 100, "seed {seed}: chunk {chunk} cannot be deleted");
                let request = sim.request(|request| deletion(request, chunk));
                match answer(&mut sim, request) {
                    Ok(_) => break,
                    Err(StoreError::Busy) => sim.tick(Duration::from_millis(50)),
                    Err(other) => panic!("seed {seed}: {other}"),
                }
            }
        }
        assert!(refused < 300, "seed {seed}: {refused} of 400 were refused");
        assert_eq!(sim.store.status().read_only, None);
    }
}

/// The answer, which comes within a second.
fn answer(sim: &mut Sim, request: RequestId) -> Result<StoreReply, StoreError> {
    for _ in 0..50 {
        sim.run();
        if let Some(result) = sim.replies.remove(&request) {
            return result;
        }
        sim.tick(Duration::from_millis(20));
    }
    panic!("{request:?} is not answered");
}
