//! Checkpoints: what they cost, and that recovery may go back to either copy.

use crate::harness::{K64, Sim, content, deletion, open, tiny_leaves};
use drystone_env::sim::SimDisk;
use drystone_env::{Rng, SeededRng};
use drystone_store::StoreError;
use drystone_store::format::{CHECKPOINT_FILES, INDEX_FILES};

fn bytes_of(chunk: u64) -> Vec<u8> {
    content(chunk, 1, 1000 + chunk as usize * 10)
}

fn delete(sim: &mut Sim, chunk: u64) {
    sim.request(|request| deletion(request, chunk));
    sim.run();
}

fn check(sim: &mut Sim, held: &[u64], seed: u64) {
    for chunk in held {
        let found = sim.read_all(*chunk, bytes_of(*chunk).len() as u64);
        let found = found.unwrap_or_else(|error| panic!("seed {seed}, chunk {chunk}: {error}"));
        assert!(found == bytes_of(*chunk), "seed {seed}: chunk {chunk}");
    }
}

/// Thirty chunks in a checkpoint, then changes, then the power goes in the middle of the next one: the disk, and what it
/// holds.
fn cut_in_a_checkpoint(seed: u64, rng: &mut SeededRng) -> (SimDisk, Vec<u64>) {
    let mut sim = Sim::on(SimDisk::new(seed), seed, tiny_leaves()).unwrap();
    let mut held: Vec<u64> = (1..=30).collect();
    for chunk in &held {
        sim.write(*chunk, K64, &bytes_of(*chunk)).unwrap();
    }
    sim.settle();
    sim.store.begin_checkpoint();
    sim.settle();
    cut(sim, &mut held, 100, rng, (8, 24))
}

/// Changes and a checkpoint in which the power goes, at one of the operations from `least` to `most`.
fn cut(
    mut sim: Sim,
    held: &mut Vec<u64>,
    first: u64,
    rng: &mut SeededRng,
    (least, most): (u64, u64),
) -> (SimDisk, Vec<u64>) {
    for chunk in first..first + 2 {
        held.push(chunk);
        sim.write(chunk, K64, &bytes_of(chunk)).unwrap();
        let gone = held.swap_remove(rng.below(held.len() as u64) as usize);
        delete(&mut sim, gone);
    }
    sim.settle();
    sim.disk.power_off_at(least + rng.below(most - least));
    sim.store.begin_checkpoint();
    sim.tick(std::time::Duration::from_millis(30));
    sim.run();
    let disk = sim.disk.clone();
    drop(sim);
    if disk.is_off() {
        disk.crash()
    } else {
        disk.kill()
    }
    (disk, held.clone())
}

