//! The log's write path: a synchronous core.
//!
//! A batch goes through *open* (records are appended), *writing*, *syncing*, durable. Only one is behind *open* at a
//! time. The block before the last one of a segment is kept for marks, so that a log whose disk is full can still say
//! that old segments are released, and go on in them. The last one is for the turn, which is written beside the batches
//! that follow: until it is durable the segment is not used again.

mod open;
mod write;

use crate::batch::OpenBatch;
use crate::format::{BLOCK_BYTES, Header};
use crate::segment::SegmentFile;
use crate::{AppendError, Lsn, WalConfig, WalError};
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_env::{Disk, DiskFile, IoCompletion, IoOp, IoOutput, IoRequest, IoToken, Monotonic};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Set in every token of the log.
const TOKEN_BIT: u64 = 1 << 63;
/// Blocks at the end of a segment that are for the turn.
const TURN_BLOCKS: u32 = 1;
/// Blocks before those that only marks may use.
const RESERVE_BLOCKS: u32 = 1;
/// After a segment could not be made, or a write found no space. A full disk is not relieved sooner by asking more often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// An open log. See the crate's page for what it promises.
pub struct Wal {
    disk: Arc<dyn Disk>,
    config: WalConfig,
    open: OpenBatch,
    current: Current,
    // Older segments, oldest first, that are needed or not yet known on the disk to be released.
    full: VecDeque<Full>,
    /// The oldest segment that is needed, as the disk knows it.
    oldest: u64,
    turning: Option<Turning>,
    spare: VecDeque<SegmentFile>,
    next_file: u64,
    creating: Option<(IoToken, u64)>,
    create_at: Monotonic,
    create_fault: Option<String>,
    in_flight: Option<InFlight>,
    flush_wanted: bool,
    tail: Tail,
    next_lsn: Lsn,
    durable: Lsn,
    released: Lsn,
    /// When the last batch of records became durable, while no mark covers it.
    unmarked_since: Option<Monotonic>,
    failed: Option<String>,
    /// Writes that found no space, why, and when they are made again.
    again: Option<Again>,
    next_token: u64,
}

/// Writes that have failed for want of space: a file system that copies what it overwrites may need some, a segment that
/// was made whole does not elsewhere. Nothing was synced, so that the same bytes may be written to the same place again.
struct Again {
    requests: Vec<IoRequest>,
    reason: String,
    at: Monotonic,
}

/// The segment that batches go to.
struct Current {
    segment: SegmentFile,
    generation: u64,
    next_block: u32,
    /// Blocks at its end that no batch may use.
    turn_blocks: u32,
}

struct Full {
    segment: SegmentFile,
    generation: u64,
    next_lsn: Lsn,
    next_block: u32,
}

/// A turn on its way.
struct Turning {
    token: IoToken,
    syncing: bool,
    /// Its write, until that is done.
    write: Option<IoRequest>,
    file: Arc<dyn DiskFile>,
}

/// What the next header says of the batches before it.
struct Tail {
    number: u64,
    synced: u64,
    crc: u32,
}

struct InFlight {
    token: IoToken,
    syncing: bool,
    /// Its write, until that is done.
    write: Option<IoRequest>,
    number: u64,
    oldest: u64,
    last: Lsn,
    is_mark: bool,
    /// It is the first one of its segment: the turn for it, but for the place.
    begins: Option<Header>,
}

impl Wal {
    /// Puts one record, the concatenation of `parts`, into the open batch and gives its number. It is copied
    /// (into pooled buffers) and checksummed once. It is on its way to the disk only after [`Wal::flush`], durable
    /// only when [`Wal::on_completion`] says so.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was taken.
    pub fn append(&mut self, parts: &[Bytes]) -> Result<Lsn, AppendError> {
        let length = parts.iter().map(Bytes::len).sum();
        let (limit, room) = (self.config.max_record_bytes(), self.room());
        if self.failed.is_some() {
            return Err(AppendError::Failed);
        }
        if length > limit {
            return Err(AppendError::TooLarge { length, limit });
        }
        if !self.open.has_room(length) {
            return Err(AppendError::Full { needed: length, room });
        }
        self.open.push(parts, length);
        let lsn = self.next_lsn;
        self.next_lsn = lsn.next();
        Ok(lsn)
    }

    /// Bytes of the longest record that [`Wal::append`] takes now. Zero when the open batch is full, which ends
    /// when it is flushed; it lasts while [`Wal::starved`].
    pub fn room(&self) -> usize {
        if self.failed.is_some() {
            0
        } else {
            self.open.room()
        }
    }

