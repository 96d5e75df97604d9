//! Arenas that stay nearly empty: their chunks are moved, and nothing is lost, given twice or kept by it.

use crate::harness::{How, K64, M1, Sim, content, deletion, emptying};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, Rng};
use drystone_store::format::UNIT;
use drystone_store::{IoClass, RequestId, StoreConfig, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, Epoch};
use std::collections::BTreeMap;
use std::time::Duration;

const DISK: u64 = 12 << 20;
/// Each takes one unit.
pub const LENGTH: usize = 50_000;
const WRITTEN: u64 = 80;

fn delete(sim: &mut Sim, chunk: u64) -> RequestId {
    sim.request(|request| deletion(request, chunk))
}

pub fn fence(sim: &mut Sim, chunk: u64, epoch: u64) -> RequestId {
    sim.request(|request| StoreInput::Fence {
        request,
        chunk: ChunkId(chunk),
        epoch: Epoch(epoch),
    })
}

fn survivors() -> impl Iterator<Item = u64> {
    (1..=WRITTEN).filter(|chunk| chunk % 7 == 0)
}

/// Ten arenas that were full, in each of which one or two chunks are left.
fn sparse(seed: u64) -> Sim {
    let mut sim = Sim::on(SimDisk::with_capacity(seed, DISK), seed, emptying()).unwrap();
    for chunk in 1..=WRITTEN {
        sim.write(chunk, K64, &content(chunk, 1, LENGTH)).unwrap();
    }
    // In their runs; time does not pass after that.
    sim.settle();
    for chunk in (1..=WRITTEN).filter(|chunk| chunk % 7 != 0) {
        let request = delete(&mut sim, chunk);
        sim.run();
        assert_eq!(sim.replies.remove(&request), Some(Ok(StoreReply::Deleted)));
    }
    assert!(arenas(&sim) >= 10);
    sim
}

fn arenas(sim: &Sim) -> usize {
    sim.disk.list("arenas").unwrap().len()
}

fn wait(sim: &mut Sim, ticks: u32) {
    for _ in 0..ticks {
        sim.tick(Duration::from_millis(6));
        sim.run();
    }
}

fn check(sim: &mut Sim, chunk: u64) {
    let found = sim.read_all(chunk, LENGTH as u64);
    let found = found.unwrap_or_else(|error| panic!("chunk {chunk}: {error}"));
    assert!(
        found == content(chunk, 1, LENGTH),
        "chunk {chunk} has other bytes"
    );
}

/// Until chunks are being moved.
pub fn until_moving(sim: &mut Sim) {
    for _ in 0..100 {
        sim.tick(Duration::from_millis(6));
        if !sim.store.moving().is_empty() {
            return;
        }
        sim.run();
    }
    panic!("nothing is moved");
}

#[test]
fn arenas_that_stay_nearly_empty_go_and_it_ends() {
    let mut sim = sparse(1);
    let before = sim.classes.len();
    wait(&mut sim, 400);
    let count = survivors().count() as u64;
    assert_eq!(sim.store.status().used_bytes, count * UNIT);
    // Twelve units, and what is free beside them.
    assert!(arenas(&sim) <= 4, "{} arenas are left", arenas(&sim));
    let moved = sim.store.status();
    assert!(moved.emptied_arenas >= 4, "{moved:?}");
    // No chunk goes round.
    assert!(moved.moved_chunks <= count, "{moved:?}");
    assert_eq!(moved.moved_bytes, moved.moved_chunks * LENGTH as u64);
    let behind = sim.classes[before..]
        .iter()
        .filter(|class| **class == IoClass::Scrub);
    assert!(
        behind.count() as u64 >= 3 * moved.moved_chunks,
        "copies are read and written behind everything else"
    );
    survivors().for_each(|chunk| check(&mut sim, chunk));
    wait(&mut sim, 400);
    let later = sim.store.status();
    assert_eq!(later.moved_chunks, moved.moved_chunks, "it has ended");
    let mut sim = sim.crash().unwrap();
    survivors().for_each(|chunk| check(&mut sim, chunk));
    assert_eq!(sim.store.status().used_bytes, count * UNIT);
}

