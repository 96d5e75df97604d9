//! Raises the grant floor as chunk ids grow old.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_proto::command::{Op, RaiseGrantFloor};
use std::time::Duration;

/// See the module.
pub(super) struct GrantFloor;

impl LeaderTask for GrantFloor {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self
    }

    async fn round(&mut self, parts: &TaskParts) {
        let now = parts.clock.now();
        let age = parts.config.grant_age;
        let floor = parts
            .leader
            .with(|office| office.ranges.floor(now, age))
            .flatten();
        let Some(floor) = floor else { return };
        if floor > parts.state.read().grant_floor().0
            && parts
                .raft
                .propose(Op::RaiseGrantFloor(RaiseGrantFloor { floor }), None)
                .await
                .is_err()
        {
            return;
        }
        parts.leader.with(|office| office.ranges.raised(floor));
    }
}
