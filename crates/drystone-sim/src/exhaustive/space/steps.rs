//! What may happen next to chunks, records and arenas, and what a power cut leaves.

use super::super::search::Step;
use super::{ARENAS, Arena, CHUNKS, Chunk, Entry, Move, NUMBERS, PLACED, PLACEMENTS, RECORDS, Record};
use super::{Space, SpaceRule, State, tag};

impl Space {
    fn give_back(&self, state: &mut State, units: &[Option<u8>]) {
        state.give_back(units, self.holds(SpaceRule::WorkHoldsUnits));
    }

    /// Syncs what a record is about to speak of, and writes it.
    fn log(&self, state: &State, record: Record) -> Option<State> {
        let mut next = *state;
        if let Record::Chunk { entry, .. } | Record::Move { entry, .. } = record
            && self.holds(SpaceRule::SyncedBeforeTheRecord)
        {
            next.sync(&entry.units[..usize::from(entry.length)]);
        }
        next.log(record).then_some(next)
    }

    pub(super) fn chunk_steps(&self, state: &State, at: usize, step: &mut dyn FnMut(Step, State)) {
        let chunk = state.chunks[at];
        let number = at as u8;
        if chunk.units[0].is_none() {
            let placed: u8 = state.chunks.iter().map(|chunk| chunk.placement).sum();
            if chunk.placement < PLACEMENTS && placed < PLACED {
                for count in [1, 2] {
                    let mut next = *state;
                    if let Some(units) = next.take(count) {
                        next.chunks[at] = Chunk {
                            placement: chunk.placement + 1,
                            units,
                            ..Chunk::default()
                        };
                        step((["", "place small", "place"][count], number), next);
                    }
                }
            }
            return;
        }
        if chunk.deleting {
            return;
        }
        let tag = tag(at, chunk.placement);
        let entry = state.index[at];
        let is_sealed = entry.placement == chunk.placement && entry.sealed;
        if !is_sealed && !chunk.sealing {
            if let Some(unit) = chunk.units.get(usize::from(chunk.written)).copied().flatten() {
                let mut next = *state;
                next.begin_write(Some(unit), tag);
                next.chunks[at].written += 1;
                step(("write", number), next);
            }
            for length in (1..=chunk.written).filter(|_| !chunk.busy) {
                if !state.are_written(&chunk.units[..usize::from(length)], tag) {
                    continue;
                }
                for sealed in [false, true] {
                    let known = if entry.placement == chunk.placement {
                        entry.length
                    } else {
                        0
                    };
                    if !sealed && length <= known {
                        continue;
                    }
                    if let Some(next) = self.log_chunk(state, at, length, sealed) {
                        step((if sealed { "seal" } else { "sync" }, number), next);
                    }
                }
            }
        }
        if is_sealed && !state.fenced && !(chunk.busy && self.holds(SpaceRule::MovingExcludesOthers)) {
            let record = Record::Chunk { chunk: number, entry };
            if let Some(mut next) = self.log(state, record) {
                next.fenced = true;
                next.chunks[at].busy = true;
                step(("fence", number), next);
            }
        }
        if is_sealed && !chunk.busy && !state.moved {
            let mut next = *state;
            if let Some(units) = next.take(usize::from(entry.length)) {
                units.iter().for_each(|unit| next.begin_write(*unit, tag));
                next.moving = Some(Move {
                    chunk: number,
                    placement: chunk.placement,
                    units,
                    logged: false,
                });
                next.moved = true;
                step(("begin to move", number), next);
            }
        }
        if let Some(next) = self.delete(state, at) {
            step(("delete", number), next);
        }
    }

