//! The real seams, on Linux: the only place that names a clock, `std::fs`, `std::net` or tokio's own.

mod clock;
pub mod descriptors;
mod disk;
mod lock;
mod memory;
mod net;
mod spawn;

pub use clock::OsClock;
pub use disk::OsDisk;
pub use lock::{LockedDirectory, lock_directory};
pub use memory::memory_bytes;
pub use net::OsNet;
pub use spawn::OsSpawn;

use crate::Env;
use std::sync::Arc;

impl Env {
    /// The real environment. Must be called inside a tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime, or if the system gives no randomness.
    pub fn os() -> Env {
        let mut seed = [0; 8];
        random_bytes(&mut seed);
        Env {
            clock: Arc::new(OsClock::new()),
            net: Arc::new(OsNet::default()),
            spawn: Arc::new(OsSpawn::new()),
            seed: u64::from_le_bytes(seed),
            numbers: Arc::default(),
        }
    }
}

/// Fills `bytes` with the system's randomness, good enough for keys.
///
/// # Panics
/// If the system gives none; nothing could be run safely then.
pub fn random_bytes(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system's random source failed");
}
