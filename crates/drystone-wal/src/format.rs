//! The bytes of a log.

/// Everything is written in blocks of this size.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 96;
/// Bytes in front of each record.
pub const RECORD_HEADER_BYTES: usize = 4;
