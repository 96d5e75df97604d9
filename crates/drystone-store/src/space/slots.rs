//! The slot files of a disk: what is free, what is being used, what must be made.

use crate::config::StoreConfig;
use crate::format::{SLOT_DIRECTORY, SlotRef, parse_slot_file_name, slot_bytes, slot_file_name};
use crate::work::FileKey;
use drystone_env::{Disk, DiskFile, IoOp, OpenOptions, Space};
use drystone_types::SizeClass;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Files of a class that are made at the same time: making one takes the disk's bandwidth.
const MOST_CREATING: u32 = 2;
/// A new file gets a sixteenth of the slots that its class has, so that the number of files grows slowly; at most
/// this many.
const MOST_SLOTS_PER_FILE: u32 = 64;

/// A slot file.
struct SlotFile {
    file: Arc<dyn DiskFile>,
    slots: u32,
}

/// Every slot of the disk.
pub(crate) struct Slots {
    files: BTreeMap<FileKey, SlotFile>,
    free: [BTreeSet<SlotRef>; 4],
    pins: BTreeMap<SlotRef, u32>,
    // Belong to no chunk any more but are still being read or written.
    doomed: BTreeSet<SlotRef>,
    creating: [u32; 4],
    next_number: [u32; 4],
    slots: [u32; 4],
    file_bytes: u64,
    creating_bytes: u64,
    space: Space,
}

fn at(class: SizeClass) -> usize {
    class.number() as usize
}

impl Slots {
    /// Opens every slot file; all slots are free until [`Slots::claim`].
    pub(crate) fn open(disk: &Arc<dyn Disk>, config: &StoreConfig) -> io::Result<Self> {
        let mut slots = Self {
            files: BTreeMap::new(),
            free: Default::default(),
            pins: BTreeMap::new(),
            doomed: BTreeSet::new(),
            creating: [0; 4],
            next_number: [0; 4],
            slots: [0; 4],
            file_bytes: 0,
            creating_bytes: 0,
            space: disk.space()?,
        };
        for name in disk.list(SLOT_DIRECTORY)? {
            let Some((class, number)) = parse_slot_file_name(&name) else {
                tracing::warn!(
                    file = name,
                    "file in the slot directory is not a slot file; left alone"
                );
                continue;
            };
            let file = disk.open(&slot_file_name(class, number), options(config))?;
            slots.add((class, number), file)?;
        }
        Ok(slots)
    }

    pub(crate) fn add(&mut self, key: FileKey, file: Arc<dyn DiskFile>) -> io::Result<()> {
        let (class, number) = key;
        let bytes = file.len()?;
        // A file whose making was cut short has fewer slots.
        let count = u32::try_from(bytes / slot_bytes(class)).unwrap_or(u32::MAX);
        self.free[at(class)].extend((0..count).map(|index| SlotRef {
            class,
            file: number,
            index,
        }));
        self.next_number[at(class)] = self.next_number[at(class)].max(number.saturating_add(1));
        self.slots[at(class)] += count;
        self.file_bytes += bytes;
        self.files.insert(key, SlotFile { file, slots: count });
        Ok(())
    }

    /// Takes the slot out of the free ones at recovery; false if another chunk has it or there is no such slot.
    pub(crate) fn claim(&mut self, slot: SlotRef) -> bool {
        self.free[at(slot.class)].remove(&slot)
    }

    /// A chunk is in a slot whose file is gone: no new file may get that name, or its slots would have two owners.
    pub(crate) fn avoid(&mut self, slot: SlotRef) {
        let next = &mut self.next_number[at(slot.class)];
        *next = (*next).max(slot.file.saturating_add(1));
    }

    pub(crate) fn exists(&self, slot: SlotRef) -> bool {
        self.files
            .get(&(slot.class, slot.file))
            .is_some_and(|f| slot.index < f.slots)
    }

    /// The lowest free slot.
    ///
    /// # Panics
    /// If something still reads or writes it.
    pub(crate) fn take(&mut self, class: SizeClass) -> Option<SlotRef> {
        let slot = self.free[at(class)].pop_first()?;
        assert!(
            !self.pins.contains_key(&slot) && !self.doomed.contains(&slot),
            "{slot:?} is handed out while it is read or written"
        );
        Some(slot)
    }

