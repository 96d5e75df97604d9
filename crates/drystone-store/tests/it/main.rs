//! The store at its boundary, on simulated disks.

#![allow(clippy::unwrap_used)]

mod basics;
mod checkpoint;
mod corpus;
mod crowded;
mod damage;
mod emptying;
mod fuzzed;
mod harness;
mod image;
mod killed;
mod large_moves;
mod model;
mod schedules;
mod space;
