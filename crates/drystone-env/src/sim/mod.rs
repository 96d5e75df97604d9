//! The seeded seams: a disk that loses, tears and rots what it may, and a clock that is moved by hand.
//!
//! Nothing here is random but by its seed: the same calls in the same order give the same disk.

mod clock;
mod damage;
mod disk;
mod faults;
mod file;
mod inode;
mod stall;
mod state;
#[cfg(test)]
mod tests;
pub mod world;

pub use clock::SimClock;
pub use damage::{Damage, Reseal};
pub use disk::{SimDisk, SimDiskStats};
pub use stall::{Stall, StallingDisk};
pub use world::World;
