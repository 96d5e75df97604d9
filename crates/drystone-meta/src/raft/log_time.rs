//! Log time: what a leader stamps entries with. It goes on from the last value in the log by the leader's monotonic
//! clock, so that a wall clock that is a day wrong changes nothing but the first entry of a fresh history.

use drystone_env::{Monotonic, WallTime};

/// A leader's log clock, for one term of office.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogTime {
    base: u64,
    since: Monotonic,
    last: u64,
}

impl LogTime {
    /// Goes on from `last`, the time of the last entry applied; a log without any begins at the wall clock.
    pub(crate) fn resume(last: u64, now: Monotonic, wall: WallTime) -> Self {
        let base = if last == 0 { wall.0 } else { last };
        Self {
            base,
            since: now,
            last: base,
        }
    }

    /// The time of the next entry, microseconds since 1970.
    pub(crate) fn next(&mut self, now: Monotonic) -> u64 {
        let advanced = self.base.saturating_add(now.since(self.since).as_micros() as u64);
        self.last = self.last.max(advanced);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_a_day_ahead_changes_nothing() {
        let day = 86_400_000_000;
        let mut time = LogTime::resume(1_000, Monotonic(50), WallTime(day));
        assert_eq!(time.next(Monotonic(50)), 1_000);
        assert_eq!(time.next(Monotonic(70)), 1_020);
        assert_eq!(time.next(Monotonic(60)), 1_020);
        assert_eq!(
            LogTime::resume(0, Monotonic(50), WallTime(day)).next(Monotonic(51)),
            day + 1
        );
    }
}
