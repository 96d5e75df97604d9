//! The namespace: a deterministic state machine over an ordered store.
//!
//! Owns inodes, names, extents, chunks, nodes, sessions, and what a command does to them. Architecture
//! invariant: knows nothing of Raft, sockets, threads or clocks; equal logs give equal states on every voter.
//!
//! Reads take `&self` and see every applied command; apply changes an overlay in memory and never waits for a
//! write of the store. The store follows in numbered batches:
//!
//! ```text
//! apply thread:   outcome = namespace.write().apply(index, &entry)?
//! flush thread:   batch = namespace.write().freeze();  done = batch.write_to(&*store)?;
//!                 let old = namespace.write().flushed(done);  drop(old);   // behind the end of the lock
//!                 log.purge_below(namespace.read().synced_index())
//! snapshot:       export(&*store.view()?, ..)          // consistent at a batch, whatever is applied meanwhile
//! ```
//!
//! In order of reading: [`namespace`] (open, apply, flush), [`entry`] (what is read of the log), [`read`] (what readers
//! see), [`store`] and [`key`]
//! (what is below), then a file per noun: `resolve` and `permission` (how a command finds its files), `publish`,
//! `extents`, `convert_inline`, `chunks`, [`placements`] (where chunks are), [`redundancy`], `candidates`, `stage`, `directory`, `depth`, `link`, `rename`, `delete`, `attributes`, `session`, `idempotency`,
//! `nodes`, `ranges`, `housekeep`; [`snapshot`] for export and import.

pub mod entry;
pub mod key;
pub mod limits;
pub mod memory;
pub mod namespace;
pub mod placements;
pub mod read;
pub mod records;
pub mod redundancy;
pub mod refusal;
pub mod snapshot;
pub mod store;

mod attributes;
mod candidates;
mod chain;
mod chunks;
mod convert_inline;
mod delete;
mod depth;
mod directory;
mod extents;
mod housekeep;
mod idempotency;
mod link;
mod nodes;
mod permission;
mod publish;
mod ranges;
mod rename;
mod resolve;
mod session;
mod stage;
mod stored;
mod tables;

pub use candidates::Candidates;
pub use entry::{ApplyError, UnknownEntry, read_entry};
pub use memory::MemoryStore;
pub use namespace::{FlushBatch, Flushed, Namespace, NamespaceView, OpenError, Settings};
pub use nodes::{may_have_missed_boots, removed, removing};
pub use placements::{DiskSet, Recorded};
pub use read::{Caller, ContentPage, Counters, Found, ListPage, Want};
pub use redundancy::{Redundancy, RedundancyCount, Tally};
pub use refusal::{ReadError, Refusal};
pub use snapshot::{Feed, ImportError, SnapshotSummary, export, import};
pub use store::{Batch, Order, OrderedStore, ReadOnly, StoreError, View};
pub use tables::{LayerMerge, MergedLayers, OldLayers};
