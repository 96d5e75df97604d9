//! The checkpoint: the index on disk, so that the journal before it can be let go.
//!
//! Leaves that have changed go to free places of two equal files, `index-a` and `index-b`; then what is not in leaves, with the
//! places of all leaves, is written whole, twice.

mod image;
mod places;
mod run;

pub(crate) use image::{CheckpointEncoder, CheckpointHead, CheckpointImage, decode};
pub(crate) use places::Places;
pub(crate) use run::{Checkpoint, CheckpointFiles};
