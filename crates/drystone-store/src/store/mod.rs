//! The store and its entrance: it owns the parts, and carries what one of them has to say to another.

mod completions;

use crate::active::ActiveChunks;
use crate::checkpoint::Checkpoint;
use crate::class::IoClass;
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::format::Runs;
use crate::index::Index;
use crate::input::{RecoveryReport, Status, StoreInput, StoreOutput, StoreReply};
use crate::journal::Journal;
use crate::query;
use crate::read::{ChunkReader, CutBlock, ReadsUnderWay};
use crate::recovery::{self, RecoveredParts};
use crate::space::{ChunkSpace, Owner};
use crate::sums::SumCache;
use crate::work::{DiskHealth, DiskWork, Replies};
use crate::write::{AfterAppend, ChunkWriter, Driven, Emptier, Moved, Mover};
use drystone_env::{BufferPool, Disk, Monotonic};
use drystone_types::{ChunkId, DiskRef};
use std::sync::Arc;

/// One disk in service. See the crate's page for what it promises.
pub struct Store {
    config: StoreConfig,
    me: DiskRef,
    pool: BufferPool,
    now: Monotonic,
    journal: Journal,
    index: Index,
    active: ActiveChunks,
    space: ChunkSpace,
    reads: ReadsUnderWay,
    sums: SumCache,
    mover: Mover,
    emptier: Emptier,
    checkpoint: Checkpoint,
    work: DiskWork,
    replies: Replies,
    health: DiskHealth,
    /// The time that was asked for last.
    wake: Option<Monotonic>,
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
        let RecoveredParts {
            journal,
            index,
            active,
            space,
            mover,
            checkpoint,
            report,
        } = recovery::open(&disk, &config, me, &pool)?;
        let mut store = Store {
            sums: SumCache::new(config.checksum_cache_bytes),
            config,
            me,
            pool,
            now: Monotonic(0),
            journal,
            index,
            active,
            space,
            reads: ReadsUnderWay::default(),
            mover,
            emptier: Emptier::default(),
            checkpoint,
            work: DiskWork::new(),
            replies: Replies::default(),
            health: DiskHealth::default(),
            wake: None,
        };
        store.leave_for_journal();
        Ok((store, report))
    }

    /// Takes one input. Outputs are in the order in which they were decided.
    pub fn on(&mut self, now: Monotonic, input: StoreInput, out: &mut Vec<StoreOutput>) {
        self.now = self.now.max(now);
        let was_failed = self.health.failed.is_some();
        match input {
            StoreInput::Io(completion) => self.on_io(completion),
            StoreInput::Tick => {
                self.wake = None;
                if self.health.failed.is_none() {
                    self.journal.tick(now, &mut self.work.requests);
                    self.space.refresh();
                }
            }
            other => self.on_request(other),
        }
        if self.health.failed.is_none() {
            self.give_space();
            self.run_mover();
            self.writer().run_emptier();
            self.run_checkpoint();
            self.journal.flush(self.now, &mut self.work.requests);
        }
        if self.health.failed.is_some() && !was_failed {
            // Only here are all chunks in their places again.
            self.writer().refuse_all_waiting();
            self.retry_waiting_reads();
        }
        let requests = self.work.take_requests();
        out.extend(requests.map(|(class, request)| StoreOutput::Io { class, request }));
        let replies = self.replies.take();
        out.extend(replies.map(|(request, result)| StoreOutput::StoreReply { request, result }));
        self.ask_for_wake(out);
    }

    fn ask_for_wake(&mut self, out: &mut Vec<StoreOutput>) {
        if self.health.failed.is_some() {
            return;
        }
        let due = [
            self.journal.next_wakeup(),
            self.mover.next_wakeup(),
            self.emptier.next_wakeup(),
            self.space.next_wakeup(),
            self.checkpoint.next_wakeup(),
        ]
        .into_iter()
        .flatten()
        .min();
        if let Some(due) = due
            && self.wake.is_none_or(|wake| due < wake)
        {
            self.wake = Some(due);
            out.push(StoreOutput::Wake(due));
        }
    }

    fn on_request(&mut self, input: StoreInput) {
        match input {
            StoreInput::Append { request, frame } => match self.writer().on_append(request, frame) {
                AfterAppend::Done => {}
                AfterAppend::Drive(chunk) => self.drive(chunk),
                AfterAppend::Compare(compare) => self.reader().begin_compare(compare),
            },
            StoreInput::Finish {
                request,
                chunk,
                epoch,
                placement,
                length,
            } => {
                let goes_on = self.writer().on_finish(request, chunk, epoch, placement, length);
                self.drive_if(goes_on, chunk);
            }
            StoreInput::Fence {
                request,
                chunk,
                epoch,
            } => {
                let goes_on = self.writer().on_fence(request, chunk, epoch);
                self.drive_if(goes_on, chunk);
            }
            StoreInput::Seal {
                request,
                chunk,
                epoch,
                length,
                checksum,
            } => {
                let goes_on = self.writer().on_seal(request, chunk, epoch, length, checksum);
                self.drive_if(goes_on, chunk);
            }
            StoreInput::Status { request, chunk } => {
                let status = query::replica(&self.index, &self.active, chunk);
                self.replies.send(request, Ok(StoreReply::Status(status)));
            }
            StoreInput::Read {
                request,
                chunk,
                placement,
                offset,
                length,
                io_class,
            } => {
                let range = (offset, length);
                self.reader().on_read(request, chunk, placement, range, io_class);
            }
            StoreInput::Delete {
                request,
                chunk,
                placement,
                incarnation,
            } => {
                let deleted = self.writer().on_delete(request, chunk, placement, incarnation);
                if let Some((request, runs)) = deleted.unrecorded {
                    self.release(runs);
                    self.replies.send(request, Ok(StoreReply::Deleted));
                }
                self.look_again(deleted.waiting_reads);
            }
            StoreInput::List {
                request,
                after,
                limit,
            } => {
                let page = query::list(&self.index, &self.active, after, limit);
                self.replies.send(request, Ok(page));
            }
            StoreInput::RaiseFloor { request, floor } => self.writer().on_raise_floor(request, floor),
            StoreInput::Io(_) | StoreInput::Tick => unreachable!("handled by the caller"),
        }
    }

    /// The parts that changing chunks needs.
    fn writer(&mut self) -> ChunkWriter<'_> {
        ChunkWriter {
            config: &self.config,
            me: self.me,
            pool: &self.pool,
            now: self.now,
            index: &mut self.index,
            active: &mut self.active,
            space: &mut self.space,
            journal: &mut self.journal,
            mover: &mut self.mover,
            emptier: &mut self.emptier,
            sums: &mut self.sums,
            work: &mut self.work,
            replies: &mut self.replies,
            health: &mut self.health,
        }
    }

    /// The parts that reading needs.
    fn reader(&mut self) -> ChunkReader<'_> {
        ChunkReader {
            me: self.me,
            pool: &self.pool,
            index: &self.index,
            active: &mut self.active,
            space: &mut self.space,
            reads: &mut self.reads,
            sums: &mut self.sums,
            work: &mut self.work,
            replies: &mut self.replies,
            health: &mut self.health,
        }
    }

    /// Does what can be done for the chunk's operations, and what follows from it.
    fn drive(&mut self, chunk: ChunkId) {
        loop {
            match self.writer().drive(chunk) {
                Driven::Waits => return,
                Driven::Verify(request, epoch) => self.reader().begin_verify(request, chunk, epoch),
                Driven::Cut(length) => {
                    let cut = self.reader().begin_cut(chunk, length);
                    return self.on_cut(cut);
                }
                Driven::Gone(reads) => return self.look_again(reads),
            }
        }
    }

    fn drive_if(&mut self, goes_on: bool, chunk: ChunkId) {
        if goes_on {
            self.drive(chunk);
        }
    }

    /// The block that a seal cuts was read, if this is one.
    fn on_cut(&mut self, cut: Option<CutBlock>) {
        if let Some(cut) = cut {
            let chunk = cut.chunk;
            self.writer().on_cut(cut);
            self.drive(chunk);
        }
    }

    /// Reads that waited for a change of their chunk look where its bytes are now.
    fn look_again(&mut self, reads: Vec<u64>) {
        for id in reads {
            let cut = self.reader().begin_read(id);
            self.on_cut(cut);
        }
    }

    /// The disk has failed: those who wait for what will never be written learn it now.
    fn retry_waiting_reads(&mut self) {
        let mut waiting = Vec::new();
        for live in self.active.values_mut() {
            waiting.append(&mut live.waiting_reads);
        }
        self.look_again(waiting);
    }

    fn run_mover(&mut self) {
        loop {
            let batch = self.writer().run_mover();
            if batch.is_empty() {
                return;
            }
            for moved in batch {
                match self.writer().finish_moved(&moved) {
                    Moved::Nothing => {}
                    Moved::Drive(chunk) => self.drive(chunk),
                    Moved::Gone(reads) => self.look_again(reads),
                }
            }
        }
    }

    fn run_checkpoint(&mut self) {
        // Where no segment can be made, what can be let go is let go: on a full disk deletions must go on.
        let StoreConfig {
            checkpoint_bytes,
            segment_bytes,
            ..
        } = self.config;
        let limit = match (self.journal.is_starved(), self.journal.is_short()) {
            (true, _) => 0,
            // There is one beside the current segment.
            (_, true) => checkpoint_bytes.min(segment_bytes + 1),
            _ => checkpoint_bytes,
        };
        self.checkpoint.begin_if_due(&self.journal, limit);
        self.checkpoint.try_again(self.now, &mut self.work);
        let urged = self.checkpoint.run(
            self.me,
            &mut self.index,
            &self.active,
            self.space.next_arena(),
            &self.pool,
            &mut self.work,
        );
        if let Some(urged) = urged {
            self.mover.urge(urged);
        }
    }

    /// Makes arenas ahead of need, gives chunks that wait what there is, and removes arenas that nobody needs.
    fn give_space(&mut self) {
        self.leave_for_journal();
        self.hand_out();
        self.space.make_arenas(&self.config, &mut self.work);
        while let Some((chunk, id, units)) = self.space.first_waiting() {
            if self.space.is_making() {
                break;
            }
            // No arena can be made: it is the disk that is full.
            self.space.pop_waiting();
            self.writer().refuse_waiting(chunk, id, units);
            self.hand_out();
        }
        self.space.remove_arenas(&self.config, self.now, &mut self.work);
    }

    fn leave_for_journal(&mut self) {
        let most = self.config.journal_bytes();
        let growth = most.saturating_sub(self.journal.disk_bytes());
        self.space.leave_for_journal(growth);
    }

    fn hand_out(&mut self) {
        while let Some((chunk, id, units)) = self.space.first_waiting() {
            let found = self.active.get_mut(chunk);
            let waits = found.filter(|live| live.id == id && live.runs.is_none());
            let drive = waits.is_some();
            if let Some(live) = waits {
                let Some(runs) = self.space.take(&self.config, units, live.io_class) else {
                    return;
                };
                live.runs = Some(runs);
            }
            self.space.pop_waiting();
            self.drive_if(drive, chunk);
        }
    }

    /// The runs belong to no chunk any more.
    fn release(&mut self, runs: Option<Runs>) {
        if let Some(runs) = runs {
            self.space.release(Owner::of(&runs), runs.as_slice().to_vec());
            self.hand_out();
        }
    }

    /// Begins a checkpoint now, for tests and an orderly end.
    pub fn begin_checkpoint(&mut self) {
        if self.health.failed.is_none() {
            self.checkpoint.begin(&self.journal);
        }
    }

    /// The chunk ids for which a checkpoint would have to wait; for tests.
    #[doc(hidden)]
    pub fn unmoved(&self) -> Vec<ChunkId> {
        let unmoved = self.active.iter().filter(|(_, live)| live.journal_from.is_some());
        unmoved.map(|(chunk, _)| *chunk).collect()
    }

    /// The chunks that are being moved out of an arena; for tests.
    #[doc(hidden)]
    pub fn moving(&self) -> Vec<ChunkId> {
        self.emptier.moving()
    }

    /// Asks the file system how much is free, which others may have changed: one call that does not wait for the device.
    pub fn refresh_space(&mut self) {
        self.space.refresh();
    }

    /// The disk at a glance, with the free space of the file system as it was when it was looked at last.
    pub fn status(&self) -> Status {
        let counts = self.index.counts();
        let free_bytes = self.space.free_bytes(&self.config, IoClass::Foreground);
        let (device_bytes, others_bytes) = self.space.device_bytes();
        let used_bytes = self.space.used_bytes();
        let (moved_chunks, moved_bytes) = self.emptier.moved();
        Status {
            capacity_bytes: self.space.capacity_bytes(&self.config),
            free_bytes,
            used_bytes,
            shared_free_bytes: self.space.room(&self.config).min(free_bytes),
            device_bytes,
            kept_bytes: device_bytes.saturating_sub(others_bytes + used_bytes + free_bytes),
            others_bytes,
            content_bytes: counts.content_bytes,
            chunks: counts.chunks,
            open_chunks: counts.open_chunks,
            queue: self.work.count() as u32,
            memory_bytes: self.active.all_memory_bytes(),
            io_errors: self.health.io_errors,
            checksum_errors: self.health.checksum_errors,
            emptied_arenas: self.space.emptied_arenas(),
            moved_chunks,
            moved_bytes,
            read_only: self.health.failed.clone(),
        }
    }

    /// Bytes of appends of one class in memory, at no cost: for back-pressure after every step.
    pub fn memory_bytes(&self, class: IoClass) -> u64 {
        self.active.memory_bytes(class)
    }

    /// The highest grant floor that is durable here.
    pub fn floor(&self) -> ChunkId {
        self.index.floor()
    }

    /// True if nothing is under way, waiting or due: what a test waits for.
    pub fn is_idle(&self) -> bool {
        self.work.count() == 0
            && self.journal.is_idle()
            && self.mover.is_idle()
            && self.emptier.is_idle()
            && self.space.is_idle()
    }
}
