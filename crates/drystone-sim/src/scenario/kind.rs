//! Scenarios: `mixed` has a little of everything; the others have more of what it has too little of.

use crate::clients::Pace;
use crate::cluster::Shape;
use drystone_types::ByteCount;
use std::time::Duration;

/// What a run is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, clap::ValueEnum)]
pub enum Kind {
    /// Everything.
    #[default]
    Mixed,
    /// Answers are lost and leaders pause while chunk ids age quickly: clients ask again, and late.
    Retry,
    /// One chunk server's disk garbles much of what it holds.
    Rot,
    /// One voter, whose log is damaged in one place: it refuses to start, or has lost nothing.
    Lone,
    /// Names and tiny contents only, no chunk server: leaders are deposed without knowing it while clients look.
    Names,
    /// Names and tiny contents only, no chunk server: one voter after some time comes back elsewhere as the copy that
    /// somebody made of it, again and again.
    Moves,
    /// Chunks come and go fast on disks of small arenas; disk operations get stuck for seconds, and go on when what they
    /// were for is long gone, or the power goes meanwhile.
    Space,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mixed => "mixed",
            Kind::Retry => "retry",
            Kind::Rot => "rot",
            Kind::Lone => "lone",
            Kind::Names => "names",
            Kind::Moves => "moves",
            Kind::Space => "space",
        }
    }

    /// Changes the shape that the seed drew.
    pub(super) fn shape(self, shape: &mut Shape) {
        match self {
            Kind::Mixed | Kind::Rot => {}
            Kind::Retry => {
                shape.metas = shape.metas.max(3);
                shape.grant_age = Duration::from_secs(2);
            }
            Kind::Space => {
                // Above what goes to the journal, so that chunks are written in place, too.
                shape.policy.chunk_bytes = ByteCount(256 << 10);
                shape.inline_max = 0;
                shape.disks = 1;
                shape.arena = 1 << 20;
                // Stuck operations must not keep all others back.
                shape.io_threads = 16;
                shape.grant_age = Duration::from_secs(2);
                shape.doomed_grace = Duration::ZERO;
            }
            Kind::Lone => {
                shape.metas = 1;
                // What the log has lost must not be in a checkpoint.
                shape.checkpoint = Duration::from_secs(600);
            }
            Kind::Names | Kind::Moves => {
                shape.metas = shape.metas.max(3);
                shape.chunks = 0;
                shape.inline_max = 4096;
                // Two of three voters will do.
                shape.policy.degraded_minimum = 2;
            }
        }
    }

    /// Bytes that one write has at most.
    pub(super) fn largest(self) -> u32 {
        match self {
            // Appended to a few times it still is inline.
            Kind::Names | Kind::Moves => 300,
            _ => 300 << 10,
        }
    }

    /// How long the cluster may take to delete what nothing refers to: it must fall below the floor, and its grace be over.
    pub(super) fn settles(self, shape: &Shape) -> Duration {
        match self {
            Kind::Names | Kind::Moves => Duration::from_secs(2),
            _ => shape.grant_age * 3 + shape.doomed_grace + Duration::from_secs(30),
        }
    }

    /// Changes the pace that the seed drew, and how long the run is, in microseconds.
    pub(super) fn pace(self, pace: &mut Pace, length: &mut u64) {
        match self {
            Kind::Mixed => {}
            Kind::Lone | Kind::Rot => pace.deadline = Duration::from_secs(8),
            Kind::Retry => {
                *length = (*length).max(10_000_000);
                pace.deadline = Duration::from_secs(8);
                pace.pause = Duration::from_millis(300);
                pace.operations = 40;
            }
            Kind::Space => {
                *length = 15_000_000;
                pace.deadline = Duration::from_secs(3);
                pace.pause = Duration::from_millis(150);
                pace.operations = 80;
            }
            Kind::Names => {
                *length = 8_000_000;
                pace.pause = Duration::from_millis(60);
                pace.operations = 80;
                pace.readers = true;
            }
            Kind::Moves => {
                *length = 20_000_000;
                pace.pause = Duration::from_millis(150);
                pace.operations = 100;
            }
        }
    }
}
