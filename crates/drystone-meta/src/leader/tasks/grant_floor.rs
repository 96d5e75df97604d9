//! Raises the grant floor as chunk ids grow old.

use super::parts::TaskParts;
use drystone_proto::command::{Op, RaiseGrantFloor};

/// Proposes the floor that may be proposed now, if it is higher.
pub(super) async fn raise_floor(parts: &TaskParts) {
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
