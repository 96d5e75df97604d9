//! The log's write path: a synchronous core.

use crate::{AppendError, Lsn, Recovered, Visitor, WalConfig, WalError};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk, IoCompletion, IoRequest, IoToken, Monotonic};
use std::sync::Arc;

/// An open log. See the crate's page for what it promises.
pub struct Wal {
    _private: (),
}

impl Wal {
    /// Opens or creates the log, blocking, and hands every record that is not released to `visit`, in order, one
    /// batch in memory at a time. What is visited is durable when this returns.
    ///
    /// # Errors
    /// See [`WalError`]; nothing was written to a log that is damaged.
    pub fn open(
        disk: Arc<dyn Disk>,
        config: WalConfig,
        pool: BufferPool,
        visit: Visitor<'_>,
    ) -> Result<(Wal, Recovered), WalError> {
        let _ = (disk, config, pool, visit);
        unimplemented!()
    }

    /// Puts one record, the concatenation of `parts`, into the open batch and gives its number. It is copied
    /// (into pooled buffers) and checksummed once. It is on its way to the disk only after [`Wal::flush`], durable
    /// only when [`Wal::on_completion`] says so.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was taken.
    pub fn append(&mut self, parts: &[Bytes]) -> Result<Lsn, AppendError> {
        let _ = parts;
        unimplemented!()
    }

    /// Bytes of the longest record that [`Wal::append`] takes now. Zero when the open batch is full, which ends
    /// when it is flushed; it lasts while [`Wal::starved`].
    pub fn room(&self) -> usize {
        unimplemented!()
    }

    /// Writes the open batch if there is one and none is in flight. Otherwise nothing: the completion of the one
    /// in flight calls it. Also asks for segments ahead of need.
    pub fn flush(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        let _ = (now, out);
        unimplemented!()
    }

    /// Takes a completion of one of the log's own requests. `Some(lsn)`: every record up to and including `lsn`
    /// is durable. Goes on with what is due: the sync of a write, the next batch if [`Wal::flush`] was called
    /// while one was in flight.
    ///
    /// # Errors
    /// [`WalError::Failed`]: a write or sync failed. Final.
    pub fn on_completion(
        &mut self,
        now: Monotonic,
        completion: IoCompletion,
        out: &mut Vec<IoRequest>,
    ) -> Result<Option<Lsn>, WalError> {
        let _ = (now, completion, out);
        unimplemented!()
    }

    /// The highest durable record.
    pub fn durable(&self) -> Lsn {
        unimplemented!()
    }

    /// The number that the next record gets.
    pub fn next_lsn(&self) -> Lsn {
        unimplemented!()
    }

    /// Records below `below` are not needed any more: later opens need not visit them (they may), and whole
    /// segments below it are reused once a later batch or mark that says so is durable. Never goes back; never
    /// frees what is not durable.
    pub fn release(&mut self, below: Lsn) {
        let _ = below;
        unimplemented!()
    }

    /// The first record that is not released.
    pub fn released(&self) -> Lsn {
        unimplemented!()
    }

    /// When [`Wal::tick`] wants to be called; it may be called earlier.
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        unimplemented!()
    }

    /// Writes a mark alone if one is due, and retries a segment that could not be made.
    pub fn tick(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        let _ = (now, out);
        unimplemented!()
    }

    /// True if the token is the log's: it has bit 63 set. The embedding core uses the others.
    pub fn owns(token: IoToken) -> bool {
        token.0 >> 63 == 1
    }

    /// True if no batch is open or in flight.
    pub fn is_idle(&self) -> bool {
        unimplemented!()
    }

    /// Why the open batch cannot be written: no segment could be made (a full disk). Ends by itself when space is
    /// found or segments are released.
    pub fn starved(&self) -> Option<&str> {
        unimplemented!()
    }

    /// Bytes of the segments that hold records which are not released: what a checkpoint would let go.
    pub fn held_bytes(&self) -> u64 {
        unimplemented!()
    }
}
