//! Where chunks lie: arenas, what is free in them, and the disk work on them.

mod arenas;
mod emptied;
mod files;
mod owner;
mod sparse;
mod units;

pub(crate) use arenas::{Arenas, Claim};
pub(crate) use files::{ChunkSpace, is_full};
pub(crate) use owner::Owner;
