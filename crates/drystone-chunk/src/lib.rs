//! A chunk server: one store per disk, the chain that carries a stream chunk from hop to hop, registration and
//! heartbeat.
//!
//! Owns everything between the wire and a disk's [`drystone_store::Store`]: who may write what (grants, orders),
//! the order of frames, forwarding to the next hop, receipts, the read cache, the bounds on memory. Architecture
//! invariants: no byte is acknowledged here that the store has not called durable; this crate knows nothing of
//! files, names or the namespace's commands; a disk fails alone.
//!
//! Read [`config`], then [`server`] (how the parts are put together), [`chain`] (the protocol core of one chunk at
//! one hop), [`runner`] (the thread of one disk), [`service`] (what each request does), [`member`] (registration,
//! heartbeat, delete orders).

pub mod chain;
pub mod config;
pub mod error;
pub mod server;

pub use config::{Config, ConfigFaults};
pub use error::{DiskFault, StartError, StopReason};
pub use server::{ChunkServer, DataDirectory, DiskReport, Handle};
