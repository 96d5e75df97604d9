//! The Raft driver and its log: raft-rs over drystone-wal, synchronous and deterministic.
//!
//! Owns: one voter (or learner) of one group: elections, replication, membership, ReadIndex, the log on disk and
//! the entries in memory, and the order of things around fsync. Never: does disk work once it is open (it emits
//! [`IoRequest`](drystone_env::IoRequest)s and takes completions), reads a clock, draws randomness of its own,
//! starts a thread, knows what a command means, holds a state machine's data.
//!
//! What holds. A message that promises something (a vote, an acknowledged entry) leaves only after the sync of what
//! it promises. [`Output::Committed`] brings every committed entry once per open, in order, without gaps, from the
//! applied index that open was given. A proposal's token is answered exactly once: with its committed entry, or by
//! [`Output::ProposalDropped`], which says whether it can still happen. A read's token is answered exactly once.
//! After a storage error nothing but [`Output::Fatal`] comes out. The same inputs and seed give the same outputs.
//!
//! How the shell drives it: call [`RaftNode::on_batch`] with whatever has arrived and the time; do the outputs in
//! order; call it again at the latest at the last [`Output::Wake`], with no input if nothing else came.
//!
//! Read `event.rs` for the inputs and outputs, then `node.rs`, then `log/` for what is on disk.

// raft-rs's generated messages have setters for some fields: all are filled one by one.
#![allow(clippy::field_reassign_with_default)]

mod codec;
mod config;
mod error;
mod event;
mod log;
mod node;
mod plausible;
mod salvage;
mod status;

pub use config::{RaftConfig, Start};
pub use error::{DropReason, FatalError, OpenError};
pub use event::{
    CommittedEntry, EntryKind, Input, Opened, OpenedEntry, Output, ReadFailure, SnapshotMeta,
    SnapshotTransfer,
};
pub use node::RaftNode;
pub use salvage::{Rescued, RescuedEntry, rescue};
pub use status::{MemberStatus, Role, Status};

use drystone_types::{LogIndex, Term};

/// A log begins after this index: the state of a new group is "as of index 1, term 1", and its first entry has
/// index 2. So a member that starts with nothing can never be fed from the first entry on: it takes a snapshot,
/// which tells it the membership.
pub const BOOTSTRAP_INDEX: LogIndex = LogIndex(1);
/// The term of [`BOOTSTRAP_INDEX`].
pub const BOOTSTRAP_TERM: Term = Term(1);
