//! The binary as real processes: what a user does, and what happens to a user.
//!
//! `cargo xtask test --only system` runs these tests, one at a time.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod attributes;
mod basics;
mod broken_off;
mod commands;
mod crashes;
mod crowded;
mod damage;
mod descriptors;
mod door;
mod faults;
mod fills;
mod full;
mod garbage;
mod http;
mod import;
mod lost;
mod members;
mod memory;
mod mounts;
mod processes;
mod recover;
mod status;
mod tour;
