//! What can go wrong, and what opening found.

use crate::Lsn;
use bytes::Bytes;
use std::fmt;
use std::io;

/// Takes the records in order while a log is opened; a refusal (why the record makes no sense) ends the opening
/// with [`WalError::Refused`]. The bytes are slices of one pooled buffer per batch: copy what is kept for long.
/// What was visited counts only if the opening succeeds: damage may be found after it.
pub type Visitor<'a> = &'a mut dyn FnMut(Lsn, Bytes) -> Result<(), String>;

/// Why a log did not open or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were durable are gone or changed. Nothing was written; the log must not be used.
    #[error("log is damaged: {file} at {offset}: expected {expected}, found {found}")]
    Damaged {
        /// `directory/name` of the segment.
        file: String,
        /// Where the missing batch should begin.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there instead, and what proves that this is no torn tail.
        found: Found,
    },
    /// The visitor refused a record whose bytes are intact.
    #[error("log record {lsn} ({file}, batch at {offset}) was refused: {reason}")]
    Refused {
        /// The record.
        lsn: Lsn,
        /// `directory/name` of the segment.
        file: String,
        /// Where the record's batch begins.
        offset: u64,
        /// The visitor's words.
        reason: String,
    },
    /// The segments were written with another [`WalConfig::identity`](crate::WalConfig::identity).
    #[error("{file} belongs to log {found:#018x}, not to {expected:#018x}")]
    OtherLog {
        /// `directory/name` of the segment.
        file: String,
        /// The configured identity.
        expected: u64,
        /// The identity found.
        found: u64,
    },
    /// A segment was written by a later version of this program.
    #[error("{file} has log format {found}, this program reads up to {known}")]
    Version {
        /// `directory/name` of the segment.
        file: String,
        /// The version found.
        found: u16,
        /// The newest version known.
        known: u16,
    },
    /// The disk failed while the log was opened.
    #[error("log: {doing}")]
    Io {
        /// What was being done, with the file's name.
        doing: String,
        /// The disk's answer.
        #[source]
        source: io::Error,
    },
    /// A write or sync failed, now or earlier. Final: what is not durable yet is unknown, and the log refuses
    /// everything until it is opened again by a new process (or never, as the embedding decides).
    #[error("log has failed: {reason}")]
    Failed {
        /// The first failure.
        reason: String,
    },
}

/// Why an append was refused. Nothing was taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// The open batch has no room for the record; flush, and append again after the next completion.
    #[error("open batch is full: {needed} bytes needed, room for {room}")]
    Full {
        /// Bytes of the record.
        needed: usize,
        /// What [`Wal::room`](crate::Wal::room) says.
        room: usize,
    },
    /// No batch could ever hold the record.
    #[error("record of {length} bytes is longer than {limit}")]
    TooLarge {
        /// Bytes of the record.
        length: usize,
        /// The longest record.
        limit: usize,
    },
    /// The log has failed earlier.
    #[error("log has failed")]
    Failed,
}

/// What stands where a batch was expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What the block itself looks like.
    pub block: String,
    /// The valid batch behind it that proves the loss, if that is the proof: file, offset, batch number.
    pub proof: Option<(String, u64, u64)>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.block)?;
        match &self.proof {
            Some((file, offset, number)) => write!(f, ", and batch {number} follows in {file} at {offset}"),
            None => Ok(()),
        }
    }
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// The log did not exist, or its very first opening had not completed. An embedding that knows that it had
    /// a log must refuse then.
    pub fresh: bool,
    /// Number of records visited.
    pub records: u64,
    /// The first record visited, or the next one to be appended if none was.
    pub first: Lsn,
    /// The last record ever made durable, visited or released; `Lsn(0)` if none was.
    pub last: Lsn,
    /// A batch whose write had not completed: nothing in it was ever reported durable (or its mark was missing).
    pub torn: Option<Torn>,
    /// Segments in use.
    pub segments: u32,
}

/// An incomplete last batch, cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Torn {
    /// `directory/name` of the segment.
    pub file: String,
    /// Where the batch begins.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}
