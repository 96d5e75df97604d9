//! Which replicas the heartbeat reports, and their state.

use crate::changes::{ChangeBatch, ChangeLog, Name, SWEEP};
use crate::disk::disks::Disks;
use crate::metrics::Metrics;
use drystone_env::{Clock, Env, Monotonic};
use drystone_proto::data::{ChunkStatus, ReplicaState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Replicas whose disk does not answer by then are reported with a later heartbeat.
const STATUS_PATIENCE: Duration = Duration::from_millis(300);
/// The first registration waits this long for the disks to be looked through; that goes on beside it.
const FIND_PATIENCE: Duration = Duration::from_secs(1);
/// Replicas that a disk is asked for at once while it is looked through.
const FIND_PAGE: u32 = 10_000;

/// See the module.
pub(crate) struct ReplicaReport {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disks: Arc<Disks>,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) metrics: Arc<Metrics>,
}

impl ReplicaReport {
    /// Finds the replicas that are not sealed, which are reported first: at the same time on all disks,
    /// and beside the heartbeats where it takes long.
    pub(crate) async fn find_open(&self, env: &Env) {
        let clock = &self.clock;
        let deadline = clock.now().plus(FIND_PATIENCE);
        let disks: Vec<u64> = self.disks.served().keys().copied().collect();
        let ends: Vec<_> = disks
            .into_iter()
            .map(|disk| {
                let (ended, end) = oneshot::channel::<()>();
                let (disks, changes) = (Arc::clone(&self.disks), Arc::clone(&self.changes));
                let find = async move {
                    find_open_on(&disks, &changes, disk).await;
                    drop(ended);
                };
                env.spawn.spawn("chunk-find-open", Box::pin(find));
                end
            })
            .collect();
        for end in ends {
            let _ = clock.until(deadline, end).await;
        }
    }

    /// The state of the replicas of this batch and of some others in turn, those to report again, and where the sweep
    /// goes on once this is acknowledged. Only disks that are `answering` are asked: questions would pile up in the
    /// others.
    pub(crate) async fn collect(
        &self,
        batch: &ChangeBatch,
        answering: &BTreeSet<u64>,
    ) -> (Vec<ChunkStatus>, BTreeSet<Name>, Name) {
        let clock = &self.clock;
        let deadline = clock.now().plus(STATUS_PATIENCE);
        let mut open = BTreeSet::new();
        let mut asked = Vec::with_capacity(batch.names.len());
        for ((disk, chunk), _) in &batch.names {
            if !answering.contains(disk) {
                open.insert((*disk, *chunk));
            } else if let Ok(runner) = self.disks.by_id(*disk) {
                asked.push(((*disk, *chunk), runner.status(*chunk)));
            }
        }
        let mut statuses = Vec::with_capacity(asked.len());
        for (name, answer) in asked {
            match clock.until(deadline, answer).await {
                Some(Ok(status)) if status.state != ReplicaState::Absent as i32 => {
                    if status.state != ReplicaState::Sealed as i32 {
                        open.insert(name);
                    }
                    statuses.push(status);
                }
                Some(Ok(_)) => {}
                // The disk is busy or gone: again with the next heartbeat.
                Some(Err(_)) | None => {
                    open.insert(name);
                }
            }
        }
        let (swept, sweep) = self.sweep(answering, deadline).await;
        statuses.extend(swept);
        self.show_open(&statuses);
        (statuses, open, sweep)
    }

    fn show_open(&self, statuses: &[ChunkStatus]) {
        let is_open = |status: &&ChunkStatus| status.state != ReplicaState::Sealed as i32;
        let received = statuses.iter().filter(is_open).map(|status| status.received);
        let sum = received.fold(0u64, u64::saturating_add);
        self.metrics.open.set(i64::try_from(sum).unwrap_or(i64::MAX));
    }

    /// The next replicas of the slow sweep over all disks, and where it goes on. Those that are not sealed are noted
    /// for the next time: after a start that is how they are found.
    async fn sweep(&self, answering: &BTreeSet<u64>, deadline: Monotonic) -> (Vec<ChunkStatus>, Name) {
        let (disk, after) = self.changes.lock().sweep();
        let served = self.disks.served();
        let Some((&disk, entry)) = served.range(disk..).next().or_else(|| served.first_key_value()) else {
            return (Vec::new(), (0, 0));
        };
        let next_disk = (disk.wrapping_add(1), 0);
        let listed = if answering.contains(&disk) {
            let list = entry.runner.list(after, SWEEP as u32);
            self.clock.until(deadline, list).await
        } else {
            None
        };
        let Some(Ok((chunks, more))) = listed else {
            return (Vec::new(), next_disk);
        };
        let next = match chunks.last() {
            Some(last) if more => (disk, last.chunk),
            _ => next_disk,
        };
        let mut changes = self.changes.lock();
        for status in chunks
            .iter()
            .filter(|status| status.state != ReplicaState::Sealed as i32)
        {
            changes.note((disk, status.chunk));
        }
        let sealed = chunks
            .into_iter()
            .filter(|status| status.state == ReplicaState::Sealed as i32);
        (sealed.collect(), next)
    }
}

async fn find_open_on(disks: &Disks, changes: &ChangeLog, disk: u64) {
    let Ok(runner) = disks.by_id(disk) else { return };
    let mut after = 0;
    while let Ok((chunks, more)) = runner.list(after, FIND_PAGE).await {
        let mut changes = changes.lock();
        for status in chunks
            .iter()
            .filter(|status| status.state != ReplicaState::Sealed as i32)
        {
            changes.note((disk, status.chunk));
        }
        match chunks.last() {
            Some(last) if more => after = last.chunk,
            _ => break,
        }
    }
}
