//! Which arena is emptied, and where its chunks may go.
//!
//! An arena in which little is used, and that stays so, is chosen if enough is free without it: it gives out no units from then
//! on, its chunks are moved elsewhere, and when it is wholly free it is removed. If space runs short before, its units serve
//! again.
//!
//! That this ends, unless chunks come and go: a chunk moves into one run. If it was in several, there are fewer runs. If it was
//! in one, it moves to an arena in which at least as much is used, which raises the sum of the squares of what is used in each
//! arena, and that is bounded. A removal leaves twice the spare space, so that no arena is made in its place.

use super::arenas::{Arena, Arenas};
use super::files::ChunkSpace;
use crate::class::IoClass;
use crate::config::StoreConfig;
use crate::format::{Runs, UNIT};
use drystone_env::Monotonic;
use std::cmp::Reverse;
use std::time::Duration;

/// An arena is nearly empty if one of so many of its units is used at most.
const NEARLY_EMPTY: u64 = 4;
/// Others must have so many times as many free units as are to be moved.
const ROOM: u64 = 2;
/// An arena that could not be emptied is passed over for so many times the time for which it must be nearly empty.
const PASS_OVER: u32 = 8;
/// Another one is looked for so soon after one was emptied or could not be.
const NEXT_AFTER: Duration = Duration::from_millis(5);

impl Arena {
    fn used(&self) -> u64 {
        u64::from(self.map.units() - self.map.free())
    }

    fn is_nearly_empty(&self) -> bool {
        (1..=u64::from(self.map.units()) / NEARLY_EMPTY).contains(&self.used())
    }
}

impl Arenas {
    /// The arena that is emptied.
    pub(crate) fn emptied(&self) -> Option<u32> {
        self.sparse.emptied
    }

    /// Free units that are not given out, because their arena is emptied.
    fn withheld(&self) -> u64 {
        let emptied = self.sparse.emptied.and_then(|number| self.arenas.get(&number));
        emptied.map_or(0, |arena| u64::from(arena.map.free()))
    }

    /// Free units that are given out.
    pub(super) fn serving_units(&self) -> u64 {
        self.free_units - self.withheld()
    }

    /// Used units of an arena.
    pub(crate) fn used_units(&self, number: u32) -> u64 {
        self.arenas.get(&number).map_or(0, Arena::used)
    }

    /// The units of the arena that is emptied serve again.
    pub(super) fn stop_emptying(&mut self) {
        self.sparse.emptied = None;
    }

    /// The arena that was emptied, if it is wholly free: it is none from here on, and its file is to be removed. If less than
    /// `spare` free bytes would be left without it, it serves again.
    pub(super) fn retire_emptied(&mut self, spare: u64) -> Option<u32> {
        let number = self.emptied().filter(|number| self.used_units(*number) == 0)?;
        self.stop_emptying();
        if !self.may_retire(number, spare) {
            return None;
        }
        self.remove(number);
        self.sparse.removed += 1;
        Some(number)
    }

    /// The arena cannot be emptied now: it is not chosen again for a while, of which `period` is a part.
    pub(super) fn pass_over(&mut self, number: u32, now: Monotonic, period: Duration) {
        if self.sparse.emptied == Some(number) {
            self.stop_emptying();
        }
        self.sparse
            .passed_over
            .insert(number, now.plus(period * PASS_OVER));
    }

    /// Looks which arenas are nearly empty, and chooses one to be emptied if none is and it has been so at each look for
    /// `period`. At least `spare` bytes must be free when it is gone.
    pub(super) fn choose_sparse(&mut self, spare: u64, now: Monotonic, period: Duration) {
        if self.sparse.emptied.is_some() {
            return;
        }
        let Self { arenas, sparse, .. } = self;
        sparse
            .passed_over
            .retain(|number, until| *until > now && arenas.contains_key(number));
        let seen = std::mem::take(&mut sparse.seen);
        let nearly_empty = arenas.iter().filter(|(_, arena)| arena.is_nearly_empty());
        sparse.seen = nearly_empty
            .map(|(number, _)| (*number, seen.get(number).copied().unwrap_or(now)))
            .collect();
        let stayed = sparse
            .seen
            .iter()
            .filter(|(number, since)| since.plus(period) <= now && !sparse.passed_over.contains_key(number));
        let stayed = stayed.filter_map(|(number, _)| Some((*number, arenas.get(number)?)));
        // The one with the least to move, a high one first.
        let mut stayed: Vec<(u32, &Arena)> = stayed.collect();
        stayed.sort_by_key(|(number, arena)| (arena.used(), Reverse(*number)));
        let chosen = stayed.into_iter().find(|(number, arena)| {
            let elsewhere = arenas
                .iter()
                .filter(|(other, held)| *other != number && held.used() >= arena.used())
                .map(|(_, held)| u64::from(held.map.free()))
                .sum::<u64>();
            let left = (self.free_units * UNIT).checked_sub(u64::from(arena.map.units()) * UNIT);
            left.is_some_and(|left| left >= spare) && elsewhere >= ROOM * arena.used()
        });
        if let Some((arena, _)) = chosen {
            tracing::debug!(arena, "arena is emptied");
            self.sparse.emptied = Some(arena);
        }
    }

    /// A run for a chunk of the arena that is emptied, in another in which at least as many units are used. `kept` free bytes
    /// must be left.
    pub(super) fn take_elsewhere(&mut self, units: u64, kept: u64) -> Option<Runs> {
        let emptied = self.sparse.emptied?;
        if self.serving_units() * UNIT < units * UNIT + kept {
            return None;
        }
        let least = self.used_units(emptied);
        self.take_from(units, &[], |arena| arena.used() >= least)
    }
}

impl ChunkSpace {
    /// The arena that is emptied: it gives out no units.
    pub(crate) fn emptied(&self) -> Option<u32> {
        self.arenas.emptied()
    }

    /// Units of it that are not free.
    pub(crate) fn used_units(&self, arena: u32) -> u64 {
        self.arenas.used_units(arena)
    }

    /// Arenas that were removed when all in them had been moved.
    pub(crate) fn emptied_arenas(&self) -> u64 {
        self.arenas.sparse.removed
    }

    /// The arena cannot be emptied now.
    pub(crate) fn pass_over(&mut self, arena: u32, config: &StoreConfig, now: Monotonic) {
        self.arenas.pass_over(arena, now, config.remove_after);
        self.look_again(now);
    }

    /// One that is emptied follows the other: a wait for each would make days of a large disk.
    pub(super) fn look_again(&mut self, now: Monotonic) {
        if let Some(at) = &mut self.look_at {
            *at = now.plus(NEXT_AFTER).min(*at);
        }
    }

    /// A run for a chunk of the arena that is emptied, elsewhere. What is kept for repair, waited for or made ahead of need is
    /// not touched: this can wait, and on a disk that is so full it brings nothing.
    pub(crate) fn take_elsewhere(&mut self, config: &StoreConfig, units: u64) -> Option<Runs> {
        let kept = config.spare_bytes(self.arenas.arena_bytes()) + self.waiting_units * UNIT;
        if units * UNIT > self.free_bytes(config, IoClass::Scrub) {
            return None;
        }
        self.arenas.take_elsewhere(units, kept)
    }
}
