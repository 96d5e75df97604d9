//! The Raft log: what its records look like, what is kept in memory, how it is found again.
//!
//! Owns: the form of the records in drystone-wal, the entries in memory since the purge point, and which records
//! the log on disk may forget. Never: decides what is appended or purged.
//!
//! Read `record.rs`, then `store.rs`, then `replay.rs` (with `memberships.rs`), then `writer.rs`.

mod memberships;
mod record;
mod replay;
mod store;
mod writer;

pub(crate) use record::{Base, Record};
pub(crate) use replay::{Apply, Replay, reaches};
pub(crate) use store::{LogStore, cost};
pub(crate) use writer::LogWriter;