/// One follows the other: a disk does not wait anew for each.
#[test]
fn many_arenas_that_stay_nearly_empty_go_together() {
    let config = StoreConfig {
        remove_after: Duration::from_secs(2),
        ..emptying()
    };
    let mut sim = Sim::on(SimDisk::with_capacity(3, 48 << 20), 3, config).unwrap();
    let written = 8 * 75;
    for chunk in 1..=written {
        sim.write(chunk, K64, &content(chunk, 1, LENGTH)).unwrap();
    }
    sim.settle();
    let left: Vec<u64> = (1..=written).filter(|chunk| chunk % 7 == 0).collect();
    for chunk in (1..=written).filter(|chunk| chunk % 7 != 0) {
        sim.delete(chunk);
    }
    let before = arenas(&sim);
    assert!(before >= 75, "{before}");
    // Three looks, and what it takes.
    wait(&mut sim, 2000);
    let status = sim.store.status();
    assert!(
        arenas(&sim) <= before / 3,
        "{} arenas of {before} are left after 12 s: {status:?}",
        arenas(&sim)
    );
    assert!(status.moved_chunks <= left.len() as u64, "{status:?}");
    left.iter().for_each(|chunk| check(&mut sim, *chunk));
}

#[test]
fn an_arena_is_not_emptied_at_once() {
    let mut sim = Sim::on(
        SimDisk::with_capacity(2, DISK),
        2,
        StoreConfig {
            remove_after: Duration::from_millis(500),
            ..emptying()
        },
    )
    .unwrap();
    for chunk in 1..=WRITTEN {
        sim.write(chunk, K64, &content(chunk, 1, LENGTH)).unwrap();
    }
    sim.settle();
    for chunk in (1..=WRITTEN).filter(|chunk| chunk % 7 != 0) {
        delete(&mut sim, chunk);
        sim.run();
    }
    wait(&mut sim, 80);
    assert_eq!(sim.store.status().moved_chunks, 0);
    wait(&mut sim, 2000);
    assert!(sim.store.status().moved_chunks > 0);
}

/// A chunk whose bytes are damaged is neither moved nor lost, it is read once, and its arena waits until it is deleted.
#[test]
fn a_damaged_chunk_keeps_its_arena() {
    for (seed, place) in [(3, 17), (4, 40_000), (5, 53_300)] {
        let mut sim = sparse(seed);
        let victim = 35;
        let (name, at) = arena_of(&sim, victim);
        sim.disk.flip(&name, at + place, 3);
        wait(&mut sim, 600);
        let status = sim.store.status();
        assert!(status.moved_chunks > 0, "{status:?}");
        assert_eq!(status.checksum_errors, 1, "it is looked at once");
        assert!(sim.disk.files().contains(&name), "{name} goes with a chunk in it");
        assert!(sim.read_all(victim, LENGTH as u64).is_err());
        for chunk in survivors().filter(|chunk| *chunk != victim) {
            check(&mut sim, chunk);
        }
        delete(&mut sim, victim);
        wait(&mut sim, 400);
        assert!(!sim.disk.files().contains(&name), "{name} is wholly free");
    }
}

/// The arena in which the chunk lies.
fn arena_of(sim: &Sim, chunk: u64) -> (String, u64) {
    let needle = content(chunk, 1, LENGTH);
    let found = sim.disk.files().into_iter().find_map(|name| {
        let bytes = sim.disk.contents(&name).filter(|_| name.starts_with("arenas/"))?;
        let mut units = bytes.chunks(UNIT as usize);
        let unit = units.position(|unit| unit.starts_with(&needle[..4096]))?;
        Some((name, unit as u64 * UNIT))
    });
    found.expect("it is in its runs")
}

#[test]
fn an_open_chunk_keeps_its_arena_until_it_is_sealed() {
    let mut sim = Sim::on(SimDisk::with_capacity(6, DISK), 6, emptying()).unwrap();
    for chunk in 1..WRITTEN - 1 {
        sim.write(chunk, K64, &content(chunk, 1, LENGTH)).unwrap();
    }
    let (open, data) = (WRITTEN, content(WRITTEN, 1, LENGTH));
    sim.append(open, LENGTH as u64, 0, &data[..9000], How::Sync);
    sim.settle();
    for chunk in (1..WRITTEN - 1).filter(|chunk| chunk % 7 != 0 || *chunk == 77) {
        delete(&mut sim, chunk);
        sim.run();
    }
    let (name, _) = arena_of(&sim, open);
    wait(&mut sim, 400);
    assert!(sim.store.status().emptied_arenas > 2);
    assert!(sim.disk.files().contains(&name), "it holds an open chunk");
    sim.append(open, LENGTH as u64, 9000, &data[9000..], How::Last(None));
    wait(&mut sim, 400);
    assert!(
        !sim.disk.files().contains(&name),
        "{name} holds only a sealed chunk"
    );
    check(&mut sim, open);
}

