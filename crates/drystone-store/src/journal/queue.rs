//! Records on their way into the journal, and what happens when they are durable.

use super::record::JournalRecord;
use crate::format::Runs;
use crate::index::IndexEntry;
use crate::input::RequestId;
use bytes::Bytes;
use drystone_env::{IoCompletion, IoRequest, Monotonic};
use drystone_types::{ChunkId, Epoch};
use drystone_wal::{AppendError, Lsn, Wal};
use std::collections::VecDeque;

/// What to do when a record is durable.
pub(crate) enum AfterRecord {
    /// For the first operation of a live chunk.
    Replica {
        chunk: ChunkId,
        live: u64,
        entry: IndexEntry,
        has_data: bool,
    },
    /// A fence of a sealed chunk: the index knows it already.
    FenceSealed {
        request: RequestId,
        chunk: ChunkId,
        /// Of the record: a later one may be known, and not durable yet.
        epoch: Epoch,
    },
    /// A fence of an absent chunk: the index knows it already.
    Marker {
        request: RequestId,
        entry: IndexEntry,
    },
    /// The chunk lies elsewhere.
    Moved {
        chunk: ChunkId,
    },
    Delete {
        request: RequestId,
        chunk: ChunkId,
        runs: Option<Runs>,
    },
    Floor {
        request: RequestId,
        floor: ChunkId,
    },
}

/// The journal and who waits for it.
pub(crate) struct Journal {
    wal: Wal,
    /// Records for which the open batch has no room. Bounded by the operations of live chunks, which are bounded
    /// by memory and by the caller's requests.
    queue: VecDeque<(Vec<Bytes>, AfterRecord)>,
    waiting: VecDeque<(Lsn, AfterRecord)>,
}

impl Journal {
    pub(crate) fn new(wal: Wal) -> Self {
        Self {
            wal,
            queue: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty() && self.wal.is_idle()
    }

    /// Sends a record on its way.
    pub(crate) fn log(&mut self, record: &JournalRecord, after: AfterRecord) {
        self.queue.push_back((record.encode(), after));
    }

    /// Fills the open batch and sends it off if none is in flight.
    pub(crate) fn flush(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        self.fill();
        self.wal.flush(now, out);
        if !self.queue.is_empty() {
            // The batch went off: the next one takes more.
            self.fill();
        }
    }

    fn fill(&mut self) {
        while let Some((parts, after)) = self.queue.pop_front() {
            match self.wal.append(&parts) {
                Ok(lsn) => self.waiting.push_back((lsn, after)),
                // A log that failed says so at its next completion.
                Err(AppendError::Full { .. } | AppendError::Failed) => {
                    self.queue.push_front((parts, after));
                    return;
                }
                Err(error @ AppendError::TooLarge { .. }) => panic!("records are bounded: {error}"),
            }
        }
    }

    pub(crate) fn tick(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        self.wal.tick(now, out);
    }

    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.wal.next_wakeup()
    }

    /// Takes a completion of the journal's own work.
    ///
    /// # Errors
    /// The disk failed: why.
    pub(crate) fn on_completion(
        &mut self,
        now: Monotonic,
        completion: IoCompletion,
        out: &mut Vec<IoRequest>,
    ) -> Result<(), String> {
        let result = self.wal.on_completion(now, completion, out);
        result.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The next record that is durable, in order.
    pub(crate) fn pop_durable(&mut self) -> Option<(Lsn, AfterRecord)> {
        let durable = self.wal.durable();
        let ready = self.waiting.front().is_some_and(|(lsn, _)| *lsn <= durable);
        if ready { self.waiting.pop_front() } else { None }
    }

    /// Every record below this one is durable.
    pub(crate) fn durable_end(&self) -> Lsn {
        self.wal.durable().next()
    }

    /// True if what is left of the current segment is all there is until segments are let go: the disk is full.
    pub(crate) fn is_short(&self) -> bool {
        self.wal.is_short()
    }

    /// True if no record can be written before segments are let go.
    pub(crate) fn is_starved(&self) -> bool {
        self.wal.starved().is_some()
    }

    /// Bytes that its segments take of the disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.wal.disk_bytes()
    }

    /// Bytes of segments that no checkpoint has made superfluous.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.wal.held_bytes()
    }

    /// Records below this one were let go.
    pub(crate) fn released(&self) -> Lsn {
        self.wal.released()
    }

    /// Both copies of a checkpoint hold everything below `cut`.
    pub(crate) fn release(&mut self, cut: Lsn) {
        self.wal.release(cut);
    }

    /// Takes out every request that waits here itself, not with its chunk.
    pub(crate) fn take_requests(&mut self) -> Vec<RequestId> {
        let queued = self.queue.drain(..).map(|(_, after)| after);
        let waiting = self.waiting.drain(..).map(|(_, after)| after);
        waiting
            .chain(queued)
            .filter_map(|after| match after {
                AfterRecord::Replica { .. } | AfterRecord::Moved { .. } => None,
                AfterRecord::FenceSealed { request, .. }
                | AfterRecord::Marker { request, .. }
                | AfterRecord::Delete { request, .. }
                | AfterRecord::Floor { request, .. } => Some(request),
            })
            .collect()
    }
}
