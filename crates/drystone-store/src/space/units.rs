//! Which units of one arena are used.

use drystone_env::planted::{Bug, planted};

/// A bit for each unit; set: used.
pub(super) struct UnitMap {
    words: Vec<u64>,
    units: u32,
    used: u32,
    /// No free run is longer.
    longest: u32,
}

const BITS: u32 = u64::BITS;

impl UnitMap {
    /// Of `units` free units.
    pub(super) fn new(units: u32) -> Self {
        let mut map = Self {
            words: vec![0; units.div_ceil(BITS) as usize],
            units,
            used: 0,
            longest: units,
        };
        // Beyond the end nothing is free.
        if !units.is_multiple_of(BITS)
            && let Some(last) = map.words.last_mut()
        {
            *last = u64::MAX << (units % BITS);
        }
        map
    }

    pub(super) fn units(&self) -> u32 {
        self.units
    }

    pub(super) fn free(&self) -> u32 {
        self.units - self.used
    }

    /// The first unit from `at` on whose bit is `used`; the number of units if there is none.
    fn next(&self, at: u32, used: bool) -> u32 {
        let mut index = (at / BITS) as usize;
        let mut ignored = !(u64::MAX << (at % BITS));
        while let Some(word) = self.words.get(index) {
            let word = if used { *word } else { !*word };
            let found = word & !ignored;
            if found != 0 {
                return (index as u32 * BITS + found.trailing_zeros()).min(self.units);
            }
            (index, ignored) = (index + 1, 0);
        }
        self.units
    }

    /// The first free run from `at` on: where it begins and ends.
    fn free_run(&self, at: u32) -> Option<(u32, u32)> {
        let first = self.next(at, false);
        (first < self.units).then(|| (first, self.next(first, true)))
    }

    /// Takes the first `units` units that are free in a row: where they begin.
    pub(super) fn take(&mut self, units: u32) -> Option<u32> {
        if units == 0 || units > self.longest {
            return None;
        }
        let (mut at, mut longest) = (0, 0);
        while let Some((first, end)) = self.free_run(at) {
            if end - first >= units {
                let first = if planted(Bug::UnitsGivenTwice) {
                    first.saturating_sub(1)
                } else {
                    first
                };
                self.mark(first, units);
                return Some(first);
            }
            longest = longest.max(end - first);
            at = end;
        }
        self.longest = longest;
        None
    }

    /// Takes runs of `least` units or more, `wanted` units in all at most: (first, units) of each.
    pub(super) fn gather(&mut self, least: u32, wanted: u32) -> Vec<(u32, u32)> {
        let (mut at, mut left, mut taken) = (0, wanted, Vec::new());
        if least > self.longest {
            return taken;
        }
        while left > 0
            && let Some((first, end)) = self.free_run(at)
        {
            let here = (end - first).min(left);
            if end - first >= least {
                self.mark(first, here);
                taken.push((first, here));
                left -= here;
            }
            at = end;
        }
        taken
    }

    fn mark(&mut self, first: u32, units: u32) {
        for unit in first..first + units {
            let bit = 1 << (unit % BITS);
            let word = &mut self.words[(unit / BITS) as usize];
            if planted(Bug::UnitsGivenTwice) && *word & bit != 0 {
                continue;
            }
            assert!(*word & bit == 0, "unit {unit} is taken twice");
            *word |= bit;
            self.used += 1;
        }
    }

    /// Takes these units, at recovery; false, and nothing is changed, if one of them is used or there is no such unit.
    pub(super) fn claim(&mut self, first: u32, units: u32) -> bool {
        let fits = first.checked_add(units).is_some_and(|end| end <= self.units);
        if !fits || self.next(first, true) < first + units {
            return false;
        }
        self.mark(first, units);
        true
    }

