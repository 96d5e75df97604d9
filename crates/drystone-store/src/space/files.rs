//! Arenas with the disk work on them: writes, reads, syncs, new and removed files, and the chunks that wait for space.

use super::arenas::Arenas;
use super::owner::Owner;
use crate::class::IoClass;
use crate::config::StoreConfig;
use crate::format::{BLOCK, Piece, Run, Runs, UNIT, arena_name};
use crate::work::{DiskTask, DiskWork};
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_env::{Disk, DiskFile, IoOp, IoOutput, Monotonic};
use drystone_types::ChunkId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// The syncs of an arena's file. A sync covers the writes that completed before it began.
#[derive(Default)]
struct FileSyncs {
    /// Number of the last sync that completed.
    done: u64,
    under_way: bool,
    another_wanted: bool,
    /// Chunks to look at after a sync.
    waiters: BTreeSet<ChunkId>,
}

/// Units that were given back while disk work of their owner was under way, and what of it has not come back.
struct Held {
    runs: Vec<Run>,
    work: BTreeSet<u64>,
}

/// A write that was asked for.
pub(crate) struct Written {
    pub(crate) token: u64,
    /// Of the chunk.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// See the module.
pub(crate) struct ChunkSpace {
    disk: Arc<dyn Disk>,
    pub(super) arenas: Arenas,
    syncs: BTreeMap<u32, FileSyncs>,
    /// Reads and writes under way, by whose units they touch.
    under_way: BTreeMap<Owner, BTreeSet<u64>>,
    held: Vec<Held>,
    /// Chunks that wait for space, each with the id that tells it from a later one of the same name, and how many units.
    queue: VecDeque<(ChunkId, u64, u64)>,
    /// Units that the queue wants in all.
    pub(super) waiting_units: u64,
    /// When arenas are looked at for removal; `None` while no more space is free than is kept.
    pub(super) look_at: Option<Monotonic>,
}

impl ChunkSpace {
    pub(crate) fn new(disk: Arc<dyn Disk>, arenas: Arenas) -> Self {
        Self {
            disk,
            arenas,
            syncs: BTreeMap::new(),
            under_way: BTreeMap::new(),
            held: Vec::new(),
            queue: VecDeque::new(),
            waiting_units: 0,
            look_at: None,
        }
    }

    /// Asks again how much room the file system has.
    pub(crate) fn refresh(&mut self) {
        self.arenas.refresh(&self.disk);
    }

    /// Bytes that may still be taken for `class`, in free units and in arenas that can be made.
    pub(crate) fn free_bytes(&self, config: &StoreConfig, class: IoClass) -> u64 {
        let free = self.arenas.free_bytes() + self.arenas.room(config);
        match class {
            IoClass::Repair => free,
            IoClass::Foreground | IoClass::Scrub => free.saturating_sub(self.arenas.repair_bytes(config)),
        }
    }

    /// So many free units, if there are and `class` may take them.
    pub(crate) fn take(&mut self, config: &StoreConfig, units: u64, class: IoClass) -> Option<Runs> {
        let bytes = units * UNIT;
        if bytes > self.free_bytes(config, class) {
            return None;
        }
        self.arenas.take(units)
    }

    /// The units belong to no chunk any more; each is free when no read or write of its owner that was under way
    /// can touch it.
    pub(crate) fn release(&mut self, owner: Owner, runs: Vec<Run>) {
        match self.under_way.get(&owner) {
            Some(work) if !runs.is_empty() && !planted(Bug::UnitsWhileWritten) => {
                let work = work.clone();
                self.held.push(Held { runs, work });
            }
            _ => self.give_back(&runs),
        }
    }

    fn give_back(&mut self, runs: &[Run]) {
        runs.iter().for_each(|run| self.arenas.give_back(*run));
    }

    fn begin(&mut self, owner: Owner, token: u64) {
        self.under_way.entry(owner).or_default().insert(token);
    }

    /// A read or write of the owner's units has ended.
    pub(crate) fn end(&mut self, owner: Owner, token: u64) {
        if let Some(work) = self.under_way.get_mut(&owner) {
            work.remove(&token);
            if work.is_empty() {
                self.under_way.remove(&owner);
            }
        }
        for held in &mut self.held {
            held.work.remove(&token);
        }
        for held in self
            .held
            .extract_if(.., |held| held.work.is_empty())
            .collect::<Vec<_>>()
        {
            self.give_back(&held.runs);
        }
    }

