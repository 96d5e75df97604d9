//! Units of a disk: taken by chunks, written, given back by seals, deletions and moves, and taken by others. Two chunks,
//! each placed twice, arenas of one unit each, and of a power cut the worst that it may leave. The rules are those of
//! `docs/design/0010-space.md`, "What must hold".

mod steps;

use super::search::{Model, Step};

const CHUNKS: usize = 2;
/// A chunk may be deleted and placed again.
const PLACEMENTS: u8 = 2;
/// So often chunks are placed in all.
const PLACED: u8 = 3;
/// Numbers that arenas may be given.
const NUMBERS: usize = 3;
/// Arenas that are there at the same time.
const ARENAS: u32 = 3;
/// Records on their way.
const RECORDS: usize = 2;

/// What keeps units safe, each to be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceRule {
    /// What a seal does not need is free when its record is durable.
    FreeWhenTheSealIsDurable,
    /// What a deleted chunk owned is free when the record of the deletion is durable.
    FreeWhenTheDeletionIsDurable,
    /// What a moved chunk owned is free when the record that names its new units is durable.
    FreeWhenTheMoveIsDurable,
    /// A unit to which a write is under way is not free, whoever owned it.
    WorkHoldsUnits,
    /// Bytes are synced before the record that speaks of them is written.
    SyncedBeforeTheRecord,
    /// While a record that names new units is on its way no other is written that would name the old ones.
    MovingExcludesOthers,
    /// Behind the record of a deletion none is written that names units of the chunk.
    NoMoveBehindADeletion,
    /// A deletion frees what the chunk owns when it is durable, not what it owned when it was asked for.
    DeletionFreesWhatIsOwnedThen,
    /// The number of an arena is not given again.
    NumbersAreGivenOnce,
}

impl SpaceRule {
    /// All of them.
    pub const ALL: [SpaceRule; 9] = [
        SpaceRule::FreeWhenTheSealIsDurable,
        SpaceRule::FreeWhenTheDeletionIsDurable,
        SpaceRule::FreeWhenTheMoveIsDurable,
        SpaceRule::WorkHoldsUnits,
        SpaceRule::SyncedBeforeTheRecord,
        SpaceRule::MovingExcludesOthers,
        SpaceRule::NoMoveBehindADeletion,
        SpaceRule::DeletionFreesWhatIsOwnedThen,
        SpaceRule::NumbersAreGivenOnce,
    ];
}

/// The model.
#[derive(Clone, Copy, Default, Debug)]
pub struct Space {
    without: Option<SpaceRule>,
}

/// Units of a chunk, by the numbers of their arenas, in the order of its bytes.
type Units = [Option<u8>; 2];

/// Whose bytes they are: of which chunk and placement; 0: nobody's.
type Tag = u8;

/// An arena with its one unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Arena {
    exists: bool,
    free: bool,
    now: Tag,
    durable: Tag,
    /// Writes under way, by bits of their tags.
    writes: u16,
}

/// What a record says of a chunk, and the index with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Entry {
    /// 0: it is not here.
    placement: u8,
    sealed: bool,
    length: u8,
    units: Units,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Record {
    Chunk { chunk: u8, entry: Entry },
    Move { chunk: u8, entry: Entry },
    Delete { chunk: u8, units: Units },
}

/// A chunk in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct Chunk {
    /// The last one; it is here if it owns units.
    placement: u8,
    units: Units,
    /// Units that were or are written.
    written: u8,
    /// A record speaks of it, durable or on its way.
    recorded: bool,
    /// A record of it, other than a deletion, is on its way.
    busy: bool,
    sealing: bool,
    deleting: bool,
}

/// A chunk on its way to other units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Move {
    chunk: u8,
    placement: u8,
    units: Units,
    logged: bool,
}

/// A moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    arenas: [Arena; NUMBERS],
    /// What the durable records say.
    index: [Entry; CHUNKS],
    chunks: [Chunk; CHUNKS],
    records: [Option<Record>; RECORDS],
    moving: Option<Move>,
    /// Above every number that was given.
    next_number: u8,
    /// Placements whose deletion was acknowledged, and those that lost an arena, of each chunk.
    deleted: [u8; CHUNKS],
    lost: [u8; CHUNKS],
    moved: bool,
    fenced: bool,
    removed: bool,
    cut: bool,
    fault: Option<&'static str>,
}

fn tag(chunk: usize, placement: u8) -> Tag {
    1 + chunk as u8 * PLACEMENTS + placement - 1
}

impl State {
    fn take(&mut self, count: usize) -> Option<Units> {
        let mut free = (0..NUMBERS).filter(|at| self.arenas[*at].free);
        let mut units = [None; 2];
        for unit in &mut units[..count] {
            *unit = Some(free.next()? as u8);
        }
        for unit in units.iter().flatten() {
            self.arenas[usize::from(*unit)].free = false;
        }
        Some(units)
    }

    fn give_back(&mut self, units: &[Option<u8>], holds: bool) {
        for unit in units.iter().flatten() {
            let arena = &mut self.arenas[usize::from(*unit)];
            if !arena.exists {
                // It was lost.
                continue;
            }
            if arena.free {
                self.fault = Some("a unit is given back twice");
            }
            arena.free = arena.writes == 0 || !holds;
        }
    }

    fn begin_write(&mut self, unit: Option<u8>, tag: Tag) {
        if let Some(unit) = unit {
            self.arenas[usize::from(unit)].writes |= 1 << tag;
        }
    }

    fn are_written(&self, units: &[Option<u8>], tag: Tag) -> bool {
        let is_under_way = |unit: &u8| self.arenas[usize::from(*unit)].writes & 1 << tag != 0;
        !units.iter().flatten().any(is_under_way)
    }