    fn log_chunk(&self, state: &State, at: usize, length: u8, sealed: bool) -> Option<State> {
        let chunk = state.chunks[at];
        let mut entry = Entry {
            placement: chunk.placement,
            sealed,
            length,
            units: chunk.units,
        };
        if sealed && length == 1 {
            entry.units[1] = None;
        }
        let mut next = self.log(
            state,
            Record::Chunk {
                chunk: at as u8,
                entry,
            },
        )?;
        let of = &mut next.chunks[at];
        (of.busy, of.recorded, of.sealing) = (true, true, sealed);
        if sealed && !self.holds(SpaceRule::FreeWhenTheSealIsDurable) {
            self.shorten(&mut next, at, length);
        }
        Some(next)
    }

    /// A chunk is sealed: what it does not need is given back.
    fn shorten(&self, state: &mut State, at: usize, length: u8) {
        let rest = usize::from(length)..2;
        let given = state.chunks[at].units;
        self.give_back(state, &given[rest.clone()]);
        state.chunks[at].units[rest].fill(None);
    }

    fn delete(&self, state: &State, at: usize) -> Option<State> {
        let chunk = state.chunks[at];
        if !chunk.recorded {
            let mut next = *state;
            self.give_back(&mut next, &chunk.units);
            next.chunks[at] = Chunk {
                placement: chunk.placement,
                ..Chunk::default()
            };
            return Some(next);
        }
        let record = Record::Delete {
            chunk: at as u8,
            units: chunk.units,
        };
        let mut next = self.log(state, record)?;
        next.chunks[at].deleting = true;
        if !self.holds(SpaceRule::FreeWhenTheDeletionIsDurable) {
            self.give_back(&mut next, &chunk.units);
            next.chunks[at].units = [None; 2];
            next.chunks[at].placement = PLACEMENTS;
        }
        Some(next)
    }

    /// The copy of a chunk that moves is written, or has become superfluous.
    pub(super) fn end_copy(&self, state: &State, moving: Move) -> Option<(Step, State)> {
        let at = usize::from(moving.chunk);
        let chunk = state.chunks[at];
        if moving.logged || !state.are_written(&moving.units, tag(at, moving.placement)) {
            return None;
        }
        let is_going = chunk.placement != moving.placement || chunk.units[0].is_none();
        let is_going = is_going || chunk.deleting;
        if is_going && self.holds(SpaceRule::NoMoveBehindADeletion) {
            let mut next = *state;
            next.moving = None;
            self.give_back(&mut next, &moving.units);
            return Some((("give up the move of", moving.chunk), next));
        }
        if chunk.busy {
            return None;
        }
        let entry = Entry {
            placement: moving.placement,
            sealed: true,
            length: moving.units.iter().flatten().count() as u8,
            units: moving.units,
        };
        let mut next = self.log(
            state,
            Record::Move {
                chunk: moving.chunk,
                entry,
            },
        )?;
        next.moving = Some(Move {
            logged: true,
            ..moving
        });
        next.chunks[at].busy = true;
        if !self.holds(SpaceRule::FreeWhenTheMoveIsDurable) {
            self.give_back(&mut next, &chunk.units);
            next.chunks[at].units = moving.units;
        }
        Some((("record the move of", moving.chunk), next))
    }

    /// The record that has waited longest is durable.
    pub(super) fn durable(&self, state: &State) -> Option<State> {
        let record = state.records[0]?;
        let mut next = *state;
        enter(&mut next);
        match record {
            Record::Chunk { chunk, entry } => {
                let at = usize::from(chunk);
                next.chunks[at].busy = false;
                if entry.sealed && state.chunks[at].sealing {
                    next.chunks[at].sealing = false;
                    self.shorten(&mut next, at, entry.length);
                }
            }
            Record::Move { chunk, entry } => {
                let at = usize::from(chunk);
                let old = state.chunks[at].units;
                next.chunks[at].units = entry.units;
                next.chunks[at].busy = false;
                next.moving = None;
                if self.holds(SpaceRule::FreeWhenTheMoveIsDurable) {
                    self.give_back(&mut next, &old);
                }
            }
            Record::Delete { chunk, units } => {
                let at = usize::from(chunk);
                let owned = match self.holds(SpaceRule::DeletionFreesWhatIsOwnedThen) {
                    true => state.chunks[at].units,
                    false => units,
                };
                if self.holds(SpaceRule::FreeWhenTheDeletionIsDurable) {
                    self.give_back(&mut next, &owned);
                }
                next.chunks[at] = Chunk {
                    placement: state.chunks[at].placement,
                    ..Chunk::default()
                };
                next.deleted[at] = state.index[at].placement;
            }
        }
        Some(next)
    }

