//! The log's write path: a synchronous core.
//!
//! A batch goes through *open* (records are appended), *writing*, *syncing*, durable. Only one is behind *open* at a
//! time. The last block of a segment is kept for marks, so that a log whose disk is full can still say that old
//! segments are released, and go on in them.

use crate::batch::OpenBatch;
use crate::format::{BLOCK_BYTES, Header};
use crate::recovery::{self, Image, Last};
use crate::segment::{SegmentFile, io_error, name};
use crate::{AppendError, Lsn, Recovered, Visitor, WalConfig, WalError};
use bytes::Bytes;
use drystone_env::{
    BufferPool, Disk, IoCompletion, IoOp, IoOutput, IoRequest, IoToken, Monotonic, OpenOptions, io,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Set in every token of the log.
const TOKEN_BIT: u64 = 1 << 63;
/// Blocks at the end of a segment that only marks may use.
const RESERVE_BLOCKS: u32 = 1;
/// After a segment could not be made. A full disk is not relieved sooner by asking more often.
const CREATE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// An open log. See the crate's page for what it promises.
pub struct Wal {
    disk: Arc<dyn Disk>,
    config: WalConfig,
    open: OpenBatch,
    current: Current,
    // Older segments, oldest first, that are needed or not yet known on the disk to be released.
    full: VecDeque<Full>,
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
    next_token: u64,
}

/// The segment that batches go to.
struct Current {
    segment: SegmentFile,
    generation: u64,
    next_block: u32,
}

struct Full {
    segment: SegmentFile,
    generation: u64,
    next_lsn: Lsn,
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
    number: u64,
    oldest: u64,
    last: Lsn,
    is_mark: bool,
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
        config.check();
        disk.create_dir(&config.directory)
            .map_err(io_error(format!("make {}", config.directory)))?;
        // A process that was killed may have left names that are not durable yet.
        disk.sync_dir("")
            .map_err(io_error("sync the data directory".into()))?;
        disk.sync_dir(&config.directory)
            .map_err(io_error(format!("sync {}", config.directory)))?;
        let Image {
            mut chain,
            spare,
            last,
            recovered,
        } = recovery::read(&*disk, &config, &pool, visit)?;
        let numbers = chain
            .iter()
            .map(|link| link.segment.number)
            .chain(spare.iter().map(|file| file.number));
        let mut next_file = numbers.max().map_or(1, |number| number + 1);
        let mut spare = VecDeque::from(recovery::tidy(&*disk, &config, spare)?);
        let current = match (chain.pop(), spare.pop_front()) {
            (Some(link), first) => {
                spare.extend(first);
                let next_block = (link.used / BLOCK_BYTES as u64) as u32;
                Current {
                    segment: link.segment,
                    generation: link.generation,
                    next_block,
                }
            }
            (None, Some(segment)) => Current {
                segment,
                generation: 1,
                next_block: 0,
            },
            (None, None) => {
                let segment = create(&*disk, &config, next_file, &pool)?;
                next_file += 1;
                Current {
                    segment,
                    generation: 1,
                    next_block: 0,
                }
            }
        };
        let full = chain.into_iter().map(|link| Full {
            segment: link.segment,
            generation: link.generation,
            next_lsn: Lsn(link.next_lsn),
        });
        let header = last.as_ref().map_or_else(
            || Header {
                first: 1,
                released: 1,
                oldest: 1,
                ..Header::default()
            },
            |last| last.header.clone(),
        );
        let next_lsn = Lsn(header.next_lsn());
        let mut wal = Wal {
            open: OpenBatch::new(pool.clone(), config.batch_bytes as usize),
            full: full.collect(),
            current,
            spare,
            next_file,
            creating: None,
            create_at: Monotonic(0),
            create_fault: None,
            in_flight: None,
            flush_wanted: false,
            tail: Tail {
                number: header.number,
                synced: header.number,
                crc: last.as_ref().map_or(0, |last| last.crc),
            },
            next_lsn,
            durable: Lsn(next_lsn.0 - 1),
            released: Lsn(header.released),
            unmarked_since: None,
            failed: None,
            next_token: 0,
            disk,
            config,
        };
        wal.make_durable(last, &pool)?;
        Ok((wal, recovered))
    }

    /// Writes the last batch again and syncs it, because the sync of the process before may have failed and what
    /// was read come from the page cache; then a mark, if there is room.
    fn make_durable(&mut self, last: Option<Last>, pool: &BufferPool) -> Result<(), WalError> {
        let name = name(&self.config.directory, self.current.segment.number);
        let file = Arc::clone(&self.current.segment.file);
        if let Some(last) = last {
            let offset = u64::from(last.header.place_blocks) * BLOCK_BYTES as u64;
            file.write_at(&last.bytes, offset)
                .map_err(io_error(format!("write {name}")))?;
            file.sync_data().map_err(io_error(format!("sync {name}")))?;
        }
        if self.blocks_left() > RESERVE_BLOCKS {
            let mut out = Vec::new();
            self.write_mark(&mut out);
            crate::tools::run(self, Monotonic(0), out, pool)?;
        }
        Ok(())
    }

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
        let in_flight = self
            .in_flight
            .as_mut()
            .filter(|batch| batch.token == completion.token);
        let batch = in_flight.expect("a token of the log names its segment or its batch in flight");
        if let Err(fault) = completion.result {
            let doing = if batch.syncing { "sync" } else { "write" };
            let reason = format!("{doing} of batch {}: {fault}", batch.number);
            self.failed = Some(reason.clone());
            return Err(WalError::Failed { reason });
        }
        if !batch.syncing {
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
        let durable = self.synced(now);
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
                self.create_at = now.plus(CREATE_AGAIN_AFTER);
            }
        }
    }

    /// The batch in flight is durable.
    fn synced(&mut self, now: Monotonic) -> Option<Lsn> {
        let batch = self.in_flight.take()?;
        self.tail.synced = batch.number;
        self.unmarked_since = (!batch.is_mark).then_some(now);
        while let Some(full) = self.full.pop_front_if(|full| full.generation < batch.oldest) {
            // A segment of an older configuration's length is left to the next opening, which removes it.
            if full.segment.bytes == self.config.segment_bytes {
                self.spare.push_back(full.segment);
            }
        }
        self.durable = batch.last;
        (!batch.is_mark).then_some(batch.last)
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
        [mark, create].into_iter().flatten().min()
    }

    /// Writes a mark alone if one is due, and retries a segment that could not be made.
    pub fn tick(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
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

    /// True if no batch is open or in flight.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.in_flight.is_none()
    }

    /// Why the open batch cannot be written: no segment could be made (a full disk). Ends by itself when space is
    /// found or segments are released.
    pub fn starved(&self) -> Option<&str> {
        let stuck = self.flush_wanted && self.in_flight.is_none() && self.spare.is_empty();
        self.create_fault.as_deref().filter(|_| stuck)
    }

    /// Bytes of the segments that hold records which are not released: what a checkpoint would let go.
    pub fn held_bytes(&self) -> u64 {
        let full = self.full.iter().filter(|full| full.next_lsn > self.released);
        let current = u64::from(self.current.next_block) * BLOCK_BYTES as u64;
        full.map(|full| full.segment.bytes).sum::<u64>() + current
    }

    /// Starts whatever can be started.
    fn go_on(&mut self, now: Monotonic, out: &mut Vec<IoRequest>) {
        if self.failed.is_some() {
            return;
        }
        if self.flush_wanted && self.in_flight.is_none() {
            if self.place_records() {
                self.flush_wanted = false;
                self.write_records(out);
            } else if self.frees() {
                // The records wait for the segments that this mark sets free.
                self.mark(out);
            }
        }
        if self.wants_segment() && self.create_at <= now {
            self.create_segment(out);
        }
    }

    fn blocks_left(&self) -> u32 {
        self.current
            .segment
            .blocks()
            .saturating_sub(self.current.next_block)
    }

    /// Makes the current segment one that the open batch fits into; false if there is none.
    fn place_records(&mut self) -> bool {
        if self.open.blocks() + RESERVE_BLOCKS <= self.blocks_left() {
            return true;
        }
        !self.spare.is_empty() && {
            self.roll();
            true
        }
    }

    /// True if there are segments that could be reused if the disk knew that they are released.
    fn frees(&self) -> bool {
        self.full
            .front()
            .is_some_and(|full| full.generation < self.oldest_needed())
    }

    /// Where a mark would go now. The reserve is given up only for segments that are gained, and only if no other
    /// is at hand.
    fn place_mark(&self) -> Option<Place> {
        if self.blocks_left() > RESERVE_BLOCKS {
            Some(Place::Here)
        } else if !self.spare.is_empty() {
            Some(Place::Next)
        } else {
            (self.frees() && self.blocks_left() > 0).then_some(Place::Here)
        }
    }

    /// Writes a mark alone if there is a place for it.
    fn mark(&mut self, out: &mut Vec<IoRequest>) {
        match self.place_mark() {
            Some(Place::Here) => self.write_mark(out),
            Some(Place::Next) => {
                self.roll();
                self.write_mark(out);
            }
            None => (),
        }
    }

    /// When a mark is due if nothing else is written: for the last batch, or at once for segments that wait to be
    /// reused.
    fn mark_at(&self) -> Option<Monotonic> {
        let news = self.frees().then_some(Monotonic(0));
        news.or(self
            .unmarked_since
            .map(|since| since.plus(self.config.mark_after)))
    }

    /// The generation of the first segment that holds a record which is not released.
    fn oldest_needed(&self) -> u64 {
        let needed = self.full.iter().find(|full| full.next_lsn > self.released);
        needed.map_or(self.current.generation, |full| full.generation)
    }

    fn wants_segment(&self) -> bool {
        (self.spare.len() as u64) < u64::from(self.config.spare_segments) && self.creating.is_none()
    }

    fn create_segment(&mut self, out: &mut Vec<IoRequest>) {
        let token = self.token();
        let number = self.next_file;
        self.next_file += 1;
        self.creating = Some((token, number));
        out.push(IoRequest {
            token,
            op: IoOp::Create {
                disk: Arc::clone(&self.disk),
                name: name(&self.config.directory, number),
                length: self.config.segment_bytes,
                options: OpenOptions {
                    direct: self.config.direct,
                    ..OpenOptions::default()
                },
                prewrite: true,
            },
        });
    }

    /// Goes on in a spare segment; there must be one.
    fn roll(&mut self) {
        let segment = self
            .spare
            .pop_front()
            .expect("the caller has checked for a spare segment");
        let generation = self.current.generation + 1;
        let old = std::mem::replace(
            &mut self.current,
            Current {
                segment,
                generation,
                next_block: 0,
            },
        );
        // Every batch in it is durable, so what is durable is what it holds.
        let next_lsn = self.durable.next();
        self.full.push_back(Full {
            segment: old.segment,
            generation: old.generation,
            next_lsn,
        });
    }

    /// Writes the open batch into the current segment, where it must fit.
    fn write_records(&mut self, out: &mut Vec<IoRequest>) {
        let empty = self.open.successor();
        let batch = std::mem::replace(&mut self.open, empty);
        self.write(batch, Lsn(self.next_lsn.0 - 1), out);
    }

    /// Writes a mark into the current segment, where it must fit. The open batch stays as it is.
    fn write_mark(&mut self, out: &mut Vec<IoRequest>) {
        self.write(self.open.successor(), self.durable, out);
    }

    /// Writes `batch`, after which every record up to `last` is durable.
    fn write(&mut self, batch: OpenBatch, last: Lsn, out: &mut Vec<IoRequest>) {
        assert!(self.in_flight.is_none(), "one batch is in flight at a time");
        let blocks = batch.blocks();
        assert!(blocks <= self.blocks_left(), "the caller has found a place");
        let is_mark = batch.is_empty();
        let number = self.tail.number + 1;
        let oldest = self.oldest_needed();
        let place_blocks = self.current.next_block;
        let (parts, crc) = batch.finish(Header {
            identity: self.config.identity,
            generation: self.current.generation,
            number,
            synced: self.tail.synced,
            first: self.durable.next().0,
            released: self.released.0,
            oldest,
            place_blocks,
            segment_blocks: self.current.segment.blocks(),
            previous_crc: self.tail.crc,
            ..Header::default()
        });
        (self.tail.number, self.tail.crc) = (number, crc);
        self.current.next_block += blocks;
        let token = self.token();
        self.in_flight = Some(InFlight {
            token,
            syncing: false,
            number,
            oldest,
            last,
            is_mark,
        });
        let offset = u64::from(place_blocks) * BLOCK_BYTES as u64;
        let file = Arc::clone(&self.current.segment.file);
        out.push(IoRequest {
            token,
            op: IoOp::Write { file, offset, parts },
        });
    }

    fn token(&mut self) -> IoToken {
        self.next_token += 1;
        IoToken(TOKEN_BIT | self.next_token)
    }
}

/// Where a mark goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Here,
    Next,
}

fn create(
    disk: &dyn Disk,
    config: &WalConfig,
    number: u64,
    pool: &BufferPool,
) -> Result<SegmentFile, WalError> {
    let name = name(&config.directory, number);
    let options = OpenOptions {
        direct: config.direct,
        ..OpenOptions::default()
    };
    let file = io::create(disk, &name, config.segment_bytes, options, true, pool)
        .map_err(io_error(format!("create {name}")))?;
    Ok(SegmentFile {
        number,
        file,
        bytes: config.segment_bytes,
    })
}
