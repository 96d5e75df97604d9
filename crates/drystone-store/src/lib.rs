//! One disk of a chunk server: journal, slots, checksums, recovery.
//!
//! Owns the bytes of replicas on one disk and the promise that what it called durable is there, verified, after any
//! crash. It is a synchronous core: requests, completions and time go in ([`Input`]), disk work and answers come out
//! ([`Output`]). Architecture invariants: no I/O once it is open (but the question how much space is left), no
//! thread, no clock; knows nothing of grants, chains, signatures or the wire; lengths come from the journal alone,
//! never from a file's size or a scan; no block that holds acknowledged bytes is written with other bytes; no byte
//! leaves that its checksum does not confirm.
//!
//! Words: a *slot* is a place for one chunk in a slot file ([`format`](mod@format)); a chunk's *durable* bytes are
//! those that a journal record which is synced speaks of; bytes are *moved* when they were acknowledged from the
//! journal and are written to the slot afterwards.
//!
//! Read `input.rs` (what can be asked), then [`format`](mod@format), `append.rs` (how bytes become durable),
//! `mover.rs` and `checkpoint.rs` (how the journal is let go), then `recovery.rs`.

mod append;
mod cache;
mod checkpoint;
mod codec;
mod config;
mod control;
mod drive;
mod error;
pub mod format;
mod index;
mod input;
mod journal;
mod live;
mod mover;
mod read;
mod record;
mod recovery;
mod slots;
mod snapshot;
mod store;

pub use config::StoreConfig;
pub use error::{OpenError, StoreError};
pub use input::{
    Input, LastFrame, Output, RecoveryReport, Replica, ReplicaState, Reply, RequestId, Sealed, Status,
};
pub use store::Store;
