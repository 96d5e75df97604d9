//! Doomed chunks become orders to delete their replicas.

use super::Rounds;
use crate::service::MetaService;
use crate::shared::Shared;
use std::sync::Arc;

/// Doomed chunks read per round.
const DOOMED: usize = 16_384;

impl Rounds {
    pub(super) fn doomed(&mut self, shared: &Arc<Shared>, service: &Arc<MetaService>) {
        let grace = shared.config.doomed_grace.as_micros() as u64;
        let state = shared.read();
        if state.counters().doomed == 0 {
            self.doomed_after = 0;
            return;
        }
        let Ok(mut chunks) = state.doomed(self.doomed_after, DOOMED) else {
            return;
        };
        self.doomed_after = if chunks.len() < DOOMED {
            0
        } else {
            chunks.last().map_or(0, |chunk| chunk.id)
        };
        // Log time goes on between entries, by the leader's clock: this is that clock or a little behind it.
        let now = shared.env.clock.now();
        if self.log_time.0 != state.log_time() {
            self.log_time = (state.log_time(), now);
        }
        let (last, seen) = self.log_time;
        let time = last.saturating_add(now.since(seen).as_micros() as u64);
        // Reads that began before it was doomed may end.
        chunks.retain(|chunk| chunk.doomed_at.saturating_add(grace) <= time);
        let held = |disk: u64, incarnation: u64| {
            let disk = drystone_types::DiskRef {
                disk: drystone_types::DiskId(disk),
                incarnation: drystone_types::Incarnation(incarnation),
            };
            state.node_of_disk(disk).is_some()
        };
        service
            .leader
            .with(shared, |office| office.reclaim.doom(&chunks, held));
    }
}