    /// The slot belongs to no chunk any more; it is free when nothing reads or writes it.
    ///
    /// # Panics
    /// If it was free already.
    pub(crate) fn release(&mut self, slot: SlotRef) {
        if self.pins.contains_key(&slot) {
            self.doomed.insert(slot);
        } else if self.exists(slot) {
            let was_used = self.free[at(slot.class)].insert(slot);
            assert!(was_used, "{slot:?} is given back twice");
        }
    }

    pub(crate) fn pin(&mut self, slot: SlotRef) {
        *self.pins.entry(slot).or_insert(0) += 1;
    }

    pub(crate) fn unpin(&mut self, slot: SlotRef) {
        let Some(count) = self.pins.get_mut(&slot) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.pins.remove(&slot);
            if self.doomed.remove(&slot) {
                self.release(slot);
            }
        }
    }

    pub(crate) fn file(&self, slot: SlotRef) -> Option<&Arc<dyn DiskFile>> {
        self.handle((slot.class, slot.file))
    }

    pub(crate) fn handle(&self, key: FileKey) -> Option<&Arc<dyn DiskFile>> {
        self.files.get(&key).map(|f| &f.file)
    }

    /// Bytes that new slot files may still take.
    pub(crate) fn room(&self, config: &StoreConfig) -> u64 {
        let reserve = config.reserve_bytes.min(self.space.total / 20);
        let by_disk = self.space.free.saturating_sub(reserve);
        let by_limit = config
            .capacity
            .map_or(u64::MAX, |limit| limit.saturating_sub(self.file_bytes));
        by_disk.min(by_limit).saturating_sub(self.creating_bytes)
    }

    /// Bytes of all slot files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The file system has less room than it said.
    pub(crate) fn no_room(&mut self) {
        self.space.free = 0;
    }

    /// Bytes of free slots.
    pub(crate) fn free_bytes(&self) -> u64 {
        SizeClass::ALL
            .iter()
            .map(|class| self.free[at(*class)].len() as u64 * class.bytes())
            .sum()
    }

    pub(crate) fn count(&self) -> u64 {
        self.slots.iter().map(|count| u64::from(*count)).sum()
    }

    pub(crate) fn any(&self, class: SizeClass) -> bool {
        self.slots[at(class)] > 0
    }

    pub(crate) fn is_creating(&self, class: SizeClass) -> bool {
        self.creating[at(class)] > 0
    }

    /// How many slots a file made now would have: `None` if one is not needed for `wanted` free slots, or there
    /// is no room for a single one, or no number.
    pub(crate) fn plan_file(&self, config: &StoreConfig, class: SizeClass, wanted: usize) -> Option<u32> {
        let usual = config
            .slots_per_file(class)
            .max((self.slots[at(class)] / 16).min(MOST_SLOTS_PER_FILE));
        let coming = self.creating[at(class)] as usize * usual as usize;
        if self.free[at(class)].len() + coming >= wanted
            || self.creating[at(class)] >= MOST_CREATING
            || self.next_number[at(class)] == u32::MAX
        {
            return None;
        }
        let fits = u32::try_from(self.room(config) / slot_bytes(class)).unwrap_or(u32::MAX);
        (fits > 0).then_some(usual.min(fits))
    }

    /// The work that makes such a file.
    pub(crate) fn create(
        &mut self,
        disk: &Arc<dyn Disk>,
        config: &StoreConfig,
        class: SizeClass,
        count: u32,
    ) -> (FileKey, u64, IoOp) {
        let number = self.next_number[at(class)];
        self.next_number[at(class)] += 1;
        self.creating[at(class)] += 1;
        let length = u64::from(count) * slot_bytes(class);
        self.creating_bytes += length;
        let op = IoOp::Create {
            disk: Arc::clone(disk),
            name: slot_file_name(class, number),
            length,
            options: options(config),
            // The small ones are synced often, and then it counts that the file system has nothing to do.
            prewrite: class == SizeClass::K64,
        };
        ((class, number), length, op)
    }

    /// The making of a file of `length` bytes has ended.
    pub(crate) fn created(&mut self, disk: &Arc<dyn Disk>, class: SizeClass, length: u64) {
        self.creating[at(class)] -= 1;
        self.creating_bytes -= length;
        self.refresh(disk);
    }

    pub(crate) fn refresh(&mut self, disk: &Arc<dyn Disk>) {
        if let Ok(space) = disk.space() {
            self.space = space;
        }
    }
}

fn options(config: &StoreConfig) -> OpenOptions {
    OpenOptions {
        create: false,
        exclusive: false,
        direct: config.direct,
    }
}
