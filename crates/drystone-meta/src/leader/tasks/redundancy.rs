//! Counts how much redundancy there is.
//!
//! A new leader knows which disks are there when every chunk server has reported to it, or was given the time for that;
//! before, the answer is that it does not know. What is on which disks is kept by apply, so that a count reads the sets
//! of disks that are away and not all chunks.
//!
//! With a thousand disks and a rack away these are still millions of sets. So a count reads a view, on the threads for
//! long reads, and is right for the moment at which it began; what was found last holds until it has ended. Then there is
//! a rest as long as it took, so that counting never takes more than half of a thread.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_env::Monotonic;
use drystone_namespace::{self as namespace, NamespaceView, RedundancyCount, StoreError};
use drystone_types::DiskRef;
use std::collections::BTreeSet;
use std::time::Duration;

/// Sets of disks read before other reads get their turn on the thread: some ten milliseconds.
const SLICE: usize = 16_384;

/// See the module.
#[derive(Default)]
pub(super) struct Redundancy {
    /// The next count does not begin before.
    rests_until: Option<Monotonic>,
}

impl LeaderTask for Redundancy {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self::default()
    }

    async fn round(&mut self, parts: &TaskParts) {
        let Some(term) = parts.raft.office() else { return };
        let begun = parts.clock.now();
        let Some(present) = known_present_disks(parts, begun) else {
            return publish(parts, term, None);
        };
        if self.rests_until.is_some_and(|until| begun < until) {
            return;
        }
        if let Some(found) = count(parts, term, present).await {
            publish(parts, term, Some(found));
        }
        let now = parts.clock.now();
        self.rests_until = Some(now.plus(now.since(begun)));
    }
}

/// The disks whose replicas count now, if that can be said.
fn known_present_disks(parts: &TaskParts, now: Monotonic) -> Option<BTreeSet<DiskRef>> {
    let state = parts.state.read();
    let present = parts.leader.with(|office| {
        let (servers, config) = (&office.servers, &parts.config);
        let known = servers.knows_all(state.nodes(), now, office.begun, config);
        known.then(|| servers.present_disks(state.nodes(), now, config))
    });
    present.flatten()
}

/// A count under way, and the view that it reads. Views are dropped on the threads for long reads: that may take long too.
type UnderWay = Box<(RedundancyCount, NamespaceView)>;

/// A part of a count.
enum Step {
    More(UnderWay),
    Found(namespace::Redundancy),
}

fn step(mut under_way: UnderWay) -> Result<Step, StoreError> {
    let (count, view) = &mut *under_way;
    let found = count.step(&**view, SLICE)?;
    Ok(found.map_or(Step::More(under_way), Step::Found))
}

/// Counts, with `present` disks; nothing if the office of `term` ends meanwhile, or this server does.
async fn count(parts: &TaskParts, term: u64, present: BTreeSet<DiskRef>) -> Option<namespace::Redundancy> {
    let begin = move |view: NamespaceView| {
        let count = RedundancyCount::begin(&*view, |disk| present.contains(&disk))?;
        step(Box::new((count, view)))
    };
    let mut stepped = parts.readers.read(&parts.state, begin).await.ok()?;
    loop {
        match stepped {
            Ok(Step::Found(found)) => return Some(found),
            Ok(Step::More(under_way)) => {
                if parts.raft.office() != Some(term) {
                    return None;
                }
                stepped = parts.readers.go_on(move || step(under_way)).await.ok()?;
            }
            Err(error) => {
                drop(parts.state.store_error(&error));
                return None;
            }
        }
    }
}

/// Says what was found in the office of `term`; nothing if that has ended.
fn publish(parts: &TaskParts, term: u64, found: Option<namespace::Redundancy>) {
    parts.leader.with(|office| {
        if office.term != term {
            return;
        }
        office.redundancy = found;
        let metrics = &parts.metrics;
        metrics.redundancy_known.set(i64::from(found.is_some()));
        let found = found.unwrap_or_default();
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        metrics
            .chunks_under_redundant
            .set(gauge(found.under_redundant().chunks));
        metrics.chunks_lost.set(gauge(found.lost().chunks));
        metrics.exposure_bytes.set(gauge(found.exposure(1).bytes));
    });
}

#[cfg(test)]
mod tests;
