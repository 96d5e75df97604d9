//! The checkpoint: the index on disk, so that the journal before it can be let go.

mod image;
mod run;

pub(crate) use image::{CheckpointEncoder, CheckpointImage, decode};
pub(crate) use run::Checkpoint;
