//! Chunk ids in the leader's memory, and how old those are that it handed out.

use drystone_env::Monotonic;
use std::collections::VecDeque;
use std::time::Duration;

/// Ranges that wait to fall below the floor; the oldest are merged beyond it, which only makes them wait longer.
const RETIRED: usize = 4_096;

/// See the module.
#[derive(Default)]
pub(crate) struct Ranges {
    open: VecDeque<Range>,
    /// Ids below `end` were handed out at `at` or before; ends and times grow.
    retired: VecDeque<Retired>,
}

struct Range {
    next: u64,
    end: u64,
    placement: u64,
    taken: Monotonic,
}

struct Retired {
    end: u64,
    at: Monotonic,
}

impl Ranges {
    /// A range that a log entry took at `placement`.
    pub(crate) fn add(&mut self, first: u64, count: u64, placement: u64, now: Monotonic) {
        assert!(
            count > 0 && first > 0,
            "a range has ids, and no chunk has the id 0"
        );
        self.open.push_back(Range {
            next: first,
            end: first + count,
            placement,
            taken: now,
        });
    }

    /// Everything below `end` was handed out at `now` or before (by earlier leaders).
    pub(crate) fn retire_below(&mut self, end: u64, now: Monotonic) {
        if self.retired.back().is_none_or(|last| last.end < end) {
            if self.retired.len() >= RETIRED {
                self.retired.pop_back();
            }
            self.retired.push_back(Retired { end, at: now });
        }
    }

    /// A range older than `age` is given up, so that what was written under it can fall below the floor even if
    /// few chunks are written.
    fn give_up_old(&mut self, now: Monotonic, age: Duration) {
        while self
            .open
            .front()
            .is_some_and(|range| range.next >= range.end || now.since(range.taken) >= age)
        {
            if let Some(range) = self.open.pop_front() {
                self.retire_below(range.end, now);
            }
        }
    }

    /// True if `count` ids are there.
    pub(crate) fn has(&mut self, count: u32, now: Monotonic, age: Duration) -> bool {
        self.give_up_old(now, age);
        self.open.iter().map(|range| range.end - range.next).sum::<u64>() >= u64::from(count)
    }

    /// The next `count` ids with their placement, all or none.
    pub(crate) fn take(&mut self, count: u32, now: Monotonic, age: Duration) -> Option<Vec<(u64, u64)>> {
        if !self.has(count, now, age) {
            return None;
        }
        let mut ids = Vec::with_capacity(count as usize);
        while ids.len() < count as usize {
            let range = self.open.front_mut()?;
            if range.next < range.end {
                ids.push((range.next, range.placement));
                range.next += 1;
            } else {
                self.give_up_old(now, age);
            }
        }
        assert_eq!(ids.len(), count as usize, "all or none");
        Some(ids)
    }

    /// The floor that may be proposed now: everything below it was handed out at least `age` ago.
    pub(crate) fn floor(&mut self, now: Monotonic, age: Duration) -> Option<u64> {
        self.give_up_old(now, age / 2);
        self.retired
            .iter()
            .take_while(|range| now.since(range.at) >= age)
            .map(|range| range.end)
            .last()
    }

    /// The floor has been raised to here.
    pub(crate) fn raised(&mut self, floor: u64) {
        self.retired.retain(|range| range.end > floor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000)
    }

    #[test]
    fn ids_are_handed_out_once_and_in_order() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.take(1, at(0), SECOND * 100), None);
        ranges.add(10, 2, 7, at(0));
        ranges.add(12, 3, 9, at(0));
        assert_eq!(
            ranges.take(3, at(1), SECOND * 100),
            Some(vec![(10, 7), (11, 7), (12, 9)])
        );
        assert_eq!(ranges.take(3, at(1), SECOND * 100), None);
        assert_eq!(ranges.take(2, at(1), SECOND * 100), Some(vec![(13, 9), (14, 9)]));
    }

    #[test]
    fn the_first_range_of_an_office_lives_as_long_as_any_other() {
        // Earlier leaders' ids end where the office began, and not where its own first range does.
        let (mut ranges, age) = (Ranges::default(), SECOND * 100);
        ranges.retire_below(10, at(0));
        ranges.add(10, 10, 7, at(0));
        assert!(ranges.take(1, at(49), age / 2).is_some());
        assert!(ranges.take(1, at(50), age / 2).is_none(), "given up");
        assert_eq!(ranges.floor(at(100), age), Some(10));
        ranges.raised(10);
        assert_eq!(
            ranges.floor(at(148), age),
            None,
            "an id taken at 49 may be committed"
        );
        assert_eq!(ranges.floor(at(150), age), Some(20));
    }

    #[test]
    fn the_floor_follows_the_age_of_the_last_id_handed_out() {
        let mut ranges = Ranges::default();
        ranges.retire_below(10, at(0));
        ranges.add(10, 10, 7, at(0));
        assert_eq!(ranges.floor(at(9), SECOND * 10), None);
        assert_eq!(ranges.floor(at(10), SECOND * 10), Some(10));
        ranges.raised(10);
        // The range was given up at 9, so its ids may be committed until 19.
        assert_eq!(ranges.floor(at(18), SECOND * 10), None);
        assert_eq!(ranges.floor(at(19), SECOND * 10), Some(20));
        assert_eq!(ranges.take(1, at(19), SECOND * 10), None);
    }
}
