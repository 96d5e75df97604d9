//! Doomed chunks become orders to delete their replicas.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_env::Monotonic;
use drystone_namespace::NamespaceView;
use drystone_types::{ChunkId, DiskId, DiskRef, Incarnation};
use std::time::Duration;

/// Doomed chunks read per round.
const DOOMED: usize = 16_384;

/// How far doomed chunks have been read.
pub(super) struct DoomedChunks {
    after: u64,
    /// Log time when it was last seen to change, and when that was.
    log_time: (u64, Monotonic),
}

impl LeaderTask for DoomedChunks {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(parts: &TaskParts) -> Self {
        Self {
            after: 0,
            log_time: (0, parts.clock.now()),
        }
    }

    async fn round(&mut self, parts: &TaskParts) {
        self.step(parts).await;
    }
}

impl DoomedChunks {
    /// Reads the next ones, and orders what is due.
    async fn step(&mut self, parts: &TaskParts) {
        let grace = parts.config.doomed_grace.as_micros() as u64;
        if parts.state.read().counters().doomed == 0 {
            self.after = 0;
            return;
        }
        // From a view: these are thousands of look-ups.
        let after = self.after;
        let read = move |view: NamespaceView| (view.doomed(ChunkId(after), DOOMED), view);
        let read = parts.readers.read(&parts.state, read).await;
        let Ok((Ok(mut chunks), state)) = read else { return };
        self.after = if chunks.len() < DOOMED {
            0
        } else {
            chunks.last().map_or(0, |chunk| chunk.id)
        };
        // Log time goes on between entries, by the leader's clock: this is that clock or a little behind it.
        let now = parts.clock.now();
        if self.log_time.0 != state.log_time() {
            self.log_time = (state.log_time(), now);
        }
        let (last, seen) = self.log_time;
        let time = last.saturating_add(now.since(seen).as_micros() as u64);
        // Reads that began before it was doomed may end.
        chunks.retain(|chunk| chunk.doomed_at.saturating_add(grace) <= time);
        let held = |disk: u64, incarnation: u64| {
            let disk = DiskRef {
                disk: DiskId(disk),
                incarnation: Incarnation(incarnation),
            };
            state.node_of_disk(disk).is_some()
        };
        parts.leader.with(|office| office.reclaim.doom(&chunks, held));
    }
}