/// A copy that cannot be read for one start is an older one at the next: leaves that it alone names may have been written over.
#[test]
fn recovery_goes_back_from_a_copy_whose_leaves_are_gone() {
    let (mut went_back, mut is_damaged) = (0, 0);
    for seed in 0..600 {
        let mut rng = SeededRng::new(seed);
        let (disk, mut held) = cut_in_a_checkpoint(seed, &mut rng);
        let lost = CHECKPOINT_FILES[rng.below(2) as usize];
        let bytes = disk.contents(lost).unwrap();
        disk.set_contents(lost, b"cannot be read");
        let Ok(sim) = Sim::on(disk, seed, tiny_leaves()) else {
            // The other copy was being written.
            continue;
        };
        let (disk, held) = cut(sim, &mut held, 200, &mut rng, (1, 30));
        if disk.contents(lost).unwrap() != b"cannot be read" {
            continue;
        }
        disk.set_contents(lost, &bytes);
        let (_, report) = open(&disk, tiny_leaves()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        is_damaged += usize::from(
            report
                .checkpoint_damage
                .is_some_and(|fault| fault.contains("place")),
        );
        let mut sim = Sim::on(disk, seed, tiny_leaves()).unwrap();
        check(&mut sim, &held, seed);
        went_back += 1;
    }
    assert!(
        went_back > 100 && is_damaged > 0,
        "{went_back}, {is_damaged} from one without leaves"
    );
}

/// The copy in use may rot at any time: until the older one is written over, all that it names stays.
#[test]
fn recovery_goes_back_to_the_older_copy() {
    let mut went_back = 0;
    for seed in 0..600 {
        let mut rng = SeededRng::new(seed);
        let (disk, mut held) = cut_in_a_checkpoint(seed, &mut rng);
        let before = CHECKPOINT_FILES.map(|name| disk.contents(name).unwrap());
        let sim = Sim::on(disk, seed, tiny_leaves()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (disk, held) = cut(sim, &mut held, 200, &mut rng, (1, 30));
        for (lost, kept) in [(0, 1), (1, 0)] {
            let is_whole = disk.contents(CHECKPOINT_FILES[kept]).unwrap() == before[kept];
            let alone = disk.fork(1);
            alone.set_contents(CHECKPOINT_FILES[kept], &before[kept]);
            alone.set_contents(CHECKPOINT_FILES[lost], b"rotten");
            if !is_whole || open(&alone, tiny_leaves()).is_err() && is_torn(&before[kept]) {
                continue;
            }
            let mut sim = Sim::on(alone, seed, tiny_leaves()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            check(&mut sim, &held, seed);
            went_back += 1;
        }
    }
    assert!(went_back > 200, "{went_back} went back");
}

/// True if a copy was not wholly written when the power went.
fn is_torn(copy: &[u8]) -> bool {
    let number = |at: usize| u64::from_le_bytes(copy[at..at + 8].try_into().unwrap());
    let body = copy.get(4096..).and_then(|body| body.get(..number(48) as usize));
    let sum = |at: usize| u32::from_le_bytes(copy[at..at + 4].try_into().unwrap());
    crc32c::crc32c(&copy[..68]) != sum(68) || body.is_none_or(|body| crc32c::crc32c(body) != sum(64))
}

/// The disk of a store that ended after a checkpoint, and its chunks.
fn checkpointed(seed: u64) -> (SimDisk, Vec<u64>) {
    let mut sim = Sim::on(SimDisk::new(seed), seed, tiny_leaves()).unwrap();
    let held: Vec<u64> = (1..=40).collect();
    for chunk in &held {
        sim.write(*chunk, K64, &bytes_of(*chunk)).unwrap();
    }
    sim.settle();
    sim.store.begin_checkpoint();
    sim.settle();
    sim.disk.kill();
    (sim.disk.clone(), held)
}

/// Each leaf is in two files.
#[test]
fn a_leaf_that_one_file_lacks_is_read_from_the_other_and_written_again() {
    let (disk, held) = checkpointed(9);
    for (lost, other) in [(0, 1), (1, 0)] {
        disk.set_contents(INDEX_FILES[lost], &[]);
        let (_, report) = open(&disk, tiny_leaves()).unwrap();
        assert!(report.checkpoint_damage.is_some(), "{report:?}");
        let mut sim = Sim::on(disk.clone(), 9, tiny_leaves()).unwrap();
        check(&mut sim, &held, 9);
        sim.store.begin_checkpoint();
        sim.settle();
        sim.disk.kill();
        drop(sim);
        // Both have everything again.
        let alone = disk.fork(1);
        alone.set_contents(INDEX_FILES[other], &[]);
        check(&mut Sim::on(alone, 9, tiny_leaves()).unwrap(), &held, 9);
        let (_, report) = open(&disk, tiny_leaves()).unwrap();
        assert_eq!(report.checkpoint_damage, None);
    }
}

/// One bad place in each file, of different leaves, hurts neither.
#[test]
fn each_leaf_is_looked_for_in_both_files() {
    let (disk, held) = checkpointed(11);
    for (file, place) in [(0, 1), (1, 2)] {
        let mut bytes = disk.contents(INDEX_FILES[file]).unwrap();
        bytes[place * (16 << 10)..(place + 1) * (16 << 10)].fill(7);
        disk.set_contents(INDEX_FILES[file], &bytes);
    }
    check(&mut Sim::on(disk, 11, tiny_leaves()).unwrap(), &held, 11);
}

/// A checkpoint writes what has changed, not what there is.
#[test]
fn a_checkpoint_costs_what_has_changed() {
    let mut sim = Sim::on(SimDisk::new(10), 10, tiny_leaves()).unwrap();
    let written = |sim: &mut Sim| {
        let before = sim.disk.contents(INDEX_FILES[0]).unwrap();
        sim.settle();
        sim.store.begin_checkpoint();
        sim.settle();
        let after = sim.disk.contents(INDEX_FILES[0]).unwrap();
        let places = after.chunks(16 << 10).enumerate();
        places
            .filter(|(at, place)| before.get(at * (16 << 10)..(at + 1) * (16 << 10)) != Some(place))
            .count()
    };
    for chunk in 1..=150 {
        assert!(!matches!(
            sim.write(chunk, K64, &bytes_of(chunk)),
            Err(StoreError::NoSpace { .. })
        ));
    }
    written(&mut sim);
    let places = sim.disk.contents(INDEX_FILES[0]).unwrap().len() / (16 << 10);
    assert!(places >= 50, "three chunks make a leaf: {places}");
    delete(&mut sim, 77);
    assert_eq!(written(&mut sim), 1);
    delete(&mut sim, 5);
    delete(&mut sim, 140);
    assert_eq!(written(&mut sim), 2);
    // What was freed is used again.
    let length = sim.disk.contents(INDEX_FILES[1]).unwrap().len();
    for chunk in (10..60).step_by(7) {
        delete(&mut sim, chunk);
        written(&mut sim);
    }
    assert!(sim.disk.contents(INDEX_FILES[1]).unwrap().len() <= length + (32 << 10));
}