    /// Writes the open batch if there is one and none is in flight. Otherwise nothing: the completion of the one
    /// in flight calls it. Also asks for segments ahead of need.
    pub fn flush(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        self.flush_wanted = !self.open.is_empty();
        self.go_on(now, out);
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
        assert!(Self::owns(completion.token), "not a token of the log");
        if let Some((token, number)) = self.creating
            && token == completion.token
        {
            self.creating = None;
            self.created(now, number, completion);
            self.go_on(now, out);
            return Ok(None);
        }
        if let Some(reason) = &self.failed {
            return Err(WalError::Failed {
                reason: reason.clone(),
            });
        }
        if self
            .turning
            .as_ref()
            .is_some_and(|turning| turning.token == completion.token)
        {
            return self.turned(now, completion, out).map(|()| None);
        }
        let in_flight = self
            .in_flight
            .as_mut()
            .filter(|batch| batch.token == completion.token);
        let batch = in_flight.expect("a token of the log names its segment or its batch in flight");
        if let Err(fault) = completion.result {
            let doing = if batch.syncing { "sync" } else { "write" };
            let reason = format!("{doing} of batch {}: {fault}", batch.number);
            if let Some(write) = for_want_of_space(&fault, batch.syncing, &batch.write) {
                self.write_again(now, write, reason);
                return Ok(None);
            }
            self.failed = Some(reason.clone());
            return Err(WalError::Failed { reason });
        }
        batch.write = None;
        let journal = self.config.directory == "journal";
        let unsynced = planted(Bug::JournalBeforeSync) && journal || planted(Bug::LogBeforeSync) && !journal;
        if !batch.syncing && (batch.is_mark || !unsynced) {
            batch.syncing = true;
            let file = Arc::clone(&self.current.segment.file);
            let token = self.token();
            if let Some(batch) = &mut self.in_flight {
                batch.token = token;
            }
            out.push(IoRequest {
                token,
                op: IoOp::Sync { file },
            });
            return Ok(None);
        }
        let durable = self.synced(now, out);
        self.go_on(now, out);
        Ok(durable)
    }

    fn created(&mut self, now: Monotonic, number: u64, completion: IoCompletion) {
        match completion.result {
            Ok(IoOutput::File(file)) => {
                self.spare.push_back(SegmentFile {
                    number,
                    file,
                    bytes: self.config.segment_bytes,
                });
                self.create_fault = None;
            }
            Ok(_) => unreachable!("a create brings a file"),
            Err(fault) => {
                self.create_fault = Some(fault.to_string());
                self.create_at = now.plus(AGAIN_AFTER);
            }
        }
    }

    /// The batch in flight is durable.
    fn synced(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) -> Option<Lsn> {
        let batch = self.in_flight.take()?;
        assert_eq!(
            batch.number, self.tail.number,
            "the last batch that was written is the one that is durable"
        );
        self.tail.synced = batch.number;
        self.unmarked_since = (!batch.is_mark).then_some(now);
        self.oldest = batch.oldest;
        self.durable = batch.last;
        if let Some(first) = &batch.begins {
            self.turn(first, out);
        }
        self.reuse();
        (!batch.is_mark).then_some(batch.last)
    }

    /// Makes spare ones of the segments that the disk knows to be released.
    fn reuse(&mut self) {
        if self.turning.is_some() {
            return;
        }
        let is_free = |full: &&Full| full.generation < self.oldest;
        let freed = self.full.iter().take_while(is_free).count();
        // A segment of an older configuration's length is left to the next opening, which removes it.
        let usable = self.config.segment_bytes;
        let released = self.released;
        let freed = self.full.drain(..freed).map(|full| {
            assert!(
                full.next_lsn <= released,
                "segment {} is used again and holds records up to {}; {released} is the first not released",
                full.generation,
                full.next_lsn
            );
            full.segment
        });
        self.spare.extend(freed.filter(|segment| segment.bytes == usable));
    }

    /// A write or sync of a turn has ended.
    fn turned(
        &mut self,
        now: Monotonic,
        completion: IoCompletion,
        out: &mut Vec<IoRequest>,
    ) -> Result<(), WalError> {
        let Some(mut turning) = self.turning.take() else {
            return Ok(());
        };
        if let Err(fault) = completion.result {
            let doing = if turning.syncing { "sync" } else { "write" };
            let reason = format!("{doing} at the end of a segment: {fault}");
            if let Some(write) = for_want_of_space(&fault, turning.syncing, &turning.write) {
                self.turning = Some(turning);
                self.write_again(now, write, reason);
                return Ok(());
            }
            self.failed = Some(reason.clone());
            return Err(WalError::Failed { reason });
        }
        if turning.syncing {
            self.reuse();
            self.go_on(now, out);
            return Ok(());
        }
        turning.syncing = true;
        turning.write = None;
        turning.token = self.token();
        out.push(IoRequest {
            token: turning.token,
            op: IoOp::Sync {
                file: Arc::clone(&turning.file),
            },
        });
        self.turning = Some(turning);
        Ok(())
    }

