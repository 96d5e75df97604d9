//! Counts how much redundancy there is.

use super::parts::TaskParts;
use crate::leader::health::Health;

/// Chunk records looked at under one lock.
const SLICE: usize = 1_000;
/// Up to this many chunks every round counts redundancy anew; beyond, every tenth of a million costs one more.
const SCAN_EACH_ROUND: u64 = 100_000;

#[derive(Default)]
/// How far the scan is, and what it has counted.
pub(super) struct RedundancyScan {
    after: u64,
    health: Health,
}

impl RedundancyScan {
    /// Goes on with the count of redundancy; a small namespace is counted whole each round.
    pub(super) fn step(&mut self, parts: &TaskParts) {
        let now = parts.clock.now();
        let live = {
            let state = parts.state.read();
            parts.leader.with(|office| {
                office
                    .servers
                    .live_disks(state.nodes(), now, office.begun, &parts.config)
            })
        };
        let Some(live) = live else { return };
        for _ in 0..SCAN_EACH_ROUND / SLICE as u64 {
            let Ok(chunks) = parts.state.read().chunks(self.after, SLICE) else {
                return;
            };
            chunks.iter().for_each(|chunk| self.health.count(chunk, &live));
            match chunks.last() {
                Some(last) if chunks.len() == SLICE => self.after = last.id,
                _ => {
                    let health = std::mem::take(self).health;
                    parts
                        .metrics
                        .chunks_under_redundant
                        .set(health.under_redundant as i64);
                    parts.metrics.exposure_bytes.set(health.exposure_bytes as i64);
                    parts.leader.with(|office| office.health = health);
                    return;
                }
            }
        }
    }
}
