//! Records on their way into the journal, and what happens when they are durable.

use crate::Store;
use crate::StoreError;
use crate::format::SlotRef;
use crate::index::Entry;
use crate::input::{Reply, RequestId};
use crate::record::Record;
use bytes::Bytes;
use drystone_env::{IoCompletion, IoRequest, Monotonic};
use drystone_types::ChunkId;
use drystone_wal::{AppendError, Lsn, Wal};
use std::collections::VecDeque;

/// What to do when a record is durable.
pub(crate) enum Pending {
    /// For the first operation of a live chunk.
    Replica {
        chunk: ChunkId,
        live: u64,
        entry: Entry,
        has_data: bool,
    },
    /// A fence of a sealed chunk: the index knows it already.
    FenceSealed {
        request: RequestId,
        chunk: ChunkId,
    },
    /// A fence of an absent chunk: the index knows it already.
    Marker {
        request: RequestId,
        entry: Entry,
    },
    Delete {
        request: RequestId,
        chunk: ChunkId,
        slot: Option<SlotRef>,
    },
    Floor {
        request: RequestId,
        floor: ChunkId,
    },
}

/// The journal and who waits for it.
pub(crate) struct Journal {
    pub(crate) wal: Wal,
    /// Records for which the open batch has no room. Bounded by the operations of live chunks, which are bounded
    /// by memory and by the caller's requests.
    queue: VecDeque<(Vec<Bytes>, Pending)>,
    waiting: VecDeque<(Lsn, Pending)>,
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
        while let Some((parts, pending)) = self.queue.pop_front() {
            match self.wal.append(&parts) {
                Ok(lsn) => self.waiting.push_back((lsn, pending)),
                // A log that failed says so at its next completion.
                Err(AppendError::Full { .. } | AppendError::Failed) => {
                    self.queue.push_front((parts, pending));
                    return;
                }
                Err(error @ AppendError::TooLarge { .. }) => panic!("records are bounded: {error}"),
            }
        }
    }

    fn pop_durable(&mut self) -> Option<(Lsn, Pending)> {
        let durable = self.wal.durable();
        let ready = self.waiting.front().is_some_and(|(lsn, _)| *lsn <= durable);
        if ready { self.waiting.pop_front() } else { None }
    }

    /// Takes out every request that waits here itself, not with its chunk.
    pub(crate) fn requests(&mut self) -> Vec<RequestId> {
        let queued = self.queue.drain(..).map(|(_, pending)| pending);
        let waiting = self.waiting.drain(..).map(|(_, pending)| pending);
        waiting
            .chain(queued)
            .filter_map(|pending| match pending {
                Pending::Replica { .. } => None,
                Pending::FenceSealed { request, .. }
                | Pending::Marker { request, .. }
                | Pending::Delete { request, .. }
                | Pending::Floor { request, .. } => Some(request),
            })
            .collect()
    }
}

impl Store {
    /// Sends a record on its way.
    pub(crate) fn log(&mut self, record: &Record, pending: Pending) {
        self.journal.queue.push_back((record.encode(), pending));
    }

    pub(crate) fn on_journal_io(&mut self, completion: IoCompletion) {
        if let Err(reason) = self.journal_completion(completion) {
            self.fail(reason);
            return;
        }
        while self.failed.is_none() {
            let Some((lsn, pending)) = self.journal.pop_durable() else {
                break;
            };
            self.on_durable(lsn, pending);
        }
    }

    fn on_durable(&mut self, lsn: Lsn, pending: Pending) {
        match pending {
            Pending::Replica {
                chunk,
                live,
                entry,
                has_data,
            } => {
                self.on_replica_durable(lsn, chunk, live, entry, has_data);
            }
            Pending::FenceSealed { request, chunk } => self.begin_verify(request, chunk),
            Pending::Marker { request, entry } => {
                self.reply(
                    request,
                    Ok(Reply::Fenced {
                        epoch: entry.epoch,
                        length: None,
                    }),
                );
            }
            Pending::Delete { request, chunk, slot } => {
                self.set_entry(chunk, None);
                self.cache.remove(chunk);
                if let Some(count) = self.deleting.get_mut(&chunk) {
                    *count -= 1;
                    if *count == 0 {
                        self.deleting.remove(&chunk);
                    }
                }
                if let Some(slot) = slot {
                    self.slots.release(slot);
                    self.hand_out_slots(slot.class);
                }
                self.reply(request, Ok(Reply::Deleted));
            }
            Pending::Floor { request, floor } => {
                self.floor = self.floor.max(floor);
                self.reply(request, Ok(Reply::Floor(self.floor)));
            }
        }
    }

    /// The answer to whatever would write, once the disk has failed.
    pub(crate) fn refuse_if_failed(&mut self, request: RequestId) -> bool {
        let Some(reason) = self.failed.clone() else {
            return false;
        };
        self.reply(request, Err(StoreError::ReadOnly { reason }));
        true
    }
}