/// At every operation that changes the disk, from the choice of an arena until all are gone.
#[test]
fn a_crash_at_any_moment_leaves_each_chunk_in_one_place() {
    let start = sparse(7);
    let disk = start.disk.fork(7);
    drop(start);
    disk.kill();
    let mut crashes_moving = 0;
    for nth in 1.. {
        let mut sim = Sim::on(disk.fork(nth), nth, emptying()).unwrap();
        sim.disk.power_off_at(nth);
        wait(&mut sim, 200);
        if !sim.disk.is_off() {
            assert!(nth > 40 && crashes_moving > 20, "{nth} {crashes_moving}");
            return;
        }
        crashes_moving += u64::from(!sim.store.moving().is_empty());
        let mut sim = sim.crash().unwrap_or_else(|error| panic!("{nth}: {error}"));
        survivors().for_each(|chunk| check(&mut sim, chunk));
        let count = survivors().count() as u64;
        assert_eq!(sim.store.status().used_bytes, count * UNIT, "{nth}");
        // It begins anew, and comes to its end.
        wait(&mut sim, 200);
        assert!(arenas(&sim) <= 4, "{nth}: {} arenas are left", arenas(&sim));
        survivors().for_each(|chunk| check(&mut sim, chunk));
    }
}

/// A write or sync that fails ends all writing; what was moved and what was not is read, now and after the next start.
#[test]
fn a_disk_that_fails_meanwhile_loses_nothing() {
    let start = sparse(11);
    let disk = start.disk.fork(11);
    drop(start);
    disk.kill();
    for syncs in [true, false] {
        let mut failed_moving = 0;
        for nth in 1.. {
            let mut sim = Sim::on(disk.fork(nth), nth, emptying()).unwrap();
            if syncs {
                sim.disk.fail_sync(nth);
            } else {
                sim.disk.fail_write(nth);
            }
            wait(&mut sim, 150);
            if sim.store.status().read_only.is_none() {
                assert!(nth > 8 && failed_moving > 4, "{syncs} {nth} {failed_moving}");
                break;
            }
            failed_moving += u64::from(!sim.store.moving().is_empty());
            survivors().for_each(|chunk| check(&mut sim, chunk));
            let mut sim = sim.crash().unwrap_or_else(|error| panic!("{nth}: {error}"));
            survivors().for_each(|chunk| check(&mut sim, chunk));
            let count = survivors().count() as u64;
            assert_eq!(sim.store.status().used_bytes, count * UNIT, "{nth}");
        }
    }
}

/// A read that fails is the chunk's trouble, not the disk's.
#[test]
fn a_chunk_that_cannot_be_read_is_not_moved() {
    let mut sim = sparse(12);
    let victim = 35;
    let (name, at) = arena_of(&sim, victim);
    sim.disk.break_block(&name, at + 8192);
    wait(&mut sim, 600);
    let status = sim.store.status();
    assert_eq!((status.io_errors, status.read_only), (1, None), "it is read once");
    assert!(status.moved_chunks > 0);
    assert!(sim.disk.files().contains(&name), "{name} goes with a chunk in it");
    for chunk in survivors().filter(|chunk| *chunk != victim) {
        check(&mut sim, chunk);
    }
}

