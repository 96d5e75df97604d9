//! Where chunks lie on the disk: slot files, which slots are free, and the disk work that they need.

mod files;
mod slots;

pub(crate) use files::{ChunkSpace, is_full};
pub(crate) use slots::Slots;
