//! Raises the grant floor as chunk ids grow old.

use crate::service::MetaService;
use crate::shared::Shared;
use drystone_proto::command::{Op, RaiseGrantFloor};
use std::sync::Arc;

/// Proposes the floor that may be proposed now, if it is higher.
pub(super) async fn raise_floor(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let now = shared.env.clock.now();
    let age = shared.config.grant_age;
    let floor = service
        .leader
        .with(shared, |office| office.ranges.floor(now, age))
        .flatten();
    let Some(floor) = floor else { return };
    if floor > shared.read().grant_floor().0
        && shared
            .propose(Op::RaiseGrantFloor(RaiseGrantFloor { floor }), None)
            .await
            .is_err()
    {
        return;
    }
    service.leader.with(shared, |office| office.ranges.raised(floor));
}
