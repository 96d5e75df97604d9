//! A metadata server: Raft, namespace, leader's soft state and the service in front of them.
//!
//! Owns the threads that drive the synchronous cores (raft, I/O, apply, flush) and what only a leader knows
//! (loads, chunk-id ranges, grants, orders to delete). Architecture invariant: what a client is told happened is in
//! the log of a majority; nothing here decides what a command means (drystone-namespace does) or what is
//! committed (drystone-raft does); leader's soft state can be lost at any moment without a promise breaking.
//!
//! Read [`server`] for the start and the threads, then `drive` (raft and its I/O), `apply`, `flush`, `export` (what
//! a lone voter has instead of peers), then `service` (what clients ask), `leader` (soft state) and `store` (fjall
//! behind the namespace's trait); [`recover`] is offline.

#![allow(
    clippy::result_large_err,
    reason = "refusals are error replies of the wire, moved once per refused request"
)]

pub mod config;
pub mod error;
pub mod recover;
pub mod server;
pub mod states;
pub mod store;

mod apply;
mod disk_io;
mod domains;
mod drive;
mod export;
mod flush;
mod gate;
mod layout;
mod leader;
mod log_time;
mod message;
mod metrics;
mod peers;
mod processes;
mod rebuild;
mod service;
mod shared;
mod snapshot;
mod steward;

pub use config::{Config, ConfigFaults};
pub use error::StartError;
#[cfg(fuzzing)]
pub use export::fuzzed;
pub use server::{Handle, MetadataDirectory, MetadataServer};
