//! One stretch of a stream on its way into a chunk: a synchronous state machine.
//!
//! A stretch becomes one sealed chunk if nothing fails, and several if replicas fail after bytes were released or if
//! its bytes come so slowly that the chunk would outlive its grant.
//! Inputs and time go in, outputs come out; no I/O, no clock, no randomness here.
//!
//! ```text
//! Idle -> Granting -> Writing -> (all receipts, or a third of the grant's life) -> sealed part -> Idle / Granting / done
//!                        | trouble
//!                        v
//!                     Probing (each member is asked before one is blamed)
//!                        | everything still buffered      | bytes were released
//!                        v                                v
//!                     Waiting -> Granting              Finishing at the survivors' shortest length
//!                     (rewrite elsewhere)                 -> Replacing -> Copying -> sealed part -> the rest
//! ```
//! Receipts that are missing at the end are completed the same way (Replacing, Copying) before the part is sealed; a
//! server that failed lately is asked first, if there is no other.
//!
//! [`message`] holds inputs and outputs, [`state`] what is remembered; [`advance`] and [`send`] are the way without
//! trouble, [`recover`], [`settle`] and [`suspect`] the rest. `step` numbers the phases: answers that belong to an
//! earlier phase are ignored.

mod advance;
mod message;
mod recover;
mod send;
mod settle;
mod state;
mod suspect;

pub(super) use message::{
    ChainFrame, ChainMember, ChunkInput, ChunkOutput, GrantedChunk, Note, SealedPart, Sign, StretchLimits,
    Trouble,
};
pub(super) use state::ChunkWrite;

#[cfg(test)]
mod tests;
