//! The store, its entrance, and its disk work.

use crate::cache::SumCache;
use crate::checkpoint::Checkpoint;
use crate::format::{BLOCK, SlotRef};
use crate::index::{Entry, State};
use crate::journal::Journal;
use crate::live::{Live, OpKind};
use crate::mover::Mover;
use crate::read::ReadJob;
use crate::slots::{FileKey, Slots};
use crate::{Input, OpenError, Output, RecoveryReport, Reply, RequestId, Status, StoreConfig, StoreError};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk, IoCompletion, IoOp, IoOutput, IoRequest, IoToken, Monotonic};
use drystone_types::{ChunkId, DiskRef, SizeClass};
use drystone_wal::Wal;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Free slots kept beyond the configured spare ones, at most, because chunks are being written.
const MOST_EXTRA_SPARES: usize = 8;

/// One disk in service. See the crate's page for what it promises.
pub struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: StoreConfig,
    pub(crate) me: DiskRef,
    pub(crate) pool: BufferPool,
    pub(crate) now: Monotonic,
    pub(crate) journal: Journal,
    pub(crate) index: BTreeMap<ChunkId, Entry>,
    pub(crate) live: BTreeMap<ChunkId, Live>,
    pub(crate) next_live: u64,
    live_by_class: [usize; 4],
    /// Chunks with delete records on their way: how many.
    pub(crate) deleting: BTreeMap<ChunkId, u32>,
    pub(crate) slots: Slots,
    /// Chunks that wait for a slot, by class.
    pub(crate) slot_queue: [VecDeque<(ChunkId, u64)>; 4],
    pub(crate) reads: BTreeMap<u64, ReadJob>,
    pub(crate) next_job: u64,
    pub(crate) cache: SumCache,
    pub(crate) mover: Mover,
    pub(crate) checkpoint: Checkpoint,
    /// Highest floor that is durable.
    pub(crate) floor: ChunkId,
    pub(crate) failed: Option<String>,
    pub(crate) memory: u64,
    pub(crate) used: u64,
    pub(crate) open_chunks: u64,
    pub(crate) io_errors: u64,
    pub(crate) checksum_errors: u64,
    next_token: u64,
    doing: BTreeMap<u64, Doing>,
    requests: Vec<IoRequest>,
    replies: Vec<(RequestId, Result<Reply, StoreError>)>,
    wake: Option<Monotonic>,
}

/// What a request of the store's own is for.
pub(crate) enum Doing {
    SlotWrite {
        chunk: ChunkId,
        live: u64,
        slot: SlotRef,
        bytes: u64,
    },
    FileSync {
        file: FileKey,
    },
    ReadData {
        job: u64,
        slot: SlotRef,
    },
    ReadHead {
        job: u64,
        slot: SlotRef,
    },
    Create {
        file: FileKey,
        length: u64,
    },
    Checkpoint,
}

