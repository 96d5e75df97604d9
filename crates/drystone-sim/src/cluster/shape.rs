//! How big a cluster is and how it is configured, as a seed draws it.

use drystone_env::{Rng, SeededRng};
use drystone_types::{AckPolicy, ByteCount, Policy};
use std::time::Duration;

/// How a cluster is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Metadata servers.
    pub metas: u16,
    /// Chunk servers.
    pub chunks: u16,
    /// Disks of each chunk server.
    pub disks: u16,
    /// Racks over which chunk servers are spread.
    pub racks: u16,
    /// The directories' policy.
    pub policy: Policy,
    /// Largest content in a command.
    pub inline_max: u64,
    /// Age at which chunk ids fall below the floor.
    pub grant_age: Duration,
    /// How long doomed chunks are kept.
    pub doomed_grace: Duration,
    /// Log entries kept for followers that lag.
    pub log_keep: u64,
    /// Bytes of an arena.
    pub arena: u64,
    /// Operations of a disk at the same time.
    pub io_threads: usize,
    /// How often metadata servers checkpoint.
    pub checkpoint: Duration,
}

impl Shape {
    /// The shape that a seed draws.
    pub fn draw(rng: &mut SeededRng) -> Self {
        // Mostly the default; one that is weaker promises less, and is held to that.
        let ack = match rng.below(12) {
            0..9 => AckPolicy::All,
            9 => AckPolicy::Quorum,
            10 => AckPolicy::One,
            _ => AckPolicy::Memory,
        };
        let policy = Policy {
            replicas: 3,
            ack,
            degraded_minimum: [0, 0, 0, 2, 2, 2, 1][rng.below(7) as usize],
            chunk_bytes: ByteCount(64 << 10),
        };
        Self {
            metas: [1, 3, 3, 3, 3, 3, 3, 5][rng.below(8) as usize],
            chunks: 4 + rng.below(3) as u16,
            disks: 1 + rng.below(2) as u16,
            racks: 3,
            policy,
            inline_max: [0, 1024, 4096][rng.below(3) as usize],
            grant_age: Duration::from_secs(6 + rng.below(20)),
            doomed_grace: Duration::from_millis(rng.below(3000)),
            log_keep: [20, 200, 100_000][rng.below(3) as usize],
            arena: 4 << 20,
            io_threads: 2,
            checkpoint: Duration::from_millis(100 + rng.below(3000)),
        }
    }

    /// Replicas that an acknowledged write has at least.
    pub fn least_redundancy(&self) -> u32 {
        let policy = &self.policy;
        policy.receipts()
    }

    /// An acknowledgement promises disks; otherwise only memory, which a power cut of all may take.
    pub fn is_on_disk(&self) -> bool {
        self.policy.ack != AckPolicy::Memory
    }
}
