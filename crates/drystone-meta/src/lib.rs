//! A metadata server: Raft, namespace, leader's soft state and the service in front of them.
//!
//! Owns the threads that drive the synchronous cores (raft, I/O, apply, flush) and what only a leader knows
//! (loads, chunk-id ranges, grants, orders to delete). Architecture invariant: what a client is told happened is in
//! the log of a majority; nothing here decides what a command means (drystone-namespace does) or what is
//! committed (drystone-raft does); leader's soft state can be lost at any moment without a promise breaking.
//!
//! Read [`server`] for the start and `wiring` for which part has what, then `raft` (the driver and its I/O), `state` (apply, flush, snapshots,
//! and fjall behind the namespace's trait), `membership`, `service` (what clients ask), `leader` (soft state and
//! background tasks) and `lone` (what a lone voter has instead of peers; [`recover`] is offline).

#![allow(
    clippy::result_large_err,
    reason = "refusals are error replies of the wire, moved once per refused request"
)]

pub mod config;
pub mod error;
pub mod lone;
pub mod server;
pub mod state;

mod handle;
mod layout;
mod leader;
mod lifecycle;
mod locks;
mod membership;
mod message;
mod metrics;
mod opening;
mod raft;
mod service;
mod wiring;

pub use config::{Config, ConfigFaults};
pub use error::{StartError, StopError};
pub use handle::Handle;
#[cfg(fuzzing)]
pub use lone::export::fuzzed;
pub use lone::recover;
pub use opening::MetadataDirectory;
pub use server::MetadataServer;
pub use state::{store, stores};
