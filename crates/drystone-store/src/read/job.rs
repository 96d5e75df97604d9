//! Reads under way.

use crate::class::IoClass;
use crate::error::StoreError;
use crate::format::{Runs, Tail};
use crate::input::{AppendFrame, RequestId, StoreReply};
use bytes::Bytes;
use drystone_proto::checksum::Checksums;
use drystone_types::{ChunkId, Epoch, PlacementIndex};
use std::collections::BTreeMap;

/// A repeated append, to be compared with what is stored.
pub(crate) struct CompareFrame {
    pub(crate) request: RequestId,
    pub(crate) frame: AppendFrame,
    /// The answer if its checksums are those of what is stored.
    pub(crate) same: StoreReply,
    /// The answer if not.
    pub(crate) other: StoreError,
}

/// The block that a seal cuts, read and verified.
pub(crate) struct CutBlock {
    pub(crate) chunk: ChunkId,
    /// Tells the chunk from one of the same id that was deleted.
    pub(crate) live: u64,
    /// Where it is cut.
    pub(crate) length: u64,
    pub(crate) block: Result<Bytes, StoreError>,
}

/// Who wants the bytes.
pub(super) enum ReadTarget {
    /// A reader.
    Request(RequestId),
    /// A retried append: answered so if the checksums are equal, and so if not.
    Compare(Box<CompareFrame>),
    /// A fence, which has verified everything before.
    Verify { request: RequestId, epoch: Epoch },
    /// A seal that cuts the block.
    Cut { live: u64, length: u64 },
}

/// A read under way, of whole blocks.
pub(crate) struct ReadJob {
    pub(super) target: ReadTarget,
    pub(super) io_class: IoClass,
    pub(super) chunk: ChunkId,
    pub(super) placement: PlacementIndex,
    /// Asked for.
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Bytes that can be read.
    pub(super) readable: u64,
    /// Whole blocks are read until here, or to the end of the chunk.
    pub(super) high: u64,
    pub(super) sealed: bool,
    /// Checksums of the blocks from the one that holds `offset`; `None`: the tail is being read.
    pub(super) sums: Option<Checksums>,
    /// From the runs, in pieces: where each begins in the chunk.
    pub(super) data: Vec<(u64, Bytes)>,
    /// From memory, behind it.
    pub(super) memory: Vec<Bytes>,
    pub(super) runs: Option<Runs>,
    /// Bytes of the chunk that come from the runs end here.
    pub(super) stored_end: u64,
    /// The tail as it must be, and where it begins in the runs.
    pub(super) tail: Option<(Tail, u64)>,
    /// The tail, in pieces: where each begins in the runs.
    pub(super) tail_data: Vec<(u64, Bytes)>,
    pub(super) left: u32,
    pub(super) error: Option<StoreError>,
}

/// All reads under way.
pub(crate) struct ReadsUnderWay {
    jobs: BTreeMap<u64, ReadJob>,
    next: u64,
}

impl Default for ReadsUnderWay {
    fn default() -> Self {
        Self {
            jobs: BTreeMap::new(),
            next: 1,
        }
    }
}

impl ReadsUnderWay {
    /// A name for a new read.
    pub(super) fn next_id(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }

    pub(super) fn insert(&mut self, id: u64, job: ReadJob) {
        self.jobs.insert(id, job);
    }

    pub(super) fn take(&mut self, id: u64) -> Option<ReadJob> {
        self.jobs.remove(&id)
    }
}
