//! The arenas of a disk: what is free, what is taken, what must be made and what may go.

use super::sparse::SparseArenas;
use super::units::UnitMap;
use crate::config::StoreConfig;
use crate::format::{
    ARENA_DIRECTORY, MOST_ARENAS, MOST_UNITS, Run, Runs, UNIT, arena_name, parse_arena_name,
};
use crate::index::{LEAF_BYTES, PACKED};
use drystone_env::{Disk, DiskFile, IoOp, OpenOptions, Room, Space};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Arenas that are made at the same time.
const MOST_MAKING: usize = 2;
/// Where there is no run that is long enough, pieces of at least so many units are taken before shorter ones.
const LONG_PIECE: u32 = 16;
/// The last arena of a disk may be so many times shorter than the others.
const SHORTEST: u64 = 16;
/// The part of a disk that only repair may take is one of so many.
const REPAIR_PART: u64 = 20;

/// What became of a claim at recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// The run is taken.
    Taken,
    /// There is no such arena, or it is too short: what was in it is lost.
    Missing,
    /// Another chunk owns a unit of it.
    Owned,
}

/// The least that is left for the index: a few leaves, twice, in both files.
const LEAST_INDEX_BYTES: u64 = 8 * LEAF_BYTES as u64;

/// Bytes of the index for a chunk in each unit: in two files, leaves half full, and again in new places if all change.
fn index_bytes_of_unit(config: &StoreConfig) -> u64 {
    let entries = (config.leaf_bytes.min(LEAF_BYTES) / PACKED / 2).max(1);
    (2 * 2 * LEAF_BYTES).div_ceil(entries) as u64
}

pub(super) struct Arena {
    file: Arc<dyn DiskFile>,
    pub(super) map: UnitMap,
}

/// See the module.
pub(crate) struct Arenas {
    pub(super) arenas: BTreeMap<u32, Arena>,
    pub(super) sparse: SparseArenas,
    /// Bytes of arenas that are being made, by number.
    making: BTreeMap<u32, u64>,
    /// Bytes of arenas that are being removed.
    removing: BTreeMap<u32, u64>,
    /// Above every number that was ever given.
    next_number: u32,
    pub(super) free_units: u64,
    units: u64,
    arena_bytes: u64,
    index_bytes: u64,
    space: Space,
    /// What the file system said was free when it had no room for an arena all the same (a quota, a bound on files): until
    /// it says more none is made.
    refused_at: Option<u64>,
    /// Bytes that the journal will still take of the file system.
    journal_growth: u64,
}

impl Arenas {
    /// Opens every arena; all units are free until [`Arenas::claim`]. Numbers below `next_number` were given.
    pub(crate) fn open(disk: &Arc<dyn Disk>, config: &StoreConfig, next_number: u32) -> io::Result<Self> {
        let space = disk.space()?;
        let mut arenas = Self {
            arenas: BTreeMap::new(),
            sparse: SparseArenas::default(),
            making: BTreeMap::new(),
            removing: BTreeMap::new(),
            next_number,
            free_units: 0,
            units: 0,
            arena_bytes: config.arena_bytes(space.total),
            index_bytes: 0,
            space,
            refused_at: None,
            journal_growth: 0,
        };
        for name in disk.list(ARENA_DIRECTORY)? {
            let Some(number) = parse_arena_name(&name) else {
                tracing::warn!(file = name, "file in the directory of arenas is none; left alone");
                continue;
            };
            let file = disk.open(&arena_name(number), options(config))?;
            arenas.add(number, file)?;
        }
        Ok(arenas)
    }

    pub(crate) fn add(&mut self, number: u32, file: Arc<dyn DiskFile>) -> io::Result<()> {
        // A file whose making was cut short has fewer units.
        let units =
            u32::try_from(file.len()? / UNIT).map_or(MOST_UNITS - 1, |units| units.min(MOST_UNITS - 1));
        self.avoid(number);
        self.units += u64::from(units);
        self.free_units += u64::from(units);
        let map = UnitMap::new(units);
        let old = self.arenas.insert(number, Arena { file, map });
        assert!(old.is_none(), "arena {number} is made twice");
        Ok(())
    }

    /// The number was given: no new arena may get it.
    pub(crate) fn avoid(&mut self, number: u32) {
        self.next_number = self.next_number.max(number.saturating_add(1));
    }

    pub(crate) fn next_number(&self) -> u32 {
        self.next_number
    }

