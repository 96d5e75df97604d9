//! Large chunks that are moved out of nearly empty arenas, in pieces, while they are read.

use crate::emptying::{LENGTH, fence, until_moving};
use crate::harness::{How, K64, M1, Sim, content, emptying};
use drystone_env::sim::SimDisk;
use drystone_env::{IoOp, Rng};
use drystone_store::{IoClass, RequestId, StoreConfig, StoreInput, StoreReply};
use drystone_types::{ChunkId, Epoch};
use std::time::Duration;

/// Takes 20 units.
const LARGE: usize = 1_300_000;
/// The large chunk of each arena that is left.
const LARGE_LEFT: [u64; 4] = [1, 101, 201, 301];

/// Four arenas of 256 units, in each of which a large chunk and sixteen small ones are left: more than are moved at once.
fn large(seed: u64) -> Sim {
    let config = StoreConfig {
        arena_bytes: Some(16 << 20),
        spare_bytes: 1 << 20,
        ..emptying()
    };
    let mut sim = Sim::on(SimDisk::with_capacity(seed, 120 << 20), seed, config).unwrap();
    for first in LARGE_LEFT {
        write_large(&mut sim, first);
        for chunk in first + 1..=first + 16 {
            sim.write(chunk, K64, &content(chunk, 1, LENGTH)).unwrap();
        }
        (first + 17..first + 28).for_each(|chunk| write_large(&mut sim, chunk));
    }
    sim.settle();
    for first in LARGE_LEFT {
        (first + 17..first + 28).for_each(|chunk| sim.delete(chunk));
    }
    sim
}

fn write_large(sim: &mut Sim, chunk: u64) {
    let data = content(chunk, 1, LARGE);
    let (one, two) = data.split_at(1 << 20);
    for (offset, part, how) in [(0, one, How::Sync), (M1, two, How::Last(None))] {
        let request = sim.append(chunk, LARGE as u64, offset, part, how);
        sim.run();
        sim.replies.remove(&request).unwrap().unwrap();
    }
    // Its grant was longer.
    sim.settle();
}

/// A read of several pieces, and a fence that reads all of a chunk step by step: between their steps the chunk is moved, and
/// all that is free is given to others and written over.
#[test]
fn a_read_goes_on_while_its_chunk_is_moved_and_its_units_are_wanted() {
    let mut moved_meanwhile = 0;
    for seed in 0..40 {
        let mut sim = large(seed);
        until_moving(&mut sim);
        let victim = sim.store.moving()[0].0;
        assert!(LARGE_LEFT.contains(&victim));
        let offset = sim.rng.below(LARGE as u64 - M1);
        let read = sim.request(|request| StoreInput::Read {
            request,
            chunk: ChunkId(victim),
            placement: None,
            offset,
            length: M1 as u32,
            io_class: IoClass::default(),
        });
        let fenced = fence(&mut sim, victim, 2);
        // Some of their steps come before.
        for _ in 0..sim.rng.below(12) {
            sim.step();
        }
        while sim.store.moving().contains(&ChunkId(victim)) && sim.step_but_reads() {}
        let was_moved = !sim.store.moving().contains(&ChunkId(victim));
        let is_answered = [read, fenced].map(|request| sim.replies.contains_key(&request));
        moved_meanwhile += u64::from(was_moved && is_answered != [true, true]);
        // The arena serves again, for others are still in it.
        let append = |sim: &mut Sim, chunk| {
            sim.append(chunk, K64 * 10, 0, &content(chunk, 1, 600_000), How::Last(None))
        };
        let asked: Vec<RequestId> = (1000..1200).map(|chunk| append(&mut sim, chunk)).collect();
        for _ in 0..20 {
            while sim.step_but_reads() {}
            sim.tick(Duration::from_millis(6));
        }
        let written = asked
            .iter()
            .filter(|request| matches!(sim.replies.get(request), Some(Ok(_))));
        let written = written.count();
        assert!(written > 100, "what is free is written over: {written}");
        sim.settle();
        match sim.replies.remove(&read) {
            Some(Ok(StoreReply::Data { data, .. })) => {
                let all = content(victim, 1, LARGE);
                let at = offset as usize;
                assert!(data == all[at..at + M1 as usize], "seed {seed}: other bytes");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        let verified = StoreReply::Fenced {
            epoch: Epoch(2),
            length: Some(LARGE as u64),
        };
        assert_eq!(sim.replies.remove(&fenced), Some(Ok(verified)), "seed {seed}");
        assert_eq!(sim.store.status().checksum_errors, 0, "seed {seed}");
    }
    assert!(moved_meanwhile > 15, "{moved_meanwhile} were moved between steps");
}

/// A large chunk is never in memory as a whole.
#[test]
fn a_large_chunk_is_moved_in_pieces() {
    let mut sim = large(10);
    for _ in 0..200 {
        sim.tick(Duration::from_millis(6));
        loop {
            for request in &sim.pending {
                let bytes = match &request.op {
                    IoOp::Read { length, .. } => u64::from(*length),
                    IoOp::Write { parts, .. } => parts.iter().map(|part| part.len() as u64).sum(),
                    _ => 0,
                };
                assert!(bytes <= M1 + (8 << 10), "{bytes} bytes at once");
            }
            if !sim.step() {
                break;
            }
        }
    }
    let status = sim.store.status();
    assert!(status.moved_bytes >= LARGE as u64, "{status:?}");
    let mut sim = sim.crash().unwrap();
    for chunk in LARGE_LEFT {
        assert!(sim.read_all(chunk, LARGE as u64).unwrap() == content(chunk, 1, LARGE));
    }
}
