//! Slots with the disk work on them: writes, reads, syncs, new files, and the chunks that wait for a slot.

use super::slots::Slots;
use crate::class::IoClass;
use crate::config::StoreConfig;
use crate::format::{BLOCK, SlotRef, slot_bytes};
use crate::work::{DiskTask, DiskWork, FileKey};
use bytes::Bytes;
use drystone_env::{Disk, DiskFile, IoOp, IoOutput};
use drystone_types::{ChunkId, SizeClass};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// Free slots kept beyond the configured spare ones, at most, because chunks are being written.
const MOST_EXTRA_SPARES: usize = 8;

/// The syncs of a slot file. A sync covers the writes that completed before it began.
#[derive(Default)]
struct FileSyncs {
    /// Number of the last sync that completed.
    done: u64,
    under_way: bool,
    another_wanted: bool,
    /// Chunks to look at after a sync.
    waiters: BTreeSet<ChunkId>,
}

/// See the module.
pub(crate) struct ChunkSpace {
    disk: Arc<dyn Disk>,
    slots: Slots,
    syncs: BTreeMap<FileKey, FileSyncs>,
    /// Chunks that wait for a slot, by class, each with the id that tells it from a later one of the same name.
    queue: [VecDeque<(ChunkId, u64)>; 4],
}

fn key(slot: SlotRef) -> FileKey {
    (slot.class, slot.file)
}

impl ChunkSpace {
    pub(crate) fn new(disk: Arc<dyn Disk>, slots: Slots) -> Self {
        Self {
            disk,
            slots,
            syncs: BTreeMap::new(),
            queue: Default::default(),
        }
    }

    /// Asks again how much room the file system has.
    pub(crate) fn refresh(&mut self) {
        self.slots.refresh(&self.disk);
    }

    /// A free slot.
    pub(crate) fn take(&mut self, class: SizeClass) -> Option<SlotRef> {
        self.slots.take(class)
    }

    /// The slot belongs to no chunk any more; it is free when nothing reads or writes it.
    pub(crate) fn release(&mut self, slot: SlotRef) {
        self.slots.release(slot);
    }

    /// True if a slot of the class can be made, or is being made.
    pub(crate) fn can_grow(&mut self, config: &StoreConfig, class: SizeClass) -> bool {
        let fits = |slots: &Slots| slots.plan_file(config, class, usize::MAX).is_some();
        if self.slots.is_creating(class) || fits(&self.slots) {
            return true;
        }
        self.refresh();
        fits(&self.slots)
    }

    /// The chunk gets a slot when there is one.
    pub(crate) fn wait_for_slot(&mut self, class: SizeClass, chunk: ChunkId, id: u64) {
        self.queue[class.number() as usize].push_back((chunk, id));
    }

    /// The chunk that has waited longest.
    pub(crate) fn first_waiting(&self, class: SizeClass) -> Option<(ChunkId, u64)> {
        self.queue[class.number() as usize].front().copied()
    }

    /// The chunk that has waited longest waits no more.
    pub(crate) fn pop_waiting(&mut self, class: SizeClass) {
        self.queue[class.number() as usize].pop_front();
    }

    /// Nobody will get a slot: all that wait.
    pub(crate) fn take_waiting(&mut self, class: SizeClass) -> VecDeque<(ChunkId, u64)> {
        std::mem::take(&mut self.queue[class.number() as usize])
    }

    pub(crate) fn is_creating(&self, class: SizeClass) -> bool {
        self.slots.is_creating(class)
    }

    /// Asks for slot files ahead of need. `busy` chunks of the class are being written.
    pub(crate) fn make_files(
        &mut self,
        config: &StoreConfig,
        class: SizeClass,
        busy: usize,
        work: &mut DiskWork,
    ) {
        let busy = busy.min(MOST_EXTRA_SPARES);
        let extra = if class == SizeClass::K64 { 0 } else { busy };
        let wanted = config.spare_slots(class) + extra + self.queue[class.number() as usize].len();
        while let Some(count) = self.slots.plan_file(config, class, wanted) {
            let (file, length, op) = self.slots.create(&self.disk, config, class, count);
            work.request(IoClass::Foreground, op, DiskTask::Create { file, length });
        }
    }

    /// The making of a file has ended.
    ///
    /// # Errors
    /// The disk's; for want of room it is noted that there is none.
    pub(crate) fn on_created(
        &mut self,
        file: FileKey,
        length: u64,
        result: io::Result<IoOutput>,
    ) -> io::Result<()> {
        self.slots.created(&self.disk, file.0, length);
        let added = match result {
            Ok(IoOutput::File(handle)) => self.slots.add(file, handle),
            Ok(_) => Err(io::Error::other("no file came back")),
            Err(error) => Err(error),
        };
        if added.as_ref().is_err_and(is_full) {
            self.slots.no_room();
        }
        added
    }

