//! Housekeeping of the namespace: what expires by log time, and unlinked trees.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_env::Monotonic;
use drystone_proto::command::{Housekeep, Op};
use std::time::Duration;

/// Housekeeping without a reason: sessions and keys expire by log time alone.
const HOUSEKEEP_IDLE: Duration = Duration::from_secs(30);
/// Records that one step of housekeeping touches: some milliseconds of apply.
const HOUSEKEEP_LIMIT: u32 = 1_000;
/// Steps in a row before others get their turn.
const HOUSEKEEP_STEPS: usize = 16;

/// How far housekeeping is.
#[derive(Default)]
pub(super) struct Housekeeping {
    done: Option<Monotonic>,
    /// Applied index after the last housekeeping.
    seen: u64,
}

impl LeaderTask for Housekeeping {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self::default()
    }

    async fn round(&mut self, parts: &TaskParts) {
        let now = parts.clock.now();
        let changed = parts.state.applied().applied() > self.seen;
        let waited = self.done.map(|last| now.since(last));
        if !changed && waited.is_some_and(|waited| waited < HOUSEKEEP_IDLE) {
            return;
        }
        for _ in 0..HOUSEKEEP_STEPS {
            let step = parts
                .raft
                .propose(
                    Op::Housekeep(Housekeep {
                        limit: HOUSEKEEP_LIMIT,
                    }),
                    None,
                )
                .await;
            let Ok(applied) = step else { return };
            self.seen = applied.index;
            if !applied.outcome.more {
                self.done = Some(now);
                return;
            }
        }
        // There is more: the next round goes on.
        self.seen = 0;
    }
}
