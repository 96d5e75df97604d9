//! File systems that others fill to the last byte.

use crate::harness::{K64, Sim, content, tiny_leaves};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, OpenOptions};
use drystone_store::format::CHECKPOINT_FILES;
use std::time::Duration;

const CHUNKS: u64 = 300;

fn fill_by_others(disk: &SimDisk) {
    let space = disk.space().unwrap();
    disk.set_capacity(space.total - space.free);
    assert_eq!(disk.space().unwrap().free, 0);
}

/// What a deletion of a chunk in each leaf needs for the index is there, although another program took the rest.
#[test]
fn a_file_system_that_others_filled_takes_deletions() {
    for seed in 0..20 {
        let disk = SimDisk::with_capacity(seed, 64 << 20);
        let mut sim = Sim::on(disk, seed, tiny_leaves()).unwrap();
        for chunk in 1..=CHUNKS {
            sim.write(chunk, K64, &content(chunk, 1, 3_000)).unwrap();
        }
        sim.settle();
        fill_by_others(&sim.disk);
        for chunk in (1..=CHUNKS).filter(|chunk| chunk % 3 == 0) {
            sim.delete(chunk);
        }
        sim.store.begin_checkpoint();
        sim.settle();
        assert_eq!(sim.store.status().read_only, None, "seed {seed}");
        for round in 0..3 {
            sim = sim.crash().unwrap();
            assert_eq!(sim.store.status().read_only, None, "seed {seed}, start {round}");
            for chunk in (1..=CHUNKS).filter(|chunk| chunk % 3 != 0 && chunk % 9 > 2 * round) {
                let found = sim.read_all(chunk, 3_000).unwrap();
                assert!(found == content(chunk, 1, 3_000), "seed {seed}: chunk {chunk}");
            }
        }
    }
}

fn checkpoint_bytes(disk: &SimDisk) -> Vec<u8> {
    let file = disk.open(CHECKPOINT_FILES[1], OpenOptions::default()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A checkpoint that found no room, at its beginning or in the middle, goes on when there is some.
#[test]
fn a_checkpoint_without_room_goes_on_when_there_is_some() {
    for seed in 0..20 {
        let disk = SimDisk::with_capacity(seed, 64 << 20);
        let mut sim = Sim::on(disk, seed, tiny_leaves()).unwrap();
        for chunk in 1..=CHUNKS {
            sim.write(chunk, K64, &content(chunk, 1, 3_000)).unwrap();
        }
        sim.settle();
        sim.store.begin_checkpoint();
        for _ in 0..seed {
            sim.tick(Duration::from_millis(1));
            sim.step();
        }
        fill_by_others(&sim.disk);
        for chunk in (1..=CHUNKS).filter(|chunk| chunk % 3 == 0) {
            sim.delete(chunk);
        }
        sim.store.begin_checkpoint();
        sim.settle();
        let before = checkpoint_bytes(&sim.disk);
        sim.disk.set_capacity(64 << 20);
        sim.settle();
        sim.store.begin_checkpoint();
        sim.settle();
        assert_ne!(before, checkpoint_bytes(&sim.disk), "seed {seed}");
        let mut sim = sim.crash().unwrap();
        for chunk in (1..=CHUNKS).filter(|chunk| chunk % 3 != 0) {
            let found = sim.read_all(chunk, 3_000).unwrap();
            assert!(found == content(chunk, 1, 3_000), "seed {seed}: chunk {chunk}");
        }
        assert_eq!(sim.store.status().chunks, CHUNKS - CHUNKS / 3);
    }
}