    /// True if so many units, beside those that are waited for, can become free by making arenas, or are being made.
    pub(crate) fn can_grow(&mut self, config: &StoreConfig, units: u64, class: IoClass) -> bool {
        let (waiting, bytes) = (self.waiting_units * UNIT, units * UNIT);
        let fits = |space: &Self| {
            let grows = space.arenas.is_making() || space.arenas.plan(config, u64::MAX).is_some();
            let most = space.free_bytes(config, class) + space.arenas.making_bytes();
            // Where others took what there was, some of those who wait will be refused.
            grows && (waiting + bytes <= most || (bytes <= most && most < waiting))
        };
        if fits(self) {
            return true;
        }
        self.refresh();
        fits(self)
    }

    /// The chunk gets its units when there are so many.
    pub(crate) fn wait_for_space(&mut self, chunk: ChunkId, id: u64, units: u64) {
        self.queue.push_back((chunk, id, units));
        self.waiting_units += units;
    }

    /// The chunk that has waited longest, its id, and how many units it wants.
    pub(crate) fn first_waiting(&self) -> Option<(ChunkId, u64, u64)> {
        self.queue.front().copied()
    }

    /// The chunk that has waited longest waits no more.
    pub(crate) fn pop_waiting(&mut self) {
        if let Some((_, _, units)) = self.queue.pop_front() {
            self.waiting_units -= units;
        }
        assert!(
            !self.queue.is_empty() || self.waiting_units == 0,
            "{} units are counted, and nobody waits for them",
            self.waiting_units
        );
    }

    pub(crate) fn is_making(&self) -> bool {
        self.arenas.is_making()
    }

    /// Asks for arenas ahead of need.
    pub(crate) fn make_arenas(&mut self, config: &StoreConfig, work: &mut DiskWork) {
        let wanted = self.waiting_units * UNIT + config.spare_bytes(self.arenas.arena_bytes());
        if self.arenas.serving_units() * UNIT < wanted {
            self.arenas.stop_emptying();
        }
        while self.arenas.plan(config, wanted).is_some() {
            // Others may have taken what there was.
            self.refresh();
            let Some(bytes) = self.arenas.plan(config, wanted) else {
                return;
            };
            let (arena, op) = self.arenas.make(&self.disk, config, bytes);
            work.request(IoClass::Foreground, op, DiskTask::Make { arena });
        }
    }

    /// The making of an arena has ended.
    ///
    /// # Errors
    /// The disk's; for want of room it is noted that there is none.
    pub(crate) fn on_made(&mut self, arena: u32, result: io::Result<IoOutput>) -> io::Result<()> {
        self.arenas.made(&self.disk, arena);
        let added = match result {
            Ok(IoOutput::File(handle)) => self.arenas.add(arena, handle),
            // Others took what there was. What is left was looked at again just now.
            Ok(IoOutput::Done) => Ok(()),
            Ok(_) => Err(io::Error::other("no file came back")),
            Err(error) => Err(error),
        };
        if added.as_ref().is_err_and(is_full) {
            self.arenas.no_room();
        }
        added
    }

    /// Asks for the removal of an arena if more has been free than is kept, for a while; if none is wholly free one may be
    /// chosen to be emptied. One at a time, behind everything
    /// else that the disk has to do: what is free serves until then.
    pub(crate) fn remove_arenas(&mut self, config: &StoreConfig, now: Monotonic, work: &mut DiskWork) {
        // Twice what is made ahead, so that what was removed is not made again at once.
        let spare = 2 * config.spare_bytes(self.arenas.arena_bytes());
        if !self.arenas.is_removing()
            && let Some(arena) = self.arenas.retire_emptied(spare)
        {
            self.remove(arena, work);
            self.look_again(now);
        }
        if self.arenas.free_bytes() <= spare + self.arenas.arena_bytes() || self.is_making() {
            self.look_at = None;
            return;
        }
        let next = now.plus(config.remove_after);
        let due = *self.look_at.get_or_insert(next) <= now;
        if !due || self.arenas.is_removing() {
            return;
        }
        let Some(arena) = self.arenas.retire(spare) else {
            // All are in use, if only a little: they are looked at again after as long.
            self.arenas.choose_sparse(spare, now, config.remove_after);
            self.look_at = Some(next);
            return;
        };
        self.remove(arena, work);
    }

