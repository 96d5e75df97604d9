//! What callers need to retry politely: a budget and jittered delays. Synchronous, no clock inside.

use crate::locks;
use drystone_env::sync::Mutex;
use drystone_env::{Rng, SeededRng};
use std::time::Duration;

/// Retries may be at most 10 % of calls: each call earns a tenth of a token, each retry costs one. Ten tokens can
/// be saved up, so that a quiet process can still ride out a short failure; shared by clones of its owner.
#[derive(Debug)]
pub struct RetryBudget {
    tenths: Mutex<u32>,
    limit: u32,
}

/// Tokens that can be saved, in tenths: a burst of ten retries is harmless, more would be a storm.
const SAVED_TENTHS: u32 = 100;

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryBudget {
    /// A full budget.
    pub fn new() -> Self {
        Self {
            tenths: Mutex::new(locks::RETRIES, SAVED_TENTHS),
            limit: SAVED_TENTHS,
        }
    }

    /// Counts a first attempt.
    pub fn earn(&self) {
        let mut tenths = self.tenths.lock();
        *tenths = (*tenths + 1).min(self.limit);
    }

    /// True if one retry may be made; it is counted then.
    pub fn spend(&self) -> bool {
        let mut tenths = self.tenths.lock();
        let allowed = *tenths >= 10;
        if allowed {
            *tenths -= 10;
        }
        allowed
    }
}

/// Delays that double from `base` to `cap`, each drawn uniformly from zero to its bound ("full jitter"), so that
/// many callers that failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
    rng: SeededRng,
}

impl Backoff {
    /// Starts at `base`; no delay is above `cap`.
    pub fn new(base: Duration, cap: Duration, rng: SeededRng) -> Self {
        Self {
            base,
            cap,
            attempt: 0,
            rng,
        }
    }

    /// The next delay, and the bound doubles.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        Duration::from_micros(self.rng.below(bound.as_micros() as u64 + 1))
    }

    /// The next delay, but at least `retry_after_ms` of a `busy` reply (and up to a quarter more).
    pub fn next_after(&mut self, retry_after_ms: u32) -> Duration {
        let asked = u64::from(retry_after_ms) * 1_000;
        let asked = asked + self.rng.below(asked / 4 + 1);
        self.next_delay().max(Duration::from_micros(asked))
    }

    /// Delays attempted since the start or the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Back to `base`, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_calls_once_the_savings_are_spent() {
        let budget = RetryBudget::new();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10);
        let retries = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(retries.count(), 100);
    }

    #[test]
    fn delays_stay_below_their_bounds_and_respect_retry_after() {
        let (base, cap) = (Duration::from_millis(10), Duration::from_millis(200));
        let mut backoff = Backoff::new(base, cap, SeededRng::new(3));
        for attempt in 0..40 {
            assert!(backoff.next_delay() <= cap.min(base * (1 << attempt.min(10))));
        }
        let delay = backoff.next_after(1000);
        assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_millis(1250));
        backoff.reset();
        assert!(backoff.next_delay() <= base);
    }
}
