//! The way of records to the disk.

use super::Record;
use crate::FatalError;
use bytes::Bytes;
use drystone_env::{IoCompletion, IoRequest, Monotonic};
use drystone_wal::{AppendError, Lsn, Wal};
use std::collections::VecDeque;

/// Appends records to the wal. What has no room in the open batch waits here; the driver hands over nothing more
/// until it is gone, so one round of the driver bounds it.
pub(crate) struct LogWriter {
    wal: Wal,
    /// With the numbers that they were promised.
    waiting: VecDeque<(Lsn, Vec<Bytes>)>,
    /// Something that must be synced was appended since the last flush.
    urgent: bool,
    /// Once `.0` is durable, records below `.1` may go.
    release: Option<(Lsn, Lsn)>,
    segment_bytes: u64,
}

/// The log is short when it has less than this part of a segment left: what remains is for the cluster's own commands.
const SHORT_PART: u64 = 4;

impl LogWriter {
    pub(crate) fn new(wal: Wal) -> Self {
        Self {
            segment_bytes: wal.segment_bytes(),
            wal,
            waiting: VecDeque::new(),
            urgent: false,
            release: None,
        }
    }

    /// Takes a record and says which number it gets. `urgent` unless it may wait for the next one that is.
    pub(crate) fn push(&mut self, record: &Record, urgent: bool) -> Lsn {
        let lsn = Lsn(self.wal.next_lsn().0 + self.waiting.len() as u64);
        self.waiting.push_back((lsn, record.encode()));
        self.urgent |= urgent;
        lsn
    }

    /// True while records wait for room.
    pub(crate) fn is_backed_up(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Moves what has room into the open batch.
    ///
    /// # Errors
    /// The wal has failed, or a record fits into no batch.
    pub(crate) fn fill(&mut self) -> Result<(), FatalError> {
        while let Some((promised, parts)) = self.waiting.front() {
            match self.wal.append(parts) {
                Ok(lsn) => {
                    assert_eq!(lsn, *promised, "a record gets the number that was said of it");
                    self.waiting.pop_front()
                }
                Err(AppendError::Full { .. }) => break,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(())
    }

    /// Sends the open batch on its way if something in it must be synced.
    pub(crate) fn flush(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        if self.urgent || self.is_backed_up() {
            self.wal.flush(now, out);
            // Records that found no room are urgent still.
            self.urgent = self.is_backed_up();
        }
    }

    /// Sends the open batch on its way, urgent or not; marks what is due.
    pub(crate) fn tick(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        if !self.wal.is_idle() {
            self.wal.flush(now, out);
            self.urgent = self.is_backed_up();
        }
        self.wal.tick(now, out);
    }

    /// A completion; true if more is durable.
    ///
    /// # Errors
    /// The wal has failed.
    pub(crate) fn on_completion(
        &mut self,
        now: Monotonic,
        completion: IoCompletion,
        out: &mut Vec<IoRequest>,
    ) -> Result<bool, FatalError> {
        let durable = self.wal.on_completion(now, completion, out)?;
        if let Some((marker, below)) = self.release
            && self.wal.durable() >= marker
        {
            self.wal.release(below);
            self.release = None;
        }
        Ok(durable.is_some())
    }

    pub(crate) fn durable(&self) -> Lsn {
        self.wal.durable()
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.wal.held_bytes()
    }

    /// True if a write waits for space, or little is left of the last segment, and another one cannot be made.
    pub(crate) fn is_short(&self) -> bool {
        let is_low = self.wal.left_bytes() < self.segment_bytes / SHORT_PART;
        self.wal.starved().is_some() || self.wal.is_short() && is_low
    }

    /// Records below `below` may go once `marker` is durable.
    pub(crate) fn release_after(&mut self, marker: Lsn, below: Lsn) {
        assert!(below < marker, "record {below} goes with what says so, {marker}");
        self.release = Some((marker, below));
    }

    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.wal.next_wakeup()
    }
}