    /// A write is made again in a while.
    fn write_again(&mut self, now: Monotonic, write: IoRequest, reason: String) {
        let at = now.plus(AGAIN_AFTER);
        let again = self.again.get_or_insert_with(|| Again {
            requests: Vec::new(),
            reason,
            at,
        });
        again.requests.push(write);
    }

    /// The highest durable record.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// The number that the next record gets.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Records below `below` are not needed any more: later opens need not visit them (they may), and whole
    /// segments below it are reused once a later batch or mark that says so is durable. Never goes back; never
    /// frees what is not durable.
    pub fn release(&mut self, below: Lsn) {
        self.released = self.released.max(below.min(self.durable.next()));
    }

    /// The first record that is not released.
    pub fn released(&self) -> Lsn {
        self.released
    }

    /// When [`Wal::tick`] wants to be called; it may be called earlier.
    pub fn next_wakeup(&self) -> Option<Monotonic> {
        if self.failed.is_some() {
            return None;
        }
        let mark = self
            .mark_at()
            .filter(|_| self.in_flight.is_none() && self.place_mark().is_some());
        let create = self.wants_segment().then_some(self.create_at);
        let again = self.again.as_ref().map(|again| again.at);
        [mark, create, again].into_iter().flatten().min()
    }

    /// Writes a mark alone if one is due, and tries again what found no space.
    pub fn tick(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        if let Some(again) = self
            .again
            .take_if(|again| again.at <= now && self.failed.is_none())
        {
            out.extend(again.requests);
        }
        let due = self.mark_at().is_some_and(|at| at <= now);
        // Records that wait to be flushed carry the mark as well as one alone does.
        self.flush_wanted |= due && !self.open.is_empty();
        self.go_on(now, out);
        if due && self.in_flight.is_none() && self.failed.is_none() {
            self.mark(out);
        }
    }

    /// True if the token is the log's: it has bit 63 set. The embedding core uses the others.
    pub fn owns(token: IoToken) -> bool {
        token.0 & TOKEN_BIT != 0
    }

    /// True if no batch is open, and nothing on its way to the disk.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.in_flight.is_none() && self.turning.is_none()
    }

    /// Why nothing can be written: no segment could be made, or a write found no space (a full disk). Ends by itself when
    /// space is found or segments are released.
    pub fn starved(&self) -> Option<&str> {
        if let Some(again) = &self.again {
            return Some(&again.reason);
        }
        let waits = self.in_flight.is_some() || self.turning.is_some();
        let stuck = self.flush_wanted && !waits && self.spare.is_empty();
        self.create_fault.as_deref().filter(|_| stuck)
    }

    /// True if there is no segment to go on with and none could be made (a full disk): what is left of the current one is
    /// all there is, until space is found or segments are released.
    pub fn is_short(&self) -> bool {
        self.create_fault.is_some() && self.spare.is_empty()
    }

    /// Bytes that batches can still take in the segments that there are.
    pub fn left_bytes(&self) -> u64 {
        let spare: u64 = self.spare.iter().map(|segment| segment.bytes).sum();
        spare + u64::from(self.blocks_left()) * BLOCK_BYTES as u64
    }

    /// Bytes of a new segment.
    pub fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes
    }

    /// Bytes of all segments, those included that are being made.
    pub fn disk_bytes(&self) -> u64 {
        let segments = 1 + self.full.len() + self.spare.len() + usize::from(self.creating.is_some());
        segments as u64 * self.config.segment_bytes
    }

    /// Bytes of the segments that hold records which are not released: what a checkpoint would let go.
    pub fn held_bytes(&self) -> u64 {
        let full = self.full.iter().filter(|full| full.next_lsn > self.released);
        let current = u64::from(self.current.next_block) * BLOCK_BYTES as u64;
        full.map(|full| full.segment.bytes).sum::<u64>() + current
    }
}

/// The write to make again, if it is one and has only found no space. A sync is never made again.
fn for_want_of_space(fault: &io::Error, syncing: bool, write: &Option<IoRequest>) -> Option<IoRequest> {
    let is_full = matches!(
        fault.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    write.clone().filter(|_| is_full && !syncing)
}
