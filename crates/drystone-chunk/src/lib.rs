//! A chunk server: one store per disk, the chain that carries a stream chunk from hop to hop, registration and
//! heartbeat.
//!
//! Owns everything between the wire and a disk's [`drystone_store::Store`]: who may write what (grants, orders),
//! the order of frames, forwarding to the next hop, receipts, the read cache, the bounds on memory. Architecture
//! invariants: no byte is acknowledged here that the store has not called durable; this crate knows nothing of
//! files, names or the namespace's commands; a disk fails alone.
//!
//! Read [`config`], then [`server`] (how the parts are put together), [`chain`] (the protocol core of one chunk at
//! one hop, and the shell around it), `disk` (the thread of one disk), `service` (what each request does), `member`
//! (registration, heartbeat, delete orders, a start on disks that missed some boots).

#![allow(
    clippy::result_large_err,
    reason = "an error reply is moved once per failed request; boxing it would only hide that"
)]

pub mod chain;
mod changes;
pub mod config;
mod disk;
pub mod error;
mod grants;
mod locks;
mod member;
mod memory;
mod metrics;
mod orders;
mod refusals;
pub mod server;
mod service;
mod signatures;
mod standing;

pub use config::{Config, ConfigFaults};
pub use disk::directory::DataDirectory;
pub use error::{DiskFault, StartError, StopError, StopReason};
pub use server::{ChunkServer, DiskReport, Handle};

/// What this build calls itself in a hello.
const SOFTWARE: &str = concat!("drystone/", env!("CARGO_PKG_VERSION"));
