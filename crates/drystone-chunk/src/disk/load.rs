//! How busy and how healthy a disk is, counted where the work is done and read by the heartbeat.

use drystone_env::Monotonic;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Four buckets for each doubling of microseconds.
const BUCKETS: usize = 128;
/// Two windows of this length: a p99 covers between half a minute and a minute.
const WINDOW: Duration = Duration::from_secs(30);

/// Latencies of the last minute, in buckets 19 % apart; recording is one atomic addition.
pub(crate) struct Latencies {
    windows: [[AtomicU32; BUCKETS]; 2],
    /// Number of the window that is written now.
    at: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        let windows = [(); 2].map(|()| [(); BUCKETS].map(|()| AtomicU32::new(0)));
        Self {
            windows,
            at: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    pub(crate) fn record(&self, now: Monotonic, latency: Duration) {
        self.turn(now);
        let window = &self.windows[(self.at.load(Relaxed) & 1) as usize];
        window[bucket(latency.as_micros() as u64)].fetch_add(1, Relaxed);
    }

    /// The upper edge of the bucket that holds the 99th percentile; zero without samples.
    pub(crate) fn p99(&self, now: Monotonic) -> Duration {
        self.turn(now);
        let count = |at: usize| {
            self.windows
                .iter()
                .map(|window| u64::from(window[at].load(Relaxed)))
                .sum::<u64>()
        };
        let all: u64 = (0..BUCKETS).map(count).sum();
        let mut above = all / 100;
        for at in (0..BUCKETS).rev() {
            let here = count(at);
            if here > above {
                return Duration::from_micros(upper_edge(at));
            }
            above -= here;
        }
        Duration::ZERO
    }

    fn turn(&self, now: Monotonic) {
        let number = now.0 / WINDOW.as_micros() as u64;
        let before = self.at.load(Relaxed);
        if number > before && self.at.compare_exchange(before, number, Relaxed, Relaxed).is_ok() {
            let clear = |window: u64| {
                self.windows[(window & 1) as usize]
                    .iter()
                    .for_each(|b| b.store(0, Relaxed))
            };
            clear(number);
            if number > before + 1 {
                clear(number + 1);
            }
        }
    }
}

fn bucket(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let log = 63 - micros.leading_zeros() as usize;
    (4 * (log - 1) + ((micros >> (log - 2)) & 3) as usize).min(BUCKETS - 1)
}

fn upper_edge(bucket: usize) -> u64 {
    if bucket < 4 {
        bucket as u64
    } else {
        (5 + bucket as u64 % 4) << (bucket / 4 - 1)
    }
}

/// What one disk has done; counted since the start.
#[derive(Default)]
pub(crate) struct Load {
    /// Of writes and syncs.
    pub(crate) writes: Latencies,
    /// Requests and disk operations that are queued or under way.
    pub(crate) queue: AtomicU32,
    /// Bytes written.
    pub(crate) written: AtomicU64,
    /// Bytes read.
    pub(crate) read: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_every_latency_in_order() {
        let mut last = 0;
        for micros in (0..5000).chain([1 << 20, 1 << 30, u64::MAX]) {
            let at = bucket(micros);
            assert!(at >= last && at < BUCKETS);
            assert!(at == BUCKETS - 1 || upper_edge(at) >= micros, "{micros} in {at}");
            last = at;
        }
    }

    #[test]
    fn the_p99_forgets_after_a_minute() {
        let load = Latencies::default();
        let at = |seconds: u64| Monotonic(seconds * 1_000_000);
        assert_eq!(load.p99(at(0)), Duration::ZERO);
        (0..99).for_each(|_| load.record(at(1), Duration::from_micros(100)));
        assert!(load.p99(at(1)) < Duration::from_micros(130));
        (0..3).for_each(|_| load.record(at(2), Duration::from_millis(50)));
        assert!(load.p99(at(31)) >= Duration::from_millis(50));
        assert_eq!(load.p99(at(95)), Duration::ZERO);
    }
}
