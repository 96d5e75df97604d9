//! Voters to voters, and what a voter's log holds. Field names are those of raft-rs, whose own codec is not used.

use prost::Message;

/// A log entry.
#[derive(Clone, PartialEq, Message)]
pub struct RaftEntry {
    /// 0 normal, 1 membership (ConfChangeV2).
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Index.
    #[prost(uint64, tag = "3")]
    pub index: u64,
    /// [`crate::command::Entry`], [`ConfChange`], or empty for a leader's first.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: bytes::Bytes,
    /// Proposer's context.
    #[prost(bytes = "bytes", tag = "5")]
    pub context: bytes::Bytes,
}

/// What a voter must remember beside entries.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RaftHardState {
    /// Term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Vote.
    #[prost(uint64, tag = "2")]
    pub vote: u64,
    /// Commit index.
    #[prost(uint64, tag = "3")]
    pub commit: u64,
}

/// Membership.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RaftConfState {
    /// Voters.
    #[prost(uint64, repeated, tag = "1")]
    pub voters: Vec<u64>,
    /// Learners.
    #[prost(uint64, repeated, tag = "2")]
    pub learners: Vec<u64>,
    /// Voters of the outgoing configuration in a joint change.
    #[prost(uint64, repeated, tag = "3")]
    pub voters_outgoing: Vec<u64>,
    /// Learners to be.
    #[prost(uint64, repeated, tag = "4")]
    pub learners_next: Vec<u64>,
    /// Leave the joint configuration by itself.
    #[prost(bool, tag = "5")]
    pub auto_leave: bool,
}

/// What a snapshot message says; the data streams beside it.
#[derive(Clone, PartialEq, Message)]
pub struct RaftSnapshotMeta {
    /// Last index that it holds.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// Term of that index.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// Membership at that index.
    #[prost(message, optional, tag = "3")]
    pub conf: Option<RaftConfState>,
    /// Descriptor: id of the snapshot transfer.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: bytes::Bytes,
}

/// A Raft message.
#[derive(Clone, PartialEq, Message)]
pub struct RaftMessage {
    /// raft-rs `MessageType` number.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Receiver.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// Sender.
    #[prost(uint64, tag = "3")]
    pub from: u64,
    /// Term.
    #[prost(uint64, tag = "4")]
    pub term: u64,
    /// Term of the entry before the first.
    #[prost(uint64, tag = "5")]
    pub log_term: u64,
    /// Index of the entry before the first.
    #[prost(uint64, tag = "6")]
    pub index: u64,
    /// Entries.
    #[prost(message, repeated, tag = "7")]
    pub entries: Vec<RaftEntry>,
    /// Commit index.
    #[prost(uint64, tag = "8")]
    pub commit: u64,
    /// Term of the commit index.
    #[prost(uint64, tag = "9")]
    pub commit_term: u64,
    /// Snapshot descriptor.
    #[prost(message, optional, tag = "10")]
    pub snapshot: Option<RaftSnapshotMeta>,
    /// See raft-rs.
    #[prost(uint64, tag = "11")]
    pub request_snapshot: u64,
    /// It was refused.
    #[prost(bool, tag = "12")]
    pub reject: bool,
    /// Hint for the sender.
    #[prost(uint64, tag = "13")]
    pub reject_hint: u64,
    /// Context (ReadIndex, transfer).
    #[prost(bytes = "bytes", tag = "14")]
    pub context: bytes::Bytes,
    /// Priority of the sender.
    #[prost(int64, tag = "15")]
    pub priority: i64,
    /// Of a leader's heartbeat: entries behind this index are kept for members that lag, here and wherever this is read;
    /// 0: none.
    #[prost(uint64, tag = "16")]
    pub kept_after: u64,
}

/// A batch of messages for one receiver.
#[derive(Clone, PartialEq, Message)]
pub struct RaftMessages {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<RaftMessage>,
    /// `host:port` of the sender: a receiver that was away when it joined answers it there.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Boot of the sender: of two processes of one member one counts.
    #[prost(uint64, tag = "3")]
    pub boot_counter: u64,
    /// The random part of that boot.
    #[prost(uint64, tag = "4")]
    pub boot_random: u64,
    /// Drawn when the sender's log was begun; 0: not known.
    #[prost(uint64, tag = "5")]
    pub log: u64,
}

/// One step of a membership change.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ConfChangeStep {
    /// 0 add voter, 1 remove, 2 add learner.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Node.
    #[prost(uint64, tag = "2")]
    pub node: u64,
}

/// A membership change.
#[derive(Clone, PartialEq, Message)]
pub struct ConfChange {
    /// Steps, applied together.
    #[prost(message, repeated, tag = "1")]
    pub steps: Vec<ConfChangeStep>,
    /// Proposer's context: the node record of an added member.
    #[prost(bytes = "bytes", tag = "2")]
    pub context: bytes::Bytes,
    /// raft-rs `ConfChangeTransition` number: 0 auto.
    #[prost(uint32, tag = "3")]
    pub transition: u32,
}

/// A part of a snapshot; the payload is the data.
#[derive(Clone, PartialEq, Message)]
pub struct SnapshotPart {
    /// Transfer id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: bytes::Bytes,
    /// Sender.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// Where this part belongs.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Nothing follows.
    #[prost(bool, tag = "4")]
    pub last: bool,
    /// What it is a snapshot of; in the first and last part.
    #[prost(message, optional, tag = "5")]
    pub meta: Option<RaftSnapshotMeta>,
    /// CRC32C of the whole, in the last part.
    #[prost(uint32, tag = "6")]
    pub checksum: u32,
    /// Term of the sender, for the message that hands it to Raft.
    #[prost(uint64, tag = "7")]
    pub term: u64,
}