impl Store {
    /// Opens the store in the disk's directory, blocking, or makes an empty one if there is none. Everything that
    /// was ever reported durable is there, or this fails.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        config: StoreConfig,
        me: DiskRef,
        pool: BufferPool,
    ) -> Result<(Store, RecoveryReport), OpenError> {
        crate::recovery::open(disk, config, me, pool)
    }

    pub(crate) fn new(
        (disk, config, me, pool): (Arc<dyn Disk>, StoreConfig, DiskRef, BufferPool),
        wal: Wal,
        slots: Slots,
        checkpoint: Checkpoint,
        floor: ChunkId,
    ) -> Self {
        let cache = SumCache::new(config.checksum_cache_bytes);
        Self {
            disk,
            config,
            me,
            pool,
            now: Monotonic(0),
            journal: Journal::new(wal),
            index: BTreeMap::new(),
            live: BTreeMap::new(),
            next_live: 1,
            live_by_class: [0; 4],
            deleting: BTreeMap::new(),
            slots,
            slot_queue: Default::default(),
            reads: BTreeMap::new(),
            next_job: 1,
            cache,
            mover: Mover::default(),
            checkpoint,
            floor,
            failed: None,
            memory: 0,
            used: 0,
            open_chunks: 0,
            io_errors: 0,
            checksum_errors: 0,
            next_token: 1,
            doing: BTreeMap::new(),
            requests: Vec::new(),
            replies: Vec::new(),
            wake: None,
        }
    }

    /// Takes one input. Outputs are in the order in which they were decided.
    pub fn on(&mut self, now: Monotonic, input: Input, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        let was_failed = self.failed.is_some();
        match input {
            Input::Io(completion) => self.on_io(completion),
            Input::Tick => {
                self.wake = None;
                if self.failed.is_none() {
                    let Self {
                        journal, requests, ..
                    } = self;
                    journal.wal.tick(now, requests);
                    self.slots.refresh(&self.disk);
                }
            }
            other => self.on_request(other),
        }
        if self.failed.is_none() {
            self.make_slots();
            self.run_mover();
            self.run_checkpoint();
            self.flush_journal();
        }
        if self.failed.is_some() && !was_failed {
            // Only here are all chunks in their places again.
            self.retry_waiting_reads();
        }
        out.extend(self.requests.drain(..).map(Output::Io));
        out.extend(
            self.replies
                .drain(..)
                .map(|(request, result)| Output::Reply { request, result }),
        );
        self.ask_for_wake(out);
    }

    fn ask_for_wake(&mut self, out: &mut Vec<Output>) {
        if self.failed.is_some() {
            return;
        }
        let due = [self.journal.wal.next_wakeup(), self.mover.next_wakeup()]
            .into_iter()
            .flatten()
            .min();
        if let Some(due) = due
            && self.wake.is_none_or(|wake| due < wake)
        {
            self.wake = Some(due);
            out.push(Output::Wake(due));
        }
    }

    fn on_request(&mut self, input: Input) {
        match input {
            Input::Append {
                request,
                chunk,
                epoch,
                placement,
                class,
                offset,
                data,
                checksums,
                sync,
                last,
            } => {
                let frame = crate::append::Frame {
                    request,
                    chunk,
                    epoch,
                    placement,
                    class,
                    offset,
                    data,
                    checksums,
                    sync,
                    last,
                };
                self.on_append(frame);
            }
            Input::Finish {
                request,
                chunk,
                epoch,
                placement,
                length,
            } => {
                self.on_finish(request, chunk, epoch, placement, length);
            }
            Input::Fence {
                request,
                chunk,
                epoch,
            } => self.on_fence(request, chunk, epoch),
            Input::Seal {
                request,
                chunk,
                epoch,
                length,
                checksum,
            } => {
                self.on_seal(request, chunk, epoch, length, checksum);
            }
            Input::Status { request, chunk } => {
                let status = self.replica(chunk);
                self.reply(request, Ok(Reply::Status(status)));
            }
            Input::Read {
                request,
                chunk,
                placement,
                offset,
                length,
            } => {
                self.on_read(request, chunk, placement, offset, length);
            }
            Input::Delete {
                request,
                chunk,
                placement,
                incarnation,
            } => {
                self.on_delete(request, chunk, placement, incarnation);
            }
            Input::List {
                request,
                after,
                limit,
            } => self.on_list(request, after, limit),
            Input::RaiseFloor { request, floor } => self.on_raise_floor(request, floor),
            Input::Io(_) | Input::Tick => unreachable!("handled by the caller"),
        }
    }

    fn on_io(&mut self, completion: IoCompletion) {
        if completion.result.is_err() {
            self.io_errors += 1;
        }
        if Wal::owns(completion.token) {
            self.on_journal_io(completion);
            return;
        }
        let Some(doing) = self.doing.remove(&completion.token.0) else {
            return;
        };
        let token = completion.token.0;
        match doing {
            Doing::SlotWrite {
                chunk,
                live,
                slot,
                bytes,
            } => {
                self.slots.unpin(slot);
                self.on_slot_write(token, chunk, live, bytes, completion.result);
            }
            Doing::FileSync { file } => self.on_file_sync(file, completion.result),
            Doing::ReadData { job, slot } => {
                self.slots.unpin(slot);
                self.on_read_data(job, bytes_of(completion.result));
            }
            Doing::ReadHead { job, slot } => {
                self.slots.unpin(slot);
                self.on_read_head(job, bytes_of(completion.result));
            }
            Doing::Create { file, length } => self.on_created(file, length, completion.result),
            Doing::Checkpoint => self.on_checkpoint_io(completion.result),
        }
    }

    /// Asks for disk work.
    pub(crate) fn request(&mut self, op: IoOp, doing: Doing) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.doing.insert(token, doing);
        self.requests.push(IoRequest {
            token: IoToken(token),
            op,
        });
        token
    }

    pub(crate) fn reply(&mut self, request: RequestId, result: Result<Reply, StoreError>) {
        self.replies.push((request, result));
    }

    pub(crate) fn flush_journal(&mut self) {
        let Self {
            journal,
            requests,
            now,
            ..
        } = self;
        journal.flush(*now, requests);
    }

    pub(crate) fn journal_completion(&mut self, completion: IoCompletion) -> Result<(), String> {
        let Self {
            journal,
            requests,
            now,
            ..
        } = self;
        journal
            .wal
            .on_completion(*now, completion, requests)
            .map(|_| ())
            .map_err(|e| e.to_string())
    }

    /// A write or sync failed: nothing is written any more, whoever waits learns it, reads go on.
    pub(crate) fn fail(&mut self, reason: String) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(disk = %self.me, reason, "disk takes no writes any more");
        self.failed = Some(reason.clone());
        let mut waiting: Vec<RequestId> = self.journal.requests();
        for live in self.live.values_mut() {
            waiting.extend(live.ops.drain(..).map(|op| op.request));
        }
        for request in waiting {
            self.reply(
                request,
                Err(StoreError::ReadOnly {
                    reason: reason.clone(),
                }),
            );
        }
    }

    /// Enters what is durable of a chunk.
    pub(crate) fn set_entry(&mut self, chunk: ChunkId, entry: Option<Entry>) {
        let old = match entry {
            Some(entry) => self.index.insert(chunk, entry),
            None => self.index.remove(&chunk),
        };
        let open = |e: &Entry| matches!(e.state, State::Open | State::Fenced);
        self.used = self.used + entry.map_or(0, |e| e.length) - old.map_or(0, |e| e.length);
        self.open_chunks = self.open_chunks + u64::from(entry.as_ref().is_some_and(open))
            - u64::from(old.as_ref().is_some_and(open));
    }

    /// Puts a chunk back whose state may have changed.
    pub(crate) fn keep_live(&mut self, chunk: ChunkId, mut live: Live) {
        let now = live.memory();
        self.memory = self.memory + now - live.accounted;
        live.accounted = now;
        self.live.insert(chunk, live);
    }

    /// Enters a chunk that was not in memory.
    pub(crate) fn add_live(&mut self, chunk: ChunkId, live: Live) {
        self.live_by_class[live.class.number() as usize] += 1;
        self.keep_live(chunk, live);
    }

    /// Forgets what is in memory of a chunk.
    pub(crate) fn drop_live(&mut self, live: &Live) {
        self.live_by_class[live.class.number() as usize] -= 1;
        self.memory -= live.accounted;
    }

    /// Writes `parts`, whole blocks, to the chunk's slot at `at` in the file, for its bytes from `start` to `end`.
    pub(crate) fn write_slot(
        &mut self,
        chunk: ChunkId,
        live: &mut Live,
        at: u64,
        parts: Vec<Bytes>,
        (start, end): (u64, u64),
    ) -> Option<u64> {
        let slot = live.slot.expect("writes only begin with a slot");
        let Some(file) = self.slots.file(slot).cloned() else {
            self.fail(format!("slot file of {slot:?} is gone"));
            return None;
        };
        let bytes = parts.iter().map(|p| p.len() as u64).sum();
        assert!(
            at.is_multiple_of(BLOCK) && parts.iter().all(|p| (p.len() as u64).is_multiple_of(BLOCK)),
            "direct writes are whole blocks"
        );
        self.slots.pin(slot);
        let doing = Doing::SlotWrite {
            chunk,
            live: live.id,
            slot,
            bytes,
        };
        let token = self.request(
            IoOp::Write {
                file,
                offset: at,
                parts,
            },
            doing,
        );
        live.writes.insert(token, (start, end));
        live.writing_bytes += bytes;
        Some(token)
    }

    fn on_slot_write(
        &mut self,
        token: u64,
        chunk: ChunkId,
        live_id: u64,
        bytes: u64,
        result: io::Result<IoOutput>,
    ) {
        if let Err(error) = result {
            self.fail(format!("slot write: {error}"));
        }
        self.mover.written(token);
        let Some(mut live) = self.live.remove(&chunk) else {
            return;
        };
        let mut retry = Vec::new();
        if live.id == live_id {
            live.writes.remove(&token);
            live.writing_bytes -= bytes;
            retry = std::mem::take(&mut live.waiting_reads);
        }
        self.keep_live(chunk, live);
        self.drive(chunk);
        for job in retry {
            self.begin_read(job);
        }
    }

    /// A sync of the slot's file that covers every write completed so far: its number.
    pub(crate) fn sync_slot(&mut self, slot: SlotRef, chunk: Option<ChunkId>) -> u64 {
        let key = (slot.class, slot.file);
        let Some(file) = self.slots.files.get_mut(&key) else {
            return 0;
        };
        file.waiters.extend(chunk);
        if file.syncing {
            file.sync_wanted = true;
            return file.synced + 2;
        }
        file.syncing = true;
        let (number, handle) = (file.synced + 1, Arc::clone(&file.file));
        self.request(IoOp::Sync { file: handle }, Doing::FileSync { file: key });
        number
    }

    /// True if the sync of this number has completed.
    pub(crate) fn is_synced(&self, slot: SlotRef, number: u64) -> bool {
        self.slots
            .files
            .get(&(slot.class, slot.file))
            .is_some_and(|file| file.synced >= number)
    }

    fn on_file_sync(&mut self, key: FileKey, result: io::Result<IoOutput>) {
        if let Err(error) = result {
            self.fail(format!("slot file sync: {error}"));
            return;
        }
        if self.failed.is_some() {
            return;
        }
        let Some(file) = self.slots.files.get_mut(&key) else {
            return;
        };
        file.synced += 1;
        file.syncing = false;
        let waiters = std::mem::take(&mut file.waiters);
        if std::mem::take(&mut file.sync_wanted) {
            file.syncing = true;
            file.waiters = waiters.clone();
            let handle = Arc::clone(&file.file);
            self.request(IoOp::Sync { file: handle }, Doing::FileSync { file: key });
        }
        for chunk in waiters {
            self.drive(chunk);
        }
    }

    /// Asks for slot files ahead of need.
    fn make_slots(&mut self) {
        for class in SizeClass::ALL {
            let queue = &self.slot_queue[class.number() as usize];
            let busy = self.live_by_class[class.number() as usize].min(MOST_EXTRA_SPARES);
            let extra = if class == SizeClass::K64 { 0 } else { busy };
            let wanted = self.config.spare_slots(class) + extra + queue.len();
            while let Some(count) = self.slots.plan_file(&self.config, class, wanted) {
                let (file, length, op) = self.slots.create(&self.disk, &self.config, class, count);
                self.request(op, Doing::Create { file, length });
            }
            if !self.slot_queue[class.number() as usize].is_empty() {
                self.hand_out_slots(class);
                if !self.slots.is_creating(class) {
                    self.refuse_waiting(class);
                }
            }
        }
    }

    fn on_created(&mut self, key: FileKey, length: u64, result: io::Result<IoOutput>) {
        let class = key.0;
        self.slots.created(&self.disk, class, length);
        let added = match result {
            Ok(IoOutput::File(file)) => self.slots.add(key, file),
            Ok(_) => Err(io::Error::other("no file came back")),
            Err(error) => Err(error),
        };
        match added {
            Ok(()) => self.hand_out_slots(class),
            Err(error) if is_full(&error) => {
                // The file system has less room than it said; nothing was written over anything.
                tracing::warn!(disk = %self.me, "no room for another slot file");
                self.slots.space.free = 0;
                self.refuse_waiting(class);
            }
            Err(error) => self.fail(format!("making a slot file: {error}")),
        }
    }

    pub(crate) fn hand_out_slots(&mut self, class: SizeClass) {
        while let Some(&(chunk, id)) = self.slot_queue[class.number() as usize].front() {
            let waits = self
                .live
                .get(&chunk)
                .is_some_and(|live| live.id == id && live.slot.is_none());
            if waits {
                let Some(slot) = self.slots.take(class) else {
                    return;
                };
                if let Some(live) = self.live.get_mut(&chunk) {
                    live.slot = Some(slot);
                }
            }
            self.slot_queue[class.number() as usize].pop_front();
            if waits {
                self.drive(chunk);
            }
        }
    }

    /// Nobody will get a slot: what waits for one has nothing durable and goes.
    fn refuse_waiting(&mut self, class: SizeClass) {
        for (chunk, id) in std::mem::take(&mut self.slot_queue[class.number() as usize]) {
            if self
                .live
                .get(&chunk)
                .is_none_or(|live| live.id != id || live.slot.is_some())
            {
                continue;
            }
            let Some(mut live) = self.live.remove(&chunk) else {
                continue;
            };
            self.drop_live(&live);
            let error = self.no_space(class);
            for op in live.ops.drain(..) {
                match op.kind {
                    OpKind::Fence { epoch } => self.leave_marker(op.request, chunk, epoch),
                    _ => self.reply(op.request, Err(error.clone())),
                }
            }
        }
    }

    pub(crate) fn no_space(&self, class: SizeClass) -> StoreError {
        StoreError::NoSpace {
            needed: class.bytes(),
            free: self.slots.room(&self.config),
        }
    }

    /// The disk at a glance.
    pub fn status(&self) -> Status {
        let room = self.slots.room(&self.config);
        Status {
            capacity_bytes: self.slots.file_bytes + room,
            free_bytes: self.slots.free_bytes() + room,
            used_bytes: self.used,
            chunks: self.index.values().filter(|e| e.state != State::Marker).count() as u64,
            open_chunks: self.open_chunks,
            queue: self.doing.len() as u32,
            memory_bytes: self.memory,
            io_errors: self.io_errors,
            checksum_errors: self.checksum_errors,
            read_only: self.failed.clone(),
        }
    }

    /// [`Status::memory_bytes`] alone, at no cost: for back-pressure after every step.
    pub fn memory_bytes(&self) -> u64 {
        self.memory
    }

    /// The highest grant floor that is durable here.
    pub fn floor(&self) -> ChunkId {
        self.floor
    }

    /// True if nothing is under way, waiting or due: what a test waits for.
    pub fn is_idle(&self) -> bool {
        self.doing.is_empty()
            && self.journal.is_idle()
            && self.mover.is_idle()
            && self.slot_queue.iter().all(VecDeque::is_empty)
    }
}

fn bytes_of(result: io::Result<IoOutput>) -> Result<Bytes, String> {
    match result {
        Ok(IoOutput::Bytes(bytes)) => Ok(bytes),
        Ok(_) => Err("no bytes came back".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
