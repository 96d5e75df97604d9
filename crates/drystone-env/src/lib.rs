//! The seams between Drystone and the world: clock, randomness, disk, network, tasks.
//!
//! Owns the traits, the real implementations ([`os`]) and the seeded ones ([`sim`]). Architecture invariant:
//! outside [`os`] nothing in the workspace reads a clock, draws randomness, opens a file or socket or starts a
//! task, so that whatever runs on a seeded [`Env`] runs the same way every time.
//!
//! Read [`disk`] for what a crash may do to written bytes, then [`io`] for how protocol cores ask for disk work
//! without doing it, then [`buffer`].

pub mod buffer;
pub mod clock;
pub mod connections;
pub mod disk;
pub mod io;
pub mod net;
pub mod os;
pub mod planted;
pub mod rng;
pub mod sim;
pub mod spawn;
pub mod sync;

pub use buffer::{BufferMut, BufferPool};
pub use clock::{Clock, Monotonic, WallTime};
pub use connections::Connections;
pub use disk::{Disk, DiskFile, OpenOptions, Space};
pub use io::{IoCompletion, IoOp, IoOutput, IoRequest, IoToken, Room};
pub use net::{BoxStream, Listener, Net, Stream};
pub use rng::{Rng, SeededRng};
pub use spawn::Spawn;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A future that owns what it needs and may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// The seams of one node, cheap to clone. Disks are opened one by one and are not part of it.
#[derive(Clone)]
pub struct Env {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Connections.
    pub net: Arc<dyn Net>,
    /// Tasks and threads.
    pub spawn: Arc<dyn Spawn>,
    /// Seed from which each component splits its own generator by name, see [`Env::rng`].
    pub seed: u64,
    /// What [`Env::number`] gives next; begins with 0.
    pub numbers: Arc<AtomicU64>,
}

impl Env {
    /// A generator for the component called `name`: the same name in the same environment gives the same
    /// numbers.
    pub fn rng(&self, name: &str) -> SeededRng {
        SeededRng::new(self.seed).split(name)
    }

    /// A number that this environment and its clones give once: it tells components of one name apart, and depends on
    /// nothing outside, as a static counter would.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}
