//! Counts how much redundancy there is.

use super::Rounds;
use crate::leader::health::Health;
use crate::service::MetaService;
use crate::shared::Shared;
use std::sync::Arc;

/// Chunk records looked at under one lock.
const SLICE: usize = 1_000;
/// Up to this many chunks every round counts redundancy anew; beyond, every tenth of a million costs one more.
const SCAN_EACH_ROUND: u64 = 100_000;

#[derive(Default)]
pub(super) struct Scan {
    after: u64,
    health: Health,
}

impl Rounds {
    /// Goes on with the count of redundancy; a small namespace is counted whole each round.
    pub(super) fn scan(&mut self, shared: &Arc<Shared>, service: &Arc<MetaService>) {
        let now = shared.env.clock.now();
        let live = {
            let state = shared.read();
            service.leader.with(shared, |office| {
                office
                    .servers
                    .live_disks(state.nodes(), now, office.begun, &shared.config)
            })
        };
        let Some(live) = live else { return };
        for _ in 0..SCAN_EACH_ROUND / SLICE as u64 {
            let Ok(chunks) = shared.read().chunks(self.scan.after, SLICE) else {
                return;
            };
            chunks
                .iter()
                .for_each(|chunk| self.scan.health.count(chunk, &live));
            match chunks.last() {
                Some(last) if chunks.len() == SLICE => self.scan.after = last.id,
                _ => {
                    let health = std::mem::take(&mut self.scan).health;
                    shared
                        .metrics
                        .chunks_under_redundant
                        .set(health.under_redundant as i64);
                    shared.metrics.exposure_bytes.set(health.exposure_bytes as i64);
                    service.leader.with(shared, |office| office.health = health);
                    return;
                }
            }
        }
    }
}
