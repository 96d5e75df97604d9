//! Counts how much redundancy there is.
//!
//! A new leader knows which disks are there when every chunk server has reported to it, or was given the time for that;
//! before, the answer is that it does not know. What is on which disks is kept by apply, so that a count reads the sets
//! of disks that are away and not all chunks.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_namespace::{self as namespace, RedundancyCount, StoreError};
use std::time::Duration;

/// Sets of disks read under one lock: about a millisecond.
const SLICE: usize = 1_000;
/// Slices in one round; a count that needs more goes on in the next.
const SLICES: usize = 32;

/// A count under way, if it did not end within a round.
#[derive(Default)]
pub(super) struct Redundancy {
    count: Option<RedundancyCount>,
}

impl LeaderTask for Redundancy {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self::default()
    }

    async fn round(&mut self, parts: &TaskParts) {
        match self.count(parts) {
            Ok(Known::No) => publish(parts, None),
            Ok(Known::NotYet) => {}
            Ok(Known::Yes(found)) => publish(parts, Some(found)),
            Err(error) => {
                self.count = None;
                drop(parts.state.store_error(&error));
            }
        }
    }
}

enum Known {
    /// It cannot be said which disks are there.
    No,
    /// What was found last holds until the count under way has ended.
    NotYet,
    Yes(namespace::Redundancy),
}

impl Redundancy {
    fn count(&mut self, parts: &TaskParts) -> Result<Known, StoreError> {
        let mut count = match self.count.take() {
            Some(count) => count,
            None => {
                let now = parts.clock.now();
                let state = parts.state.read();
                let present = parts.leader.with(|office| {
                    let (servers, config) = (&office.servers, &parts.config);
                    let known = servers.knows_all(state.nodes(), now, office.begun, config);
                    known.then(|| servers.present_disks(state.nodes(), now, config))
                });
                let Some(present) = present.flatten() else {
                    return Ok(Known::No);
                };
                RedundancyCount::begin(&state, |disk| present.contains(&disk))?
            }
        };
        for _ in 0..SLICES {
            let step = count.step(&parts.state.read(), SLICE)?;
            if let Some(found) = step {
                return Ok(Known::Yes(found));
            }
        }
        self.count = Some(count);
        Ok(Known::NotYet)
    }
}

fn publish(parts: &TaskParts, found: Option<namespace::Redundancy>) {
    let metrics = &parts.metrics;
    metrics.redundancy_known.set(i64::from(found.is_some()));
    let found_or_nothing = found.unwrap_or_default();
    let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    metrics
        .chunks_under_redundant
        .set(gauge(found_or_nothing.under_redundant().chunks));
    metrics.chunks_lost.set(gauge(found_or_nothing.lost().chunks));
    metrics
        .exposure_bytes
        .set(gauge(found_or_nothing.exposure(1).bytes));
    parts.leader.with(|office| office.redundancy = found);
}
