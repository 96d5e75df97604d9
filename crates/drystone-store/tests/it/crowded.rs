//! File systems that others fill to the last byte.

use crate::harness::{How, K64, Sim, content, tiny_leaves};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, OpenOptions};
use drystone_store::StoreConfig;
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

/// Stores on one file system.
struct Neighbours {
    stores: Vec<Sim>,
    bytes: u64,
    least_free: u64,
}

impl Neighbours {
    fn new(seed: u64, count: u64, bytes: u64, config: &StoreConfig) -> Self {
        let mut all = Self {
            stores: Vec::new(),
            bytes,
            least_free: bytes,
        };
        for store in 0..count {
            let free = all.free();
            let disk = SimDisk::with_capacity(seed << 8 | store, free);
            all.stores.push(Sim::on(disk, seed, config.clone()).unwrap());
        }
        all.share();
        all
    }

    fn free(&self) -> u64 {
        let taken = |sim: &Sim| sim.disk.space().map(|space| space.total - space.free).unwrap();
        self.bytes.saturating_sub(self.stores.iter().map(taken).sum())
    }

    /// What one has taken the others have not.
    fn share(&mut self) {
        let free = self.free();
        for sim in &self.stores {
            let space = sim.disk.space().unwrap();
            sim.disk.set_capacity(space.total - space.free + free);
        }
        self.least_free = self.least_free.min(free);
    }

    /// Until nothing is under way anywhere; time does not pass.
    fn run(&mut self) {
        loop {
            let mut has_worked = false;
            for store in 0..self.stores.len() {
                if self.stores[store].step() {
                    has_worked = true;
                    self.share();
                }
            }
            if !has_worked {
                return;
            }
        }
    }

    fn tick(&mut self) {
        self.stores
            .iter_mut()
            .for_each(|sim| sim.tick(Duration::from_millis(30)));
        self.run();
    }
}

/// Once the journals of all grew into what is left to metadata servers, each by what it had left for itself.
#[test]
fn journals_of_neighbours_leave_most_of_the_reserve() {
    let reserve = 5 << 20;
    let config = StoreConfig {
        reserve_bytes: reserve,
        segment_bytes: 2 << 20,
        checkpoint_bytes: 4 << 20,
        arena_bytes: Some(4 << 20),
        leaf_bytes: 16 << 10,
        ..tiny_leaves()
    };
    for (seed, count) in [(1, 3), (2, 6), (3, 12)] {
        let mut all = Neighbours::new(seed, count, count * (110 << 20), &config);
        // Chunks that take much and write little, until nobody has room.
        let (mut chunk, mut refused) = (0, 0);
        while refused < count {
            refused = 0;
            chunk += 1;
            for store in 0..all.stores.len() {
                // The first ten are written to later.
                let most = if chunk <= 10 { 2 << 20 } else { 12 << 20 };
                let request = all.stores[store].append(chunk, most, 0, &content(chunk, 1, 4096), How::Sync);
                all.run();
                let answer = all.stores[store].replies.remove(&request).expect("answered");
                refused += u64::from(answer.is_err());
            }
        }
        (0..10).for_each(|_| all.tick());
        assert!(all.free() >= reserve, "{} stores leave {}", count, all.free());
        let mut appended = 0;
        for burst in 0..80 {
            let mut asked = Vec::new();
            for (store, sim) in all.stores.iter_mut().enumerate() {
                for chunk in 1..=10 {
                    let data = content(chunk, burst, 14 << 10);
                    let offset = 4096 + burst * data.len() as u64;
                    asked.push((store, sim.append(chunk, 2 << 20, offset, &data, How::Sync)));
                }
            }
            let mut rounds = 0;
            while asked
                .iter()
                .any(|(store, request)| !all.stores[*store].replies.contains_key(request))
            {
                all.tick();
                rounds += 1;
                assert!(rounds < 1000, "some are never answered");
            }
            for (store, request) in asked {
                all.stores[store].replies.remove(&request).unwrap().unwrap();
                appended += 1;
            }
        }
        assert_eq!(appended, 80 * 10 * count);
        // Three quarters, but for the checkpoints and the index of each.
        assert!(
            all.least_free > reserve / 4 * 3 - count * (200 << 10),
            "{count} stores left {} of {reserve}",
            all.least_free
        );
        for sim in &all.stores {
            assert_eq!(sim.store.status().read_only, None);
        }
    }
}
