//! What a lone voter has instead of peers: exports of its state, and recovery from what is left.

pub mod recover;

#[cfg(fuzzing)]
pub mod export;
#[cfg(not(fuzzing))]
pub(crate) mod export;
pub(crate) mod export_schedule;
pub(crate) mod rebuild;