    fn sync(&mut self, units: &[Option<u8>]) {
        for unit in units.iter().flatten() {
            let arena = &mut self.arenas[usize::from(*unit)];
            arena.durable = arena.now;
        }
    }

    fn log(&mut self, record: Record) -> bool {
        let free = self.records.iter_mut().find(|place| place.is_none());
        free.map(|place| *place = Some(record)).is_some()
    }

    /// True if the index names the unit, or a record on its way.
    fn is_named(&self, unit: u8) -> bool {
        let records = self.records.iter().flatten().filter_map(|record| match record {
            Record::Chunk { entry, .. } | Record::Move { entry, .. } => Some(entry),
            Record::Delete { .. } => None,
        });
        let mut entries = self.index.iter().chain(records);
        entries.any(|entry| entry.units.contains(&Some(unit)))
    }

    /// The same with the two chunks exchanged.
    fn exchanged(mut self) -> Self {
        let other = |tag: Tag| match tag {
            0 => 0,
            tag if tag <= PLACEMENTS => tag + PLACEMENTS,
            tag => tag - PLACEMENTS,
        };
        for arena in &mut self.arenas {
            (arena.now, arena.durable) = (other(arena.now), other(arena.durable));
            let all = (1..16).filter(|tag| arena.writes & 1 << tag != 0);
            arena.writes = all.fold(0, |writes, tag| writes | 1 << other(tag));
        }
        self.index.swap(0, 1);
        self.chunks.swap(0, 1);
        self.deleted.swap(0, 1);
        self.lost.swap(0, 1);
        for record in self.records.iter_mut().flatten() {
            let (Record::Chunk { chunk, .. } | Record::Move { chunk, .. } | Record::Delete { chunk, .. }) =
                record;
            *chunk = 1 - *chunk;
        }
        if let Some(moving) = &mut self.moving {
            moving.chunk = 1 - moving.chunk;
        }
        self
    }

    /// True if a chunk, or what moves, owns the unit.
    fn is_owned(&self, unit: u8) -> bool {
        let moving = self.moving.map(|moving| moving.units);
        let mut owned = self.chunks.iter().map(|chunk| chunk.units).chain(moving);
        owned.any(|units| units.contains(&Some(unit)))
    }
}

impl Space {
    /// With all rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without one of the rules.
    pub fn without(self, rule: SpaceRule) -> Self {
        Self { without: Some(rule) }
    }

    fn holds(&self, rule: SpaceRule) -> bool {
        self.without != Some(rule)
    }
}

impl Model for Space {
    type State = State;

    fn start(&self) -> State {
        State {
            arenas: [Arena::default(); NUMBERS],
            index: [Entry::default(); CHUNKS],
            chunks: [Chunk::default(); CHUNKS],
            records: [None; RECORDS],
            moving: None,
            next_number: 0,
            deleted: [0; CHUNKS],
            lost: [0; CHUNKS],
            moved: false,
            fenced: false,
            removed: false,
            cut: false,
            fault: None,
        }
    }

    fn steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for at in 0..CHUNKS {
            self.chunk_steps(state, at, step);
        }
        if let Some((what, next)) = state.moving.and_then(|moving| self.end_copy(state, moving)) {
            step(what, next);
        }
        if let Some(next) = self.durable(state) {
            step(
                (
                    "durable is a record, of",
                    state.records.iter().flatten().count() as u8,
                ),
                next,
            );
        }
        self.arena_steps(state, step);
        if !state.cut {
            let count = state.records.iter().flatten().count();
            let lost = (0..NUMBERS).filter(|at| state.arenas[*at].exists).map(Some);
            for lost in lost.chain([None]) {
                for records in 0..=count {
                    step(
                        ("power cut, records", records as u8),
                        self.power_cut(state, records, lost),
                    );
                }
            }
        }
    }

    /// Which chunk is which does not matter, nor what is in units that nobody owns.
    fn unnamed(&self, mut state: State) -> State {
        for at in 0..NUMBERS {
            if !state.is_named(at as u8) && !state.is_owned(at as u8) {
                (state.arenas[at].now, state.arenas[at].durable) = (0, 0);
            }
        }
        state.min(state.exchanged())
    }

    fn fault(&self, state: &State) -> Option<&'static str> {
        let is_wrong = |(at, entry): (usize, &Entry)| {
            let units = entry.units[..usize::from(entry.length)].iter().flatten();
            let mut bytes = units.map(|unit| state.arenas[usize::from(*unit)].now);
            entry.placement != 0
                && entry.placement != state.lost[at]
                && bytes.any(|bytes| bytes != tag(at, entry.placement))
        };
        let is_back =
            |(at, entry): (usize, &Entry)| entry.placement != 0 && entry.placement <= state.deleted[at];
        if state.index.iter().enumerate().any(is_wrong) {
            return Some("a chunk holds other bytes than were acknowledged");
        }
        if state.index.iter().enumerate().any(is_back) {
            return Some("a chunk is back whose deletion was acknowledged");
        }
        let sound =
            (0..CHUNKS).filter(|at| state.lost[*at] == 0 || state.lost[*at] != state.chunks[*at].placement);
        let owned: Vec<u8> = sound.flat_map(|at| state.chunks[at].units).flatten().collect();
        let twice =
            |(at, unit): (usize, &u8)| owned[..at].contains(unit) || state.arenas[usize::from(*unit)].free;
        if owned.iter().enumerate().any(twice) {
            return Some("a unit has two owners, or is free although it has one");
        }
        state.fault
    }
}
