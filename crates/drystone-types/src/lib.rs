//! Ids, epochs, sizes, names, policies and error codes.
//!
//! Owns the vocabulary that every crate shares, and nothing that only one crate uses. Architecture
//! invariant: no I/O, no async, no clock, no randomness.
//!
//! Read [`id`] first, then [`policy`], [`path`], [`code`] and [`size`].

pub mod causes;
pub mod code;
pub mod id;
pub mod path;
pub mod permission;
pub mod policy;
pub mod size;

pub use causes::with_causes;
pub use code::Code;
pub use id::{
    BootId, ChunkId, ClientId, ClusterId, DiskId, DiskRef, Epoch, HistoryId, Incarnation, InodeId, LogIndex,
    NodeId, PlacementIndex, ShardId, Since, Term,
};
pub use path::{Name, PathError};
pub use policy::{AckPolicy, Policy};
pub use size::{ByteCount, parse_duration};

/// Checksums cover this many bytes, on the wire, on disk and on every read: 4 KiB.
pub const CHECKSUM_BLOCK: usize = 4096;
/// The default and largest size of a chunk: 64 MiB.
pub const MAX_CHUNK_BYTES: u64 = 64 << 20;
/// A bulk frame carries at most this many bytes of payload: 1 MiB (measured: 256 KiB costs a fifth of the
/// speed, 64 KiB two fifths).
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
