//! Records that only the namespace keeps; those that others read too are in `drystone_proto::record`.
//!
//! A stored value is a version byte and the prost encoding of its record.

use crate::key::hex;
use crate::store::StoreError;
use crate::stored::Stored;
use bytes::{Buf, Bytes};
use drystone_proto::command::Outcome;
use drystone_proto::record::{PolicyRecord, RECORD_VERSION};
use prost::Message;

/// What is one of its kind: the applied index, counters of ids, and totals. Written with every batch.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StateRecord {
    /// Highest log index applied.
    #[prost(uint64, tag = "1")]
    pub applied: u64,
    /// Log time, microseconds since 1970.
    #[prost(uint64, tag = "2")]
    pub time: u64,
    /// Commits of chunk ids below are refused.
    #[prost(uint64, tag = "3")]
    pub grant_floor: u64,
    /// Next inode id.
    #[prost(uint64, tag = "4")]
    pub next_inode: u64,
    /// Next chunk id.
    #[prost(uint64, tag = "5")]
    pub next_chunk: u64,
    /// Names of files.
    #[prost(uint64, tag = "6")]
    pub files: u64,
    /// Names of directories, and the root.
    #[prost(uint64, tag = "7")]
    pub directories: u64,
    /// Sum of the sizes of named files.
    #[prost(uint64, tag = "8")]
    pub bytes: u64,
    /// Chunks that are not doomed.
    #[prost(uint64, tag = "9")]
    pub chunks: u64,
    /// Sum of their sealed lengths.
    #[prost(uint64, tag = "10")]
    pub chunk_bytes: u64,
    /// Doomed chunks.
    #[prost(uint64, tag = "11")]
    pub doomed: u64,
    /// Sessions that are open.
    #[prost(uint64, tag = "12")]
    pub sessions: u64,
    /// Staged inodes.
    #[prost(uint64, tag = "13")]
    pub staged: u64,
    /// Default policy; absent before `Initialize`.
    #[prost(message, optional, tag = "14")]
    pub policy: Option<PolicyRecord>,
    /// Since when the cluster is initialized; 0 = not yet.
    #[prost(uint64, tag = "15")]
    pub since: u64,
    /// Batch with which this record was written (not part of the replicated state).
    #[prost(uint64, tag = "16")]
    pub batch: u64,
    /// First half of the history id.
    #[prost(fixed64, tag = "17")]
    pub history_high: u64,
    /// Second half of it.
    #[prost(fixed64, tag = "18")]
    pub history_low: u64,
    /// Shard.
    #[prost(uint32, tag = "19")]
    pub shard: u32,
    /// Content bytes that are inline in inodes with a name.
    #[prost(uint64, tag = "20")]
    pub inline_bytes: u64,
    /// The state was restored, and no replica is deleted until an operator says so.
    #[prost(bool, tag = "21")]
    pub deletion_held: bool,
    /// Names of symbolic links.
    #[prost(uint64, tag = "22")]
    pub links: u64,
    /// Closed sessions whose ids are kept.
    #[prost(uint64, tag = "23")]
    pub closed_sessions: u64,
    /// Every forgotten session was opened at or below this log index. No session is opened for an id that was drawn
    /// when less than it was applied.
    #[prost(uint64, tag = "24")]
    pub session_floor: u64,
    /// Chunks that their writers gave up and that the grant floor has not passed, as far as that was looked at.
    #[prost(uint64, tag = "25")]
    pub abandoned: u64,
}

/// One link of the batch chain.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ChainRecord {
    /// Number of the batch.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Applied index of the batch.
    #[prost(uint64, tag = "2")]
    pub applied: u64,
    /// Digest of the batch before.
    #[prost(fixed64, tag = "3")]
    pub previous: u64,
    /// Digest over `previous` and everything in this batch.
    #[prost(fixed64, tag = "4")]
    pub digest: u64,
}

/// How many chunks have their verified replicas on one set of disks.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DiskSetRecord {
    /// So many.
    #[prost(uint64, tag = "1")]
    pub chunks: u64,
    /// Sum of their lengths.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
}

