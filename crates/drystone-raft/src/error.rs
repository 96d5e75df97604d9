//! Why a member does not open, stops, or drops a proposal.

use drystone_types::{LogIndex, NodeId, Term};
use drystone_wal::{AppendError, Lsn, WalError};

/// Why a member refused to open. Nothing was sent and nothing was changed but what recovery cuts (a torn tail).
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is wrong.
    #[error("raft configuration: {}", faults.join("; "))]
    Config {
        /// Each fault.
        faults: Vec<String>,
    },
    /// There is no log and no permission to begin one.
    #[error(
        "node {id} has no raft log: a voter that lost its log never starts under its id again; format the \
         directory anew and join under a new id"
    )]
    NoLog {
        /// The member.
        id: NodeId,
    },
    /// The log is damaged (it says where), written by somebody else, or the disk failed.
    #[error("raft log: {0}")]
    Log(#[from] WalError),
    /// A record passed its checksum and yet cannot be what was written, or does not fit what is before it.
    #[error("raft log: record {lsn}: expected {expected}, found {found}")]
    Record {
        /// The record.
        lsn: Lsn,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The log is of another member.
    #[error("raft log: is of node {found}, not of node {expected}")]
    OfAnother {
        /// This member.
        expected: NodeId,
        /// Whose it is.
        found: NodeId,
    },
    /// The state machine has applied what the log does not hold: the log was lost or replaced.
    #[error("raft log ends at index {last}, but the state has applied up to {applied}: the log lost its end")]
    LogBehindState {
        /// The last index of the log.
        last: LogIndex,
        /// What the state machine has applied.
        applied: LogIndex,
    },
    /// The state machine lacks entries that are purged, and this is the only voter: nobody can send a snapshot.
    #[error(
        "the state has applied up to {applied}, but the log begins after {first}, and no other voter can send \
         a snapshot"
    )]
    StateBehindLog {
        /// What the state machine has applied.
        applied: LogIndex,
        /// What the log begins after.
        first: LogIndex,
    },
    /// The state machine did not apply an entry that it was given.
    #[error("entry {index} of the log was not applied: {reason}")]
    NotApplied {
        /// Its index.
        index: LogIndex,
        /// The state machine's words.
        reason: String,
    },
    /// raft-rs refused what was recovered.
    #[error("raft refused the recovered state: {0}")]
    Refused(String),
}

/// Why a member stopped for good. What it had promised stays true; it must be restarted, or replaced.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// The log failed: a write or a sync. It is final for this disk.
    #[error("raft log: {0}")]
    Log(#[from] WalError),
    /// The log refused a record.
    #[error("raft log: {0}")]
    Append(#[from] AppendError),
    /// A leader knows entries as committed that this member acknowledged and does not have: its log was lost.
    #[error("leader {leader} in term {term} says that index {commit} is here, but the log ends at {last}")]
    LogLost {
        /// Who says so.
        leader: NodeId,
        /// Its term.
        term: Term,
        /// What it says is here.
        commit: LogIndex,
        /// What is here.
        last: LogIndex,
    },
    /// A committed membership entry cannot be read.
    #[error("entry {index}: membership change cannot be read: {reason}")]
    Membership {
        /// The entry.
        index: LogIndex,
        /// Why.
        reason: String,
    },
    /// raft-rs reported an error that only a fault of storage or of ours explains.
    #[error("raft: {0}")]
    Raft(String),
}

/// Why a proposal was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// This member does not lead (or hands its leadership over). It certainly does not happen: ask the leader.
    NotLeader {
        /// Who leads, as far as this member knows.
        leader: Option<NodeId>,
    },
    /// Too much is under way. It certainly does not happen: try again later.
    Busy,
    /// A membership change while another is under way, or one that raft refuses. It certainly does not happen.
    Refused,
    /// Another leader's entry took its place in the log. It certainly does not happen.
    Overtaken,
    /// It may have happened or may still happen: its place is inside an installed snapshot, or nothing was heard
    /// for long.
    Unknown,
}

impl DropReason {
    /// True if the proposal may have been, or may yet be, committed.
    pub const fn may_happen(self) -> bool {
        matches!(self, DropReason::Unknown)
    }
}
