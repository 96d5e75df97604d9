//! What a log may be told.

use crate::format::{BLOCK_BYTES, HEADER_BYTES, RECORD_HEADER_BYTES};
use std::time::Duration;

/// Settings of one log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Sub-directory of the disk that holds the segments, made if it does not exist; nothing else belongs there.
    pub directory: String,
    /// Stamped into every batch, so that blocks of another log are never taken for ours. Random, chosen when the
    /// disk is formatted, and kept from user data; the same at every open.
    pub identity: u64,
    /// Length of new segments; a multiple of 4 KiB. Larger: fewer roll-overs, coarser release. Segments of another
    /// length from an earlier configuration are read, and replaced as they are released.
    pub segment_bytes: u64,
    /// Most bytes in one batch (records and framing); a multiple of 4 KiB, at most a segment less two blocks. One
    /// open batch and one in flight bound the log's memory to twice this.
    pub batch_bytes: u32,
    /// Segments kept ready beyond the current one. One is enough unless a segment fills faster than one is made.
    pub spare_segments: u32,
    /// Bypass the page cache.
    pub direct: bool,
    /// Bytes of the file system that must be free when a segment beyond the second is made. Others keep theirs there;
    /// without it the log goes on with the segments that it has. Default 0.
    pub leave_bytes: u64,
    /// How long after the last batch a mark is written alone if nothing follows.
    pub mark_after: Duration,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            directory: "log".into(),
            identity: 0,
            segment_bytes: 64 << 20,
            batch_bytes: 4 << 20,
            spare_segments: 1,
            direct: true,
            leave_bytes: 0,
            mark_after: Duration::from_millis(10),
        }
    }
}

impl WalConfig {
    /// The longest record that fits: what an empty batch holds.
    pub fn max_record_bytes(&self) -> usize {
        self.batch_bytes as usize - HEADER_BYTES - RECORD_HEADER_BYTES
    }

    /// # Panics
    /// If the sizes are not as documented: they are constants of the embedding crate, not user input.
    pub(crate) fn check(&self) {
        let block = BLOCK_BYTES as u64;
        assert!(
            self.segment_bytes.is_multiple_of(block) && self.segment_bytes <= 1 << 32,
            "segment_bytes"
        );
        assert!(
            u64::from(self.batch_bytes).is_multiple_of(block) && self.batch_bytes > 0,
            "batch_bytes"
        );
        assert!(
            u64::from(self.batch_bytes) + 2 * block <= self.segment_bytes,
            "a batch must fit into a segment"
        );
        assert!(
            !self.directory.is_empty() && !self.directory.contains('/'),
            "one directory level"
        );
    }
}