    /// Takes a run at recovery.
    pub(crate) fn claim(&mut self, run: Run) -> Claim {
        self.avoid(run.arena);
        let Some(arena) = self.arenas.get_mut(&run.arena) else {
            return Claim::Missing;
        };
        if run.first + run.units > arena.map.units() {
            return Claim::Missing;
        }
        if !arena.map.claim(run.first, run.units) {
            return Claim::Owned;
        }
        self.free_units -= u64::from(run.units);
        Claim::Taken
    }

    /// `units` units, in one run if there is one, lowest arena first. If there are as many only with those of the arena that is
    /// emptied, it is not emptied any more.
    pub(crate) fn take(&mut self, units: u64) -> Option<Runs> {
        if units == 0 || units > self.free_units {
            return None;
        }
        if units > self.serving_units() {
            self.stop_emptying();
        }
        let runs = self.take_from(units, &[LONG_PIECE, 1], |_| true);
        assert!(runs.is_some(), "as many units are free as are counted");
        runs
    }

    /// `units` units of arenas that serve and that `may` allows: in one run if there is one, otherwise in pieces of at least so
    /// many as `pieces` says, in this order. `None`: there are too few.
    pub(super) fn take_from(
        &mut self,
        units: u64,
        pieces: &[u32],
        may: impl Fn(&Arena) -> bool,
    ) -> Option<Runs> {
        let Self { arenas, sparse, .. } = self;
        let may = |number: u32, arena: &Arena| sparse.serves(number) && may(arena);
        let in_one = u32::try_from(units).ok().and_then(|units| {
            arenas.iter_mut().find_map(|(number, arena)| {
                let first = may(*number, arena).then(|| arena.map.take(units))??;
                Some(Run {
                    arena: *number,
                    first,
                    units,
                })
            })
        });
        if let Some(run) = in_one {
            self.free_units -= units;
            return Some(Runs::One(run));
        }
        let (mut left, mut runs) = (units, Vec::new());
        for least in pieces {
            for (number, arena) in &mut *arenas {
                if !may(*number, arena) {
                    continue;
                }
                let wanted = u32::try_from(left).unwrap_or(u32::MAX);
                for (first, units) in arena.map.gather(*least, wanted) {
                    left -= u64::from(units);
                    runs.push(Run {
                        arena: *number,
                        first,
                        units,
                    });
                }
            }
        }
        self.free_units -= units - left;
        if left > 0 {
            runs.into_iter().for_each(|run| self.give_back(run));
            return None;
        }
        Runs::of(runs)
    }

    /// The units of the run are free.
    ///
    /// # Panics
    /// If one of them was free already.
    pub(crate) fn give_back(&mut self, run: Run) {
        // The arena of a lost chunk is not there.
        if let Some(arena) = self.arenas.get_mut(&run.arena)
            && run.end() <= arena.map.units()
        {
            arena.map.give_back(run.first, run.units);
            self.free_units += u64::from(run.units);
        }
    }

    /// True if all of these are in arenas that are there.
    pub(crate) fn exist(&self, runs: &Runs) -> bool {
        let is_there = |run: &Run| {
            self.arenas
                .get(&run.arena)
                .is_some_and(|arena| run.end() <= arena.map.units())
        };
        runs.as_slice().iter().all(is_there)
    }

    pub(crate) fn file(&self, arena: u32) -> Option<&Arc<dyn DiskFile>> {
        self.arenas.get(&arena).map(|arena| &arena.file)
    }

    /// Bytes of the file system that arenas leave to others, and to the journal.
    fn reserve(&self, config: &StoreConfig) -> u64 {
        config.reserve_bytes(self.space.total) + self.journal_growth
    }

    pub(crate) fn leave_for_journal(&mut self, bytes: u64) {
        self.journal_growth = bytes;
    }

    /// Bytes that new arenas may still take.
    pub(crate) fn room(&self, config: &StoreConfig) -> u64 {
        if self.refused_at.is_some_and(|at| self.space.free <= at) {
            return 0;
        }
        let by_disk = self.room_beside_index(config, self.space.free.saturating_sub(self.reserve(config)));
        let making = self.making_bytes();
        let taken = self.bytes() + self.removing.values().sum::<u64>();
        let by_limit = config
            .capacity
            .map_or(u64::MAX, |limit| limit.saturating_sub(taken));
        by_disk.min(by_limit).saturating_sub(making)
    }

    /// Bytes of the file system, and those of them that are in no arena and not free.
    pub(crate) fn device_bytes(&self) -> (u64, u64) {
        let Space { total, free, .. } = self.space;
        let removing: u64 = self.removing.values().sum();
        // What is being made may or may not be there yet.
        (total, total.saturating_sub(free + self.bytes() + removing))
    }

