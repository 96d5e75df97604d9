//! How long things usually take: what "slow" is measured against. Synchronous; time comes in as durations.

use crate::locks;
use drystone_env::sync::Mutex;
use std::time::Duration;

/// Samples that are kept: enough for a p99, few enough that a change of load shows within seconds.
const SAMPLES: usize = 256;
/// The quantiles are computed anew after this many samples.
const REFRESH: u32 = 16;
/// Fewer samples say nothing.
const ENOUGH: usize = 32;

#[derive(Debug, Default)]
struct Samples {
    ring: Vec<u32>,
    next: usize,
    since_refresh: u32,
    p95: Duration,
    p99: Duration,
}

/// The last durations of one kind of request, over all servers, shared by all who make it.
#[derive(Debug)]
pub(crate) struct Latency(Mutex<Samples>);

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new(locks::LATENCY, Samples::default()))
    }
}

impl Latency {
    /// Counts one.
    pub(crate) fn add(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut state = self.0.lock();
        if state.ring.len() < SAMPLES {
            state.ring.push(micros);
        } else {
            let at = state.next;
            state.ring[at] = micros;
        }
        state.next = (state.next + 1) % SAMPLES;
        state.since_refresh += 1;
        if state.since_refresh >= REFRESH && state.ring.len() >= ENOUGH {
            state.since_refresh = 0;
            let mut sorted = state.ring.clone();
            sorted.sort_unstable();
            let at = |percent: usize| {
                sorted
                    .get((sorted.len() - 1) * percent / 100)
                    .copied()
                    .unwrap_or(0)
            };
            state.p95 = Duration::from_micros(at(95).into());
            state.p99 = Duration::from_micros(at(99).into());
        }
    }

    /// The 95th percentile; `None` before there are enough samples.
    pub(crate) fn p95(&self) -> Option<Duration> {
        let state = self.0.lock();
        (!state.p95.is_zero()).then_some(state.p95)
    }

    /// The 99th percentile; `None` before there are enough samples.
    pub(crate) fn p99(&self) -> Option<Duration> {
        let state = self.0.lock();
        (!state.p99.is_zero()).then_some(state.p99)
    }
}

/// At most 5 % of reads may be sent twice: each earns a twentieth, a hedge costs one; ten can be saved up.
#[derive(Debug)]
pub(crate) struct HedgeBudget(Mutex<u32>);

impl Default for HedgeBudget {
    fn default() -> Self {
        Self(Mutex::new(locks::HEDGES, 0))
    }
}

impl HedgeBudget {
    pub(crate) fn earn(&self) {
        let mut twentieths = self.0.lock();
        *twentieths = (*twentieths + 1).min(200);
    }

    pub(crate) fn spend(&self) -> bool {
        let mut twentieths = self.0.lock();
        let allowed = *twentieths >= 20;
        if allowed {
            *twentieths -= 20;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_follow_the_last_samples() {
        let latency = Latency::default();
        assert_eq!(latency.p95(), None);
        (1..=200).for_each(|i| latency.add(Duration::from_micros(i)));
        let p95 = latency.p95().unwrap().as_micros();
        assert!((175..=200).contains(&p95), "{p95}");
        (0..300).for_each(|_| latency.add(Duration::from_millis(5)));
        assert_eq!(latency.p99(), Some(Duration::from_millis(5)));
    }

    #[test]
    fn one_hedge_in_twenty() {
        let budget = HedgeBudget::default();
        let hedges = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(hedges.count(), 50);
    }
}
