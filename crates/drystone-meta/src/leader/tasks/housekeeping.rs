//! Housekeeping of the namespace: what expires by log time, and unlinked trees.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_env::Monotonic;
use drystone_proto::command::{Housekeep, Op};
use std::time::Duration;

/// Housekeeping without a reason: sessions and keys expire by log time alone.
const HOUSEKEEP_IDLE: Duration = Duration::from_secs(30);
/// How long applying a step may hold the state. Every voter applies it, and a voter that was away applies all that
/// came meanwhile before it can lead: so steps are short, and there is a rest between them. The time for logging it and
/// for what is applied before it does not count: on a slow disk it would make steps ever smaller.
const STEP_TIME: Duration = Duration::from_millis(10);
/// Records that one step touches: as many as are applied within [`STEP_TIME`], within these bounds.
const LIMITS: (u32, u32) = (64, 1_024);
/// What the first step of a leader touches.
const FIRST_LIMIT: u32 = 256;
/// The rest after a step, in parts of what it took: housekeeping takes a quarter of the time of apply at most.
const REST: u32 = 3;
/// Steps in a row before others get their turn.
const HOUSEKEEP_STEPS: usize = 16;

/// How far housekeeping is.
pub(super) struct Housekeeping {
    done: Option<Monotonic>,
    /// Records that the next step touches.
    limit: u32,
    /// Applied index after the last housekeeping.
    seen: u64,
}

impl LeaderTask for Housekeeping {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self {
            done: None,
            limit: FIRST_LIMIT,
            seen: 0,
        }
    }

    async fn round(&mut self, parts: &TaskParts) {
        let now = parts.clock.now();
        let changed = parts.state.applied().applied() > self.seen;
        let waited = self.done.map(|last| now.since(last));
        if !changed && waited.is_some_and(|waited| waited < HOUSEKEEP_IDLE) {
            return;
        }
        for _ in 0..HOUSEKEEP_STEPS {
            let limit = self.limit;
            let step = parts.raft.propose(Op::Housekeep(Housekeep { limit }), None);
            let Ok(applied) = step.await else { return };
            self.limit = next_limit(limit, applied.took);
            self.seen = applied.index;
            if !applied.outcome.more {
                self.done = Some(now);
                return;
            }
            parts.clock.sleep(applied.took.min(STEP_TIME * 10) * REST).await;
        }
        // There is more: the next round goes on.
        self.seen = 0;
    }
}

/// How many records the next step touches, after one of `limit` took so long.
fn next_limit(limit: u32, took: Duration) -> u32 {
    let next = match took {
        took if took > STEP_TIME * 2 => limit / 2,
        took if took < STEP_TIME => limit * 2,
        _ => limit,
    };
    next.clamp(LIMITS.0, LIMITS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_shrink_while_they_are_slow_and_grow_while_they_are_fast() {
        let (slow, fair, fast) = (STEP_TIME * 3, STEP_TIME * 2, STEP_TIME / 2);
        assert_eq!(next_limit(1_024, slow), 512);
        assert_eq!(next_limit(64, slow), 64);
        assert_eq!(next_limit(512, fair), 512);
        assert_eq!(next_limit(512, fast), 1_024);
        assert_eq!(next_limit(1_024, fast), 1_024);
    }
}