/// Fences, deletions and reads in the middle of it: nothing is lost and no unit is kept or given twice.
#[test]
fn what_comes_while_a_chunk_is_moved_has_its_way() {
    let mut came = [0; 3];
    for seed in 0..400 {
        let mut sim = sparse(seed);
        let mut deleted = Vec::new();
        let mut fenced = Vec::new();
        for _ in 0..60 {
            if sim.pending.is_empty() {
                sim.tick(Duration::from_millis(6));
            }
            for _ in 0..sim.rng.below(4) {
                sim.step();
            }
            let moving = sim.store.moving();
            let Some(ChunkId(chunk)) = moving.first().copied().filter(|_| sim.rng.below(3) == 0) else {
                continue;
            };
            let what = sim.rng.below(3) as usize;
            came[what] += 1;
            match what {
                0 => {
                    fenced.push(fence(&mut sim, chunk, 2));
                }
                1 => {
                    delete(&mut sim, chunk);
                    deleted.push(chunk);
                }
                _ => {
                    sim.request(|request| StoreInput::Read {
                        request,
                        chunk: ChunkId(chunk),
                        placement: None,
                        offset: 0,
                        length: LENGTH as u32,
                        io_class: IoClass::default(),
                    });
                }
            }
        }
        sim.settle();
        for (request, reply) in std::mem::take(&mut sim.replies) {
            match reply {
                Ok(StoreReply::Data { .. } | StoreReply::Deleted) => {}
                Ok(StoreReply::Fenced { epoch, length }) => {
                    assert_eq!((epoch, length), (Epoch(2), Some(LENGTH as u64)), "seed {seed}");
                }
                Err(StoreError::NotFound { .. } | StoreError::Busy) => {}
                other => panic!("seed {seed}: {request:?} {other:?}"),
            }
        }
        let left: Vec<u64> = survivors().filter(|chunk| !deleted.contains(chunk)).collect();
        for _ in 0..2 {
            left.iter().for_each(|chunk| check(&mut sim, *chunk));
            assert_eq!(
                sim.store.status().used_bytes,
                left.len() as u64 * UNIT,
                "seed {seed}"
            );
            sim = sim.crash().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
    assert!(came.iter().all(|count| *count > 100), "{came:?}");
}

/// When space runs short the arena serves again: also the units that its chunks had, but not before the records that say so are
/// durable.
#[test]
fn a_disk_that_fills_up_meanwhile_loses_nothing() {
    let (mut moved, mut acknowledged) = (0, 0);
    for seed in 0..300 {
        let mut sim = sparse(seed);
        until_moving(&mut sim);
        for _ in 0..sim.rng.below(30) {
            sim.step();
        }
        let nth = 1 + sim.rng.below(60);
        sim.disk.power_off_at(nth);
        let (mut next, mut asked) = (1000, BTreeMap::new());
        while !sim.disk.is_off() && next < 1200 {
            let request = sim.append(next, K64, 0, &content(next, 1, LENGTH), How::Last(None));
            asked.insert(request, next);
            for _ in 0..sim.rng.below(5) {
                sim.step();
            }
            next += 1;
        }
        moved += sim.store.status().moved_chunks;
        let answered = std::mem::take(&mut sim.replies).into_iter();
        let kept: Vec<u64> = answered
            .filter_map(|(request, reply)| asked.get(&request).copied().filter(|_| reply.is_ok()))
            .collect();
        acknowledged += kept.len();
        let mut sim = sim.crash().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        survivors().chain(kept).for_each(|chunk| check(&mut sim, chunk));
        for chunk in 1000..next {
            if let Ok(found) = sim.read_all(chunk, LENGTH as u64) {
                assert!(
                    found == content(chunk, 1, LENGTH),
                    "seed {seed}: chunk {chunk} has other bytes"
                );
            }
        }
    }
    assert!(moved > 100 && acknowledged > 100, "{moved} {acknowledged}");
}

/// It gives way: what is free in the arena can be had, and no arena is made while there are free units.
#[test]
fn the_units_of_the_arena_can_be_had_when_they_are_needed() {
    let mut sim = sparse(9);
    until_moving(&mut sim);
    let before = arenas(&sim);
    let free = DISK - survivors().count() as u64 * UNIT;
    let mut written = 0;
    for chunk in 1000.. {
        match sim.write(chunk, K64, &content(chunk, 1, LENGTH)) {
            Ok(_) => written += 1,
            Err(StoreError::NoSpace { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(arenas(&sim) >= before);
    assert!(
        written * UNIT > free * 3 / 4,
        "{written} chunks were written into {free} bytes"
    );
    survivors().for_each(|chunk| check(&mut sim, chunk));
}

/// Whatever is left of whatever was written, in whatever order: after a while nothing is moved any more.
#[test]
fn it_ends_for_any_content() {
    let (mut moved, mut most) = (0, 0);
    for seed in 0..120 {
        let mut sim = Sim::on(SimDisk::with_capacity(seed, DISK), seed, emptying()).unwrap();
        let mut held = BTreeMap::new();
        for chunk in 1..=60 {
            let length = 1 + sim.rng.below(230_000) as usize;
            match sim.write(chunk, M1, &content(chunk, 1, length)) {
                Ok(_) => held.insert(chunk, length),
                Err(_) => break,
            };
        }
        sim.settle();
        let keep = 1 + sim.rng.below(30);
        let gone: Vec<u64> = held
            .keys()
            .copied()
            .filter(|_| sim.rng.below(100) >= keep)
            .collect();
        for chunk in gone {
            delete(&mut sim, chunk);
            sim.run();
            held.remove(&chunk);
        }
        wait(&mut sim, 500);
        let first = sim.store.status().moved_chunks;
        wait(&mut sim, 300);
        let last = sim.store.status().moved_chunks;
        assert_eq!(first, last, "seed {seed}: of {} chunks", held.len());
        moved += last;
        most = most.max(last.saturating_sub(held.len() as u64));
        for (chunk, length) in &held {
            let found = sim.read_all(*chunk, *length as u64).unwrap();
            assert!(found == content(*chunk, 1, *length), "seed {seed}: chunk {chunk}");
        }
    }
    assert!(
        moved > 100 && most < 10,
        "{moved} were moved, {most} more than there are"
    );
}