    fn remove(&mut self, arena: u32, work: &mut DiskWork) {
        self.syncs.remove(&arena);
        let op = IoOp::Remove {
            disk: Arc::clone(&self.disk),
            name: arena_name(arena),
        };
        work.request(IoClass::Scrub, op, DiskTask::Remove { arena });
    }

    /// The removal of an arena's file has ended.
    pub(crate) fn on_removed(&mut self, arena: u32) {
        self.arenas.removed(&self.disk, arena);
    }

    /// When arenas are looked at for removal.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        self.look_at.filter(|_| !self.arenas.is_removing())
    }

    /// Writes `parts`, whole blocks, from `start` of a chunk on, for its bytes from `start` to `end`; what lies behind
    /// them is padding and tail. `task` names each write by its length. `None` if an arena is gone.
    pub(crate) fn write(
        &mut self,
        runs: &Runs,
        (start, end): (u64, u64),
        parts: Vec<Bytes>,
        class: IoClass,
        task: impl Fn(Owner, u64) -> DiskTask,
        work: &mut DiskWork,
    ) -> Option<Vec<Written>> {
        assert!(
            start.is_multiple_of(BLOCK) && parts.iter().all(|p| (p.len() as u64).is_multiple_of(BLOCK)),
            "direct writes are whole blocks"
        );
        if !self.exist(runs) {
            return None;
        }
        let bytes: u64 = parts.iter().map(|p| p.len() as u64).sum();
        let owner = Owner::of(runs);
        let mut parts = VecDeque::from(parts);
        let (mut at, mut written) = (start, Vec::with_capacity(1));
        for Piece {
            arena,
            offset,
            length,
        } in runs.pieces(start, start + bytes)
        {
            let Some(file) = self.arenas.file(arena).cloned() else {
                continue;
            };
            let op = IoOp::Write {
                file,
                offset,
                parts: take_parts(&mut parts, length),
            };
            let (low, high) = (at.min(end), (at + length).min(end));
            // Whoever waits for any byte of the chunk waits for its tail, too.
            let (low, high) = if low < high { (low, high) } else { (0, 0) };
            at += length;
            let token = work.request(class, op, task(owner, length));
            self.begin(owner, token);
            written.push(Written {
                token,
                start: low,
                end: high,
            });
        }
        Some(written)
    }

    /// True if all of the runs lie in arenas that are there.
    pub(crate) fn exist(&self, runs: &Runs) -> bool {
        self.arenas.exist(runs)
    }

    /// Reads whole blocks from `start` to `end` of what lies in the runs: how many pieces will come, each of which
    /// `task` names by its beginning. 0 if an arena is gone.
    pub(crate) fn read(
        &mut self,
        runs: &Runs,
        (start, end): (u64, u64),
        class: IoClass,
        task: impl Fn(Owner, u64) -> DiskTask,
        work: &mut DiskWork,
    ) -> u32 {
        if !self.exist(runs) {
            return 0;
        }
        let owner = Owner::of(runs);
        let (mut at, mut pieces) = (start, 0);
        for Piece {
            arena,
            offset,
            length,
        } in runs.pieces(start, end)
        {
            let Some(file) = self.arenas.file(arena).cloned() else {
                continue;
            };
            let op = IoOp::Read {
                file,
                offset,
                length: length as u32,
            };
            let token = work.request(class, op, task(owner, at));
            self.begin(owner, token);
            at += length;
            pieces += 1;
        }
        pieces
    }

    /// For each arena in which the bytes from `start` to `end` of the runs lie a sync that covers every write completed so
    /// far: its number. The chunk is looked at when they have completed.
    pub(crate) fn sync(
        &mut self,
        runs: &Runs,
        (start, end): (u64, u64),
        chunk: Option<ChunkId>,
        work: &mut DiskWork,
    ) -> Vec<(u32, u64)> {
        let end = end.min(runs.bytes());
        let pieces = if start < end {
            runs.pieces(start, end)
        } else {
            Vec::new()
        };
        let arenas: BTreeSet<u32> = pieces.iter().map(|piece| piece.arena).collect();
        let sync = |arena| (arena, self.sync_arena(arena, chunk, work));
        arenas.into_iter().map(sync).collect()
    }

