//! When a leader last answered: what readiness rests on.

use drystone_env::Monotonic;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Heartbeats that may go unanswered before the server calls itself not ready.
pub(crate) const MISSES: u32 = 10;

/// See the module.
#[derive(Default)]
pub(crate) struct LeaderContact {
    answered: AtomicU64,
    interval_us: AtomicU64,
}

impl LeaderContact {
    /// A leader has answered; the next answer is due after `interval`.
    pub(crate) fn answered(&self, now: Monotonic, interval: Duration) {
        self.answered.store(now.0.max(1), Relaxed);
        self.interval_us.store(interval.as_micros() as u64, Relaxed);
    }

    /// True if a leader has answered lately.
    pub(crate) fn is_alive(&self, now: Monotonic) -> bool {
        let answered = self.answered.load(Relaxed);
        let patience = self.interval_us.load(Relaxed).saturating_mul(u64::from(MISSES));
        answered != 0 && now.0.saturating_sub(answered) <= patience
    }
}
