//! Why a request was refused, and why a disk did not open.

use crate::held::Sealed;
use drystone_types::{ChunkId, Code, DiskRef, Epoch, Incarnation, PlacementIndex};

/// Why a request was refused. Unless a variant says otherwise nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// No such chunk here.
    #[error("chunk {chunk} is not on this disk")]
    NotFound {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A higher epoch is known, or appends were stopped.
    #[error("chunk {chunk}: epoch {offered} is refused, {current} is known")]
    Fenced {
        /// The chunk.
        chunk: ChunkId,
        /// What the request named.
        offered: Epoch,
        /// The highest seen.
        current: Epoch,
    },
    /// The request does not fit what is here: a gap, other bytes than before, another final length.
    #[error("chunk {chunk}: {reason} (expected {expected})")]
    Conflict {
        /// The chunk.
        chunk: ChunkId,
        /// The offset or length that would have fitted.
        expected: u64,
        /// How it was sealed, if it is.
        sealed: Option<Sealed>,
        /// In words.
        reason: &'static str,
    },
    /// The replica here was placed by another command than the request is about.
    #[error("chunk {chunk}: the request is about placement {offered}, held is {held}")]
    Placement {
        /// The chunk.
        chunk: ChunkId,
        /// What the request named.
        offered: PlacementIndex,
        /// What is here.
        held: PlacementIndex,
    },
    /// The order is about another formatting of this disk.
    #[error("the order is about incarnation {offered:?}, this disk is {held:?}")]
    OtherIncarnation {
        /// What the order named.
        offered: Incarnation,
        /// What this is.
        held: Incarnation,
    },
    /// The range lies outside what can be read; `length` is the readable length.
    #[error("chunk {chunk}: range ends at {end}, {length} bytes can be read")]
    Range {
        /// The chunk.
        chunk: ChunkId,
        /// Where the range ends.
        end: u64,
        /// Readable bytes.
        length: u64,
    },
    /// The request breaks a rule of this interface; retrying it as it is cannot help.
    #[error("chunk {chunk}: {reason}")]
    Invalid {
        /// The chunk.
        chunk: ChunkId,
        /// In words.
        reason: &'static str,
    },
    /// The content does not have the checksum that the writer or the order names. The chunk is not sealed.
    #[error("chunk {chunk}: content has checksum {found:#010x}, {expected:#010x} was named")]
    Checksum {
        /// The chunk.
        chunk: ChunkId,
        /// What was named.
        expected: u32,
        /// What the content has.
        found: u32,
    },
    /// No room for another chunk.
    #[error("disk is full: {needed} bytes needed, {free} free")]
    NoSpace {
        /// Bytes of it, with its tail.
        needed: u64,
        /// Bytes that can be taken.
        free: u64,
    },
    /// Too much is in memory; try again soon.
    #[error("too much is waiting to be written")]
    Busy,
    /// Stored bytes do not match their checksum.
    #[error("chunk {chunk} is damaged {}: expected checksum {expected:#010x}, found {found:#010x}", place(*offset))]
    Corrupt {
        /// The chunk.
        chunk: ChunkId,
        /// Where in it; `u64::MAX`: its checksum blocks.
        offset: u64,
        /// Stored checksum.
        expected: u32,
        /// Computed checksum.
        found: u32,
    },
    /// The device failed to read.
    #[error("chunk {chunk} cannot be read: {reason}")]
    Io {
        /// The chunk.
        chunk: ChunkId,
        /// The device's answer.
        reason: String,
    },
    /// The disk takes no writes any more. For an append that waited to be durable: it may or may not be.
    #[error("disk is read-only: {reason}")]
    ReadOnly {
        /// Why.
        reason: String,
    },
}

fn place(offset: u64) -> String {
    match offset {
        u64::MAX => "in its tail, or another chunk's is there".to_owned(),
        offset => format!("at {offset}"),
    }
}

impl StoreError {
    /// The code on the wire.
    pub fn code(&self) -> Code {
        match self {
            StoreError::NotFound { .. } => Code::NotFound,
            StoreError::Fenced { .. } => Code::Fenced,
            StoreError::Conflict { .. } | StoreError::Placement { .. } => Code::Conflict,
            StoreError::OtherIncarnation { .. } => Code::Stranger,
            StoreError::Range { .. } => Code::Range,
            StoreError::Invalid { .. } => Code::Invalid,
            StoreError::NoSpace { .. } => Code::NoSpace,
            StoreError::Busy => Code::Busy,
            StoreError::Checksum { .. } | StoreError::Corrupt { .. } => Code::Corrupt,
            StoreError::Io { .. } | StoreError::ReadOnly { .. } => Code::Unavailable,
        }
    }
}

/// Why a disk did not open. It stays as it was found; the other disks of the server are not concerned.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Bytes that were durable are gone or changed.
    #[error("store is damaged: {place}: expected {expected}, found {found}")]
    Damaged {
        /// File, and where in it.
        place: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The directory holds another disk's store.
    #[error("store belongs to disk {found}, not to {expected}")]
    OtherDisk {
        /// Who was asked for.
        expected: DiskRef,
        /// Whose it is.
        found: DiskRef,
    },
    /// The journal did not open.
    #[error("journal: {0}")]
    Journal(#[from] drystone_wal::WalError),
    /// The disk failed.
    #[error("{doing}")]
    Io {
        /// What was being done, with the file's name.
        doing: String,
        /// The disk's answer.
        #[source]
        source: std::io::Error,
    },
}
