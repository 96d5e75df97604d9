//! What a leader does by itself, one file and one loop for each kind of work.
//!
//! Everything here is a proposal or soft state; a step that is lost is simply done again.

mod ask_reports;
mod doomed_chunks;
mod forget_replicas;
mod grant_floor;
mod housekeeping;
mod office;
pub(crate) mod parts;
mod redundancy;
mod return_votes;
pub(crate) mod start;
mod task;