    /// Gives units back.
    ///
    /// # Panics
    /// If one of them was free.
    pub(super) fn give_back(&mut self, first: u32, units: u32) {
        for unit in first..first + units {
            let bit = 1 << (unit % BITS);
            let word = &mut self.words[(unit / BITS) as usize];
            if planted(Bug::UnitsGivenTwice) && *word & bit == 0 {
                continue;
            }
            assert!(
                unit < self.units && *word & bit != 0,
                "unit {unit} is given back twice"
            );
            *word &= !bit;
            self.used -= 1;
        }
        let around = self.next(first + units, true) - self.free_from(first);
        self.longest = self.longest.max(around);
    }

    /// Where the free run begins in which `unit` lies.
    fn free_from(&self, unit: u32) -> u32 {
        let mut index = (unit / BITS) as usize;
        // What lies before it in its word.
        let mut word = self.words[index] & !(u64::MAX << (unit % BITS));
        loop {
            if word != 0 {
                return index as u32 * BITS + (BITS - word.leading_zeros());
            }
            if index == 0 {
                return 0;
            }
            index -= 1;
            word = self.words[index];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::{Rng, SeededRng};

    #[test]
    fn the_first_run_that_is_long_enough_is_taken() {
        let mut map = UnitMap::new(200);
        assert_eq!(map.take(60), Some(0));
        assert_eq!(map.take(70), Some(60));
        assert_eq!(map.take(70), Some(130));
        assert_eq!(map.take(1), None);
        map.give_back(60, 70);
        map.give_back(10, 5);
        assert_eq!(map.take(6), Some(60));
        assert_eq!(map.take(5), Some(10));
        assert_eq!(map.take(65), None);
        assert_eq!(map.take(64), Some(66));
        assert_eq!(map.free(), 0);
    }

    #[test]
    fn pieces_are_gathered_the_long_ones_first_if_asked_so() {
        let mut map = UnitMap::new(100);
        assert_eq!(map.take(100), Some(0));
        for (first, units) in [(3, 1), (10, 20), (50, 2), (97, 3)] {
            map.give_back(first, units);
        }
        assert_eq!(map.gather(16, 30), vec![(10, 20)]);
        assert_eq!(map.gather(1, 5), vec![(3, 1), (50, 2), (97, 2)]);
        assert_eq!(map.free(), 1);
    }

    /// Against a plain list of units.
    #[test]
    fn it_agrees_with_a_plain_list() {
        for seed in 0..200 {
            let mut rng = SeededRng::new(seed);
            let units = 1 + rng.below(300) as u32;
            let mut map = UnitMap::new(units);
            let mut plain = vec![false; units as usize];
            let mut owned: Vec<(u32, u32)> = Vec::new();
            for _ in 0..300 {
                match rng.below(4) {
                    0 | 1 => {
                        let wanted = 1 + rng.below(20) as u32;
                        let fits = |first: usize| {
                            plain[first..].len() >= wanted as usize
                                && plain[first..first + wanted as usize].iter().all(|used| !used)
                        };
                        let expected = (0..units as usize).find(|first| fits(*first));
                        assert_eq!(map.take(wanted), expected.map(|first| first as u32));
                        owned.extend(expected.map(|first| (first as u32, wanted)));
                    }
                    2 if !owned.is_empty() => {
                        let (first, count) = owned.swap_remove(rng.below(owned.len() as u64) as usize);
                        map.give_back(first, count);
                    }
                    _ => {
                        let (first, count) = (rng.below(310) as u32, 1 + rng.below(20) as u32);
                        let free =
                            (first..first + count).all(|unit| plain.get(unit as usize) == Some(&false));
                        assert_eq!(map.claim(first, count), free);
                        owned.extend(free.then_some((first, count)));
                    }
                }
                plain.fill(false);
                for (first, count) in &owned {
                    plain[*first as usize..(*first + *count) as usize].fill(true);
                }
                assert_eq!(map.free() as usize, plain.iter().filter(|used| !**used).count());
                let runs = plain.split(|used| *used).map(<[bool]>::len);
                assert!(
                    map.longest as usize >= runs.max().unwrap_or(0),
                    "no free run is longer"
                );
            }
        }
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn a_unit_is_not_given_back_twice() {
        let mut map = UnitMap::new(10);
        assert_eq!(map.take(4), Some(0));
        map.give_back(1, 2);
        map.give_back(2, 2);
    }
}
