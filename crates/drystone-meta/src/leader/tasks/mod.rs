//! What a leader does by itself.
//!
//! Everything here is a proposal or soft state; a step that is lost is simply done again.

mod doomed_chunks;
mod forget_replicas;
mod grant_floor;
mod housekeeping;
mod initialize;
pub(crate) mod parts;
mod redundancy;
pub(crate) mod rounds;