    /// The same for several chunks, with one sync for each arena.
    pub(crate) fn sync_all<'a>(
        &mut self,
        ranges: impl Iterator<Item = (&'a Runs, (u64, u64))>,
        work: &mut DiskWork,
    ) -> Vec<(u32, u64)> {
        let mut syncs = BTreeMap::new();
        for (runs, range) in ranges {
            // What follows another at once would be a second one.
            let pieces = runs.pieces(range.0, range.1);
            if pieces.iter().any(|piece| !syncs.contains_key(&piece.arena)) {
                syncs.extend(self.sync(runs, range, None, work));
            }
        }
        syncs.into_iter().collect()
    }

    fn sync_arena(&mut self, arena: u32, chunk: Option<ChunkId>, work: &mut DiskWork) -> u64 {
        let Some(handle) = self.arenas.file(arena).cloned() else {
            return 0;
        };
        let syncs = self.syncs.entry(arena).or_default();
        syncs.waiters.extend(chunk);
        if syncs.under_way {
            syncs.another_wanted = true;
            return syncs.done + 2;
        }
        syncs.under_way = true;
        request_sync(handle, arena, work);
        syncs.done + 1
    }

    /// The chunk is looked at when the next sync of each of these arenas has completed.
    pub(crate) fn wait_for_syncs(&mut self, syncs: &[(u32, u64)], chunk: ChunkId) {
        for (arena, _) in syncs {
            if let Some(syncs) = self.syncs.get_mut(arena) {
                syncs.waiters.insert(chunk);
            }
        }
    }

    /// True if the syncs of these numbers have completed.
    pub(crate) fn are_synced(&self, syncs: &[(u32, u64)]) -> bool {
        // An arena that is gone held nothing of anybody when it went.
        let is_done =
            |(arena, number): &(u32, u64)| self.syncs.get(arena).is_none_or(|syncs| syncs.done >= *number);
        syncs.iter().all(is_done)
    }

    /// A sync has completed: the chunks to look at.
    pub(crate) fn on_synced(&mut self, arena: u32, work: &mut DiskWork) -> BTreeSet<ChunkId> {
        let Some(syncs) = self.syncs.get_mut(&arena) else {
            return BTreeSet::new();
        };
        assert!(
            syncs.under_way,
            "a sync of arena {arena} ended that was not begun"
        );
        syncs.done += 1;
        syncs.under_way = false;
        let waiters = std::mem::take(&mut syncs.waiters);
        if std::mem::take(&mut syncs.another_wanted)
            && let Some(handle) = self.arenas.file(arena).cloned()
        {
            syncs.under_way = true;
            syncs.waiters = waiters.clone();
            request_sync(handle, arena, work);
        }
        waiters
    }

    /// So many bytes the files of the index take.
    pub(crate) fn set_index_bytes(&mut self, bytes: u64) {
        self.arenas.set_index_bytes(bytes);
    }

    /// Above every number that an arena was given.
    pub(crate) fn next_arena(&self) -> u32 {
        self.arenas.next_number()
    }

    /// Bytes of the disk that chunks may take in all, but for what is kept for repair.
    pub(crate) fn capacity_bytes(&self, config: &StoreConfig) -> u64 {
        let all = self.arenas.bytes() + self.arenas.room(config);
        all - self.arenas.repair_bytes(config)
    }

    /// Bytes of units that are not free.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.arenas.bytes() - self.arenas.free_bytes()
    }

    /// New arenas leave so many bytes of the file system beside the reserve: the journal will take them.
    pub(crate) fn leave_for_journal(&mut self, bytes: u64) {
        self.arenas.leave_for_journal(bytes);
    }

    /// Bytes of arenas that are not made yet.
    pub(crate) fn room(&self, config: &StoreConfig) -> u64 {
        self.arenas.room(config)
    }

    /// Bytes of the file system, and those of them that are in no arena and not free.
    pub(crate) fn device_bytes(&self) -> (u64, u64) {
        self.arenas.device_bytes()
    }

    /// True if no chunk waits for space.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Takes `length` bytes off the front.
fn take_parts(parts: &mut VecDeque<Bytes>, length: u64) -> Vec<Bytes> {
    let (mut left, mut taken) = (length as usize, Vec::with_capacity(parts.len()));
    while left > 0
        && let Some(part) = parts.front_mut()
    {
        if part.len() > left {
            taken.push(part.split_to(left));
            break;
        }
        left -= part.len();
        taken.extend(parts.pop_front());
    }
    taken
}

fn request_sync(file: Arc<dyn DiskFile>, arena: u32, work: &mut DiskWork) {
    work.request(IoClass::Foreground, IoOp::Sync { file }, DiskTask::Sync { arena });
}

/// True if a file could not be made for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
