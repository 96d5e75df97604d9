//! How loaded the disks are, for the heartbeat.

use crate::disk::disks::Disks;
use crate::metrics::Metrics;
use drystone_env::Clock;
use drystone_proto::cluster::DiskLoad;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A disk that does not answer by then is reported with its last answer, and is asked nothing else for this
/// heartbeat. For all disks together: a heartbeat must leave whatever they do.
const USAGE_PATIENCE: Duration = Duration::from_millis(300);

/// See the module.
pub(crate) struct LoadReport {
    clock: Arc<dyn Clock>,
    disks: Arc<Disks>,
    metrics: Arc<Metrics>,
    loads: BTreeMap<u64, DiskLoad>,
    /// Errors of device and checksums by disk since the start: now, and as the leader knows them.
    errors: BTreeMap<u64, (u64, u64)>,
    reported_errors: BTreeMap<u64, (u64, u64)>,
}

impl LoadReport {
    pub(crate) fn new(clock: Arc<dyn Clock>, disks: Arc<Disks>, metrics: Arc<Metrics>) -> Self {
        Self {
            clock,
            disks,
            metrics,
            loads: BTreeMap::new(),
            errors: BTreeMap::new(),
            reported_errors: BTreeMap::new(),
        }
    }

    /// The leader has what was collected last.
    pub(crate) fn acknowledge(&mut self) {
        self.reported_errors.clone_from(&self.errors);
    }

    /// How loaded the disks are, and which of them have answered in time.
    pub(crate) async fn collect(&mut self) -> (Vec<DiskLoad>, BTreeSet<u64>) {
        let deadline = self.clock.now().plus(USAGE_PATIENCE);
        let mut answering = BTreeSet::new();
        // All are asked before the first is waited for.
        let asked: Vec<_> = (self.disks.served().iter())
            .map(|(id, disk)| (*id, disk, disk.runner.usage()))
            .collect();
        for (id, disk, answer) in asked {
            let usage = match answer {
                Ok(answer) => self.clock.until(deadline, answer).await.and_then(Result::ok),
                Err(_) => None,
            };
            let now = self.clock.now();
            let counted = disk.runner.load();
            let load = self.loads.entry(id).or_insert_with(|| DiskLoad {
                disk: id,
                ..DiskLoad::default()
            });
            if let Some(usage) = usage {
                answering.insert(id);
                usage.fill(load, self.reported_errors.get(&id).copied().unwrap_or_default());
                self.errors
                    .insert(id, (usage.0.io_errors, usage.0.checksum_errors));
            }
            if disk.runner.is_closed() {
                load.read_only = true;
                load.reason = "the disk is not served any more".into();
            }
            load.queue = counted.queue.load(Relaxed);
            load.write_p99_us = counted.writes.p99(now).as_micros().min(u128::from(u32::MAX)) as u32;
            self.metrics.disk(load);
        }
        (self.loads.values().cloned().collect(), answering)
    }
}
