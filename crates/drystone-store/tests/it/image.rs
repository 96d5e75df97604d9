//! A store in every state that recovery must tell apart.

use crate::harness::{How, K64, Sim, content};
use drystone_env::sim::SimDisk;
use drystone_store::StoreInput;
use drystone_types::{ChunkId, Epoch};

/// The chunks of the image are 1 to this.
pub const CHUNKS: u64 = 9;

pub fn bytes_of(chunk: u64) -> Vec<u8> {
    content(chunk, 1, 3000 + chunk as usize * 4500)
}

/// A store with chunks in their runs, chunks in the journal only, open ones and a fenced one.
pub fn image(seed: u64) -> SimDisk {
    let mut sim = Sim::new(seed);
    for chunk in 1..=4 {
        sim.write(chunk, K64, &bytes_of(chunk)).unwrap();
    }
    // The checkpoint tells one that is open, beside the leaf of the others.
    sim.append(7, K64, 0, &bytes_of(7), How::Sync);
    sim.settle();
    sim.store.begin_checkpoint();
    sim.settle();
    for chunk in 5..=6 {
        sim.write(chunk, K64, &bytes_of(chunk)).unwrap();
    }
    for chunk in 8..=CHUNKS {
        sim.append(chunk, K64, 0, &bytes_of(chunk), How::Sync);
    }
    sim.run();
    sim.ask(|request| StoreInput::Fence {
        request,
        chunk: ChunkId(8),
        epoch: Epoch(2),
    })
    .unwrap();
    // The mark behind the last batch makes damage to it known.
    for _ in 0..3 {
        sim.now = sim.now.plus(std::time::Duration::from_millis(11));
        sim.input(StoreInput::Tick);
        sim.run();
    }
    sim.disk.kill();
    sim.disk
}