/// A reference to a range of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReferenceRecord {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub length: u64,
    /// See the proto's record module.
    #[prost(uint64, tag = "2")]
    pub since: u64,
}

/// A range of chunk ids that the leader took.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct RangeRecord {
    /// How many.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Log index that took them: the placement of every first replica.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// See the proto's record module.
    #[prost(uint64, tag = "3")]
    pub since: u64,
}

/// A client's session.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SessionRecord {
    /// Microseconds of log time without a command after which it is forgotten.
    #[prost(uint64, tag = "1")]
    pub ttl: u64,
    /// Log time of its last command.
    #[prost(uint64, tag = "2")]
    pub used: u64,
    /// Answers to lower sequences are gone, but for those in `outstanding`.
    #[prost(uint64, tag = "3")]
    pub acknowledged_below: u64,
    /// Log time at which it ended; 0 while it is open. A closed session's id is kept for a while, so that a
    /// late frame cannot open it again with its answers gone; after that the session floor sees to it.
    #[prost(uint64, tag = "4")]
    pub closed: u64,
    /// See the proto's record module.
    #[prost(uint64, tag = "5")]
    pub since: u64,
    /// Lower sequences whose answers the client does not have yet, ascending.
    #[prost(uint64, repeated, tag = "6")]
    pub outstanding: Vec<u64>,
    /// Log index that opened it.
    #[prost(uint64, tag = "7")]
    pub opened: u64,
}

/// An answer that a session may ask for again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AnswerRecord {
    /// The answer.
    #[prost(message, optional, tag = "1")]
    pub outcome: Option<Outcome>,
    /// See the proto's record module.
    #[prost(uint64, tag = "2")]
    pub since: u64,
}

/// An idempotency key that was used.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyRecord {
    /// For what.
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    /// What came of it.
    #[prost(message, optional, tag = "2")]
    pub outcome: Option<Outcome>,
    /// Log time after which it is forgotten.
    #[prost(uint64, tag = "3")]
    pub expires: u64,
    /// See the proto's record module.
    #[prost(uint64, tag = "4")]
    pub since: u64,
}

/// How many idempotency keys a caller has.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct KeyCountRecord {
    /// So many.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// See the proto's record module.
    #[prost(uint64, tag = "2")]
    pub since: u64,
}

/// A record whose key says everything.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct MarkRecord {
    /// See the proto's record module.
    #[prost(uint64, tag = "1")]
    pub since: u64,
}

/// The stored form of a record.
pub(crate) fn encode<R: Message>(record: &R) -> Bytes {
    let mut value = Vec::with_capacity(1 + record.encoded_len());
    value.push(RECORD_VERSION);
    record
        .encode(&mut value)
        .expect("a Vec takes all that is encoded");
    value.into()
}

/// The record in a stored value.
pub(crate) fn decode<R: Stored>(key: &[u8], value: &Bytes) -> Result<R, StoreError> {
    match value.first() {
        Some(&RECORD_VERSION) => read(key, value.slice(1..)),
        other => Err(wrong_version(key, other)),
    }
}

/// As [`decode`] from a borrowed value.
pub(crate) fn decode_slice<R: Stored>(key: &[u8], value: &[u8]) -> Result<R, StoreError> {
    match value.split_first() {
        Some((&RECORD_VERSION, rest)) => read(key, rest),
        other => Err(wrong_version(key, other.map(|(version, _)| version))),
    }
}

fn read<R: Stored>(key: &[u8], rest: impl Buf) -> Result<R, StoreError> {
    let record = R::decode(rest).map_err(|fault| corrupt(key, "a record of its table", fault))?;
    match record.fault_under(key) {
        Some(expected) => Err(corrupt(key, expected, "another record")),
        None => Ok(record),
    }
}

fn wrong_version(key: &[u8], found: Option<&u8>) -> StoreError {
    let found = found.map_or_else(|| "nothing".to_owned(), |byte| format!("version {byte}"));
    corrupt(key, "a record of this version", found)
}

/// A damaged record.
pub(crate) fn corrupt(key: &[u8], expected: &'static str, found: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        key: hex(key),
        expected,
        found: found.to_string(),
    }
}