    /// Writes `parts`, whole blocks, at `at` in the slot's file, for a chunk: token and bytes. `None` if the file is
    /// gone.
    pub(crate) fn write(
        &mut self,
        slot: SlotRef,
        at: u64,
        parts: Vec<Bytes>,
        (chunk, live): (ChunkId, u64),
        class: IoClass,
        work: &mut DiskWork,
    ) -> Option<(u64, u64)> {
        let file = Arc::clone(self.slots.file(slot)?);
        let bytes = parts.iter().map(|p| p.len() as u64).sum();
        assert!(
            at.is_multiple_of(BLOCK) && parts.iter().all(|p| (p.len() as u64).is_multiple_of(BLOCK)),
            "direct writes are whole blocks"
        );
        assert_inside(slot, at, bytes);
        self.slots.pin(slot);
        let op = IoOp::Write {
            file,
            offset: at,
            parts,
        };
        let task = DiskTask::SlotWrite {
            chunk,
            live,
            slot,
            bytes,
        };
        Some((work.request(class, op, task), bytes))
    }

    /// True if the slot lies in a file that is there.
    pub(crate) fn exists(&self, slot: SlotRef) -> bool {
        self.slots.exists(slot)
    }

    /// Reads whole blocks at `at` in the slot's file; false if the file is gone.
    pub(crate) fn read(
        &mut self,
        slot: SlotRef,
        at: u64,
        length: u32,
        (class, task): (IoClass, DiskTask),
        work: &mut DiskWork,
    ) -> bool {
        let Some(file) = self.slots.file(slot).cloned() else {
            return false;
        };
        assert_inside(slot, at, u64::from(length));
        self.slots.pin(slot);
        let op = IoOp::Read {
            file,
            offset: at,
            length,
        };
        work.request(class, op, task);
        true
    }

    /// A read or write of the slot has ended.
    pub(crate) fn unpin(&mut self, slot: SlotRef) {
        self.slots.unpin(slot);
    }

    /// A sync of the slot's file that covers every write completed so far: its number. The chunk is looked at when
    /// it has completed.
    pub(crate) fn sync(&mut self, slot: SlotRef, chunk: Option<ChunkId>, work: &mut DiskWork) -> u64 {
        let Some(handle) = self.slots.file(slot).cloned() else {
            return 0;
        };
        let syncs = self.syncs.entry(key(slot)).or_default();
        syncs.waiters.extend(chunk);
        if syncs.under_way {
            syncs.another_wanted = true;
            return syncs.done + 2;
        }
        syncs.under_way = true;
        request_sync(handle, key(slot), work);
        syncs.done + 1
    }

    /// The chunk is looked at when the next sync of the slot's file has completed.
    pub(crate) fn wait_for_sync(&mut self, slot: SlotRef, chunk: ChunkId) {
        if let Some(syncs) = self.syncs.get_mut(&key(slot)) {
            syncs.waiters.insert(chunk);
        }
    }

    /// True if the sync of this number has completed.
    pub(crate) fn is_synced(&self, slot: SlotRef, number: u64) -> bool {
        self.syncs
            .get(&key(slot))
            .is_some_and(|syncs| syncs.done >= number)
    }

    /// A sync has completed: the chunks to look at.
    pub(crate) fn on_synced(&mut self, file: FileKey, work: &mut DiskWork) -> BTreeSet<ChunkId> {
        let Some(syncs) = self.syncs.get_mut(&file) else {
            return BTreeSet::new();
        };
        assert!(syncs.under_way, "a sync of {file:?} ended that was not begun");
        syncs.done += 1;
        syncs.under_way = false;
        let waiters = std::mem::take(&mut syncs.waiters);
        if std::mem::take(&mut syncs.another_wanted)
            && let Some(handle) = self.slots.handle(file).cloned()
        {
            syncs.under_way = true;
            syncs.waiters = waiters.clone();
            request_sync(handle, file, work);
        }
        waiters
    }

    /// Bytes that new slot files may still take.
    pub(crate) fn room(&self, config: &StoreConfig) -> u64 {
        self.slots.room(config)
    }

    /// Bytes of slot files, and of these in free slots.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.slots.file_bytes(), self.slots.free_bytes())
    }

    /// True if no chunk waits for a slot.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.iter().all(VecDeque::is_empty)
    }
}

/// Panics if `bytes` at `at` in the slot's file belong to another slot, too.
fn assert_inside(slot: SlotRef, at: u64, bytes: u64) {
    let (start, end) = (slot.head_offset(), slot.head_offset() + slot_bytes(slot.class));
    assert!(
        start <= at && bytes > 0 && at + bytes <= end,
        "{bytes} bytes at {at} are not inside {slot:?}, {start} to {end}"
    );
}

fn request_sync(file: Arc<dyn DiskFile>, key: FileKey, work: &mut DiskWork) {
    let task = DiskTask::FileSync { file: key };
    work.request(IoClass::Foreground, IoOp::Sync { file }, task);
}

/// True if a file could not be made for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