    pub(super) fn arena_steps(&self, state: &State, step: &mut dyn FnMut(Step, State)) {
        for at in 0..NUMBERS {
            let arena = state.arenas[at];
            for writer in (1..16).filter(|tag| arena.writes & 1 << tag != 0) {
                let mut next = *state;
                let of = &mut next.arenas[at];
                of.writes &= !(1 << writer);
                of.now = writer;
                of.free = of.free || (of.writes == 0 && of.exists && !state.is_owned(at as u8));
                step(("written is unit", at as u8), next);
            }
            if arena.free && arena.writes == 0 && !state.removed {
                let mut next = *state;
                next.arenas[at] = Arena::default();
                next.removed = true;
                step(("remove arena", at as u8), next);
            }
        }
        let count = state.arenas.iter().filter(|arena| arena.exists).count() as u32;
        let again = (0..NUMBERS as u8).find(|at| !state.arenas[usize::from(*at)].exists);
        let number = match self.holds(SpaceRule::NumbersAreGivenOnce) {
            true => Some(state.next_number),
            false => again,
        };
        if let Some(number) = number.filter(|number| usize::from(*number) < NUMBERS && count < ARENAS) {
            let mut next = *state;
            next.arenas[usize::from(number)] = Arena {
                exists: true,
                free: true,
                ..Arena::default()
            };
            next.next_number = next.next_number.max(number + 1);
            step(("make arena", number), next);
        }
    }

    /// The power goes: so many records come through, nothing that is not synced does, and an arena may be lost.
    pub(super) fn power_cut(&self, state: &State, records: usize, lost: Option<usize>) -> State {
        let mut next = *state;
        for _ in 0..records {
            enter(&mut next);
        }
        next.records = [None; RECORDS];
        (next.moving, next.cut) = (None, true);
        for arena in &mut next.arenas {
            if arena.now != arena.durable || arena.writes != 0 {
                arena.durable = 0;
            }
            (arena.now, arena.writes, arena.free) = (arena.durable, 0, arena.exists);
        }
        if let Some(lost) = lost {
            next.arenas[lost] = Arena::default();
        }
        // Numbers of arenas that nothing names were never given.
        next.next_number = 0;
        for at in 0..NUMBERS as u8 {
            let is_named = next.index.iter().any(|entry| entry.units.contains(&Some(at)));
            if is_named || next.arenas[usize::from(at)].exists {
                next.next_number = at + 1;
            }
        }
        for at in 0..CHUNKS {
            let entry = next.index[at];
            for unit in entry.units.iter().flatten() {
                let arena = &mut next.arenas[usize::from(*unit)];
                if !arena.exists {
                    next.lost[at] = entry.placement;
                } else if !arena.free {
                    next.fault = Some("two chunks own a unit: the disk is refused");
                }
                arena.free = false;
            }
            next.chunks[at] = Chunk {
                placement: state.chunks[at].placement,
                units: entry.units,
                written: entry.length,
                recorded: entry.placement != 0,
                ..Chunk::default()
            };
        }
        next
    }
}

/// The first record counts from here on.
pub(super) fn enter(state: &mut State) {
    let Some(record) = state.records[0] else { return };
    state.records.rotate_left(1);
    state.records[RECORDS - 1] = None;
    match record {
        Record::Chunk { chunk, entry } | Record::Move { chunk, entry } => {
            state.index[usize::from(chunk)] = entry;
        }
        Record::Delete { chunk, .. } => state.index[usize::from(chunk)] = Entry::default(),
    }
}
