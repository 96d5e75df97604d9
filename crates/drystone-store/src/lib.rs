//! One disk of a chunk server: journal, arenas, checksums, recovery.
//!
//! Owns the bytes of replicas on one disk and the promise that what it called durable is there, verified, after any
//! crash. It is a synchronous core: requests, completions and time go in ([`StoreInput`]), disk work and answers come out
//! ([`StoreOutput`]). Architecture invariants: no I/O once it is open (but the question how much space is left), no
//! thread, no clock; knows nothing of grants, chains, signatures or the wire; lengths come from the journal alone,
//! never from a file's size or a scan; no block that holds acknowledged bytes is written with other bytes; no byte
//! leaves that its checksum does not confirm.
//!
//! Words: an *arena* is a file of units of 64 KiB, a *run* is units in a row, and a chunk lies in runs
//! ([`format`](mod@format)); a chunk's *durable* bytes are those that a journal record which is synced speaks of; bytes
//! are *moved* when they were acknowledged from the journal and are written to the runs afterwards.
//!
//! [`Store`] owns the parts and carries what one of them has to say to another; no part knows it. `journal/` is the
//! log of what is durable, `index/` what it amounts to for each chunk, `space/` where chunks lie, `active/` the chunks
//! of which something is in memory, `write/` what changes chunks, `read/` reads, `checkpoint/` and `recovery/` how the
//! journal is let go and how a store is opened.
//!
//! Read `input.rs` (what can be asked), then [`format`](mod@format), `write/append.rs` and `write/step.rs` (how bytes
//! become durable), `write/moving.rs` and `checkpoint/` (how the journal is let go), then `recovery/`.

mod active;
mod checkpoint;
mod class;
mod config;
mod error;
pub mod format;
mod held;
mod index;
mod input;
mod journal;
mod query;
mod read;
mod recovery;
mod space;
mod store;
mod sums;
mod work;
mod write;

pub use class::IoClass;
pub use config::StoreConfig;
pub use error::{OpenError, StoreError};
pub use held::{HeldReplica, HeldState, Sealed};
pub use input::{
    AppendFrame, LastFrame, RecoveryReport, RequestId, Status, StoreInput, StoreOutput, StoreReply,
};
pub use store::Store;