    /// What of `free` bytes new arenas may take so that the index of chunks in every unit still finds room.
    fn room_beside_index(&self, config: &StoreConfig, free: u64) -> u64 {
        let all = (self.bytes() + free + self.index_bytes).saturating_sub(LEAST_INDEX_BYTES);
        let index = index_bytes_of_unit(config);
        let for_arenas = u128::from(all) * u128::from(UNIT) / u128::from(UNIT + index);
        (for_arenas as u64).saturating_sub(self.bytes()).min(free)
    }

    /// So many bytes the files of the index take.
    pub(crate) fn set_index_bytes(&mut self, bytes: u64) {
        self.index_bytes = bytes;
    }

    /// Bytes of all arenas.
    pub(crate) fn bytes(&self) -> u64 {
        self.units * UNIT
    }

    /// Bytes of free units.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_units * UNIT
    }

    /// Bytes that only repair may take.
    pub(crate) fn repair_bytes(&self, config: &StoreConfig) -> u64 {
        (self.bytes() + self.room(config)) / REPAIR_PART
    }

    pub(crate) fn count(&self) -> u64 {
        self.arenas.len() as u64
    }

    /// The file system has less room than it says.
    pub(crate) fn no_room(&mut self) {
        self.refused_at = Some(self.space.free);
    }

    /// Bytes of arenas that are being made.
    pub(crate) fn making_bytes(&self) -> u64 {
        self.making.values().sum()
    }

    pub(crate) fn is_removing(&self) -> bool {
        !self.removing.is_empty()
    }

    pub(crate) fn is_making(&self) -> bool {
        !self.making.is_empty()
    }

    /// Bytes of an arena that is to be made so that `wanted` bytes are free: `None` if none is needed, there is no room
    /// for one, or no number.
    pub(crate) fn plan(&self, config: &StoreConfig, wanted: u64) -> Option<u64> {
        let coming = self.making_bytes();
        if self.free_bytes() + coming >= wanted
            || self.making.len() >= MOST_MAKING
            || self.next_number >= MOST_ARENAS
        {
            return None;
        }
        let bytes = self.arena_bytes.min(self.room(config)) / UNIT * UNIT;
        (bytes > 0 && bytes >= self.arena_bytes / SHORTEST).then_some(bytes)
    }

    /// The work that makes an arena of so many bytes, and its number.
    pub(crate) fn make(&mut self, disk: &Arc<dyn Disk>, config: &StoreConfig, bytes: u64) -> (u32, IoOp) {
        let number = self.next_number;
        self.next_number += 1;
        self.making.insert(number, bytes);
        let op = IoOp::CreateWithin {
            disk: Arc::clone(disk),
            name: arena_name(number),
            room: Room {
                most: bytes,
                // Less than what is planned for: a little may go before it is made.
                least: self.arena_bytes / SHORTEST / 2,
                leave: self.reserve(config),
            },
            options: options(config),
        };
        (number, op)
    }

    /// The making of an arena has ended.
    pub(crate) fn made(&mut self, disk: &Arc<dyn Disk>, number: u32) {
        self.making.remove(&number);
        self.refresh(disk);
    }

    /// The highest arena that is wholly free, if `spare` free bytes are left without it: it is none from here on, and
    /// its file is to be removed.
    pub(crate) fn retire(&mut self, spare: u64) -> Option<u32> {
        let mut numbers = self.arenas.keys().rev().copied();
        let number = numbers.find(|number| self.may_retire(*number, spare))?;
        self.remove(number);
        Some(number)
    }

    pub(super) fn may_retire(&self, number: u32, spare: u64) -> bool {
        self.arenas.get(&number).is_some_and(|arena| {
            let units = arena.map.units();
            arena.map.free() == units && self.free_bytes() - u64::from(units) * UNIT >= spare
        })
    }

    pub(super) fn remove(&mut self, number: u32) {
        let Some(arena) = self.arenas.remove(&number) else {
            return;
        };
        let units = u64::from(arena.map.units());
        self.units -= units;
        self.free_units -= units;
        self.removing.insert(number, units * UNIT);
    }

    /// The removal of an arena's file has ended.
    pub(crate) fn removed(&mut self, disk: &Arc<dyn Disk>, number: u32) {
        self.removing.remove(&number);
        self.refresh(disk);
    }

    pub(crate) fn refresh(&mut self, disk: &Arc<dyn Disk>) {
        if let Ok(space) = disk.space() {
            self.space = space;
        }
    }

    pub(crate) fn arena_bytes(&self) -> u64 {
        self.arena_bytes
    }
}

fn options(config: &StoreConfig) -> OpenOptions {
    OpenOptions {
        create: false,
        exclusive: false,
        direct: config.direct,
    }
}
