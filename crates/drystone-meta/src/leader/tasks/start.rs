//! The background tasks of a leader are started.

use super::doomed_chunks::DoomedChunks;
use super::forget_replicas::ForgetReplicas;
use super::grant_floor::GrantFloor;
use super::housekeeping::Housekeeping;
use super::office::hold_offices;
use super::parts::TaskParts;
use super::redundancy::Redundancy;
use super::return_votes::ReturnVotes;
use super::task::run;
use crate::lifecycle::Lifecycle;
use std::sync::Arc;

/// Starts the tasks; they end with the server.
pub(crate) fn start(lifecycle: &Lifecycle, parts: Arc<TaskParts>) {
    let parts = || Arc::clone(&parts);
    lifecycle.spawn("meta-office", hold_offices(parts()));
    lifecycle.spawn("meta-return-votes", run::<ReturnVotes>(parts()));
    lifecycle.spawn("meta-grant-floor", run::<GrantFloor>(parts()));
    lifecycle.spawn("meta-forget-replicas", run::<ForgetReplicas>(parts()));
    lifecycle.spawn("meta-housekeeping", run::<Housekeeping>(parts()));
    lifecycle.spawn("meta-doomed-chunks", run::<DoomedChunks>(parts()));
    lifecycle.spawn("meta-redundancy", run::<Redundancy>(parts()));
}

#[cfg(test)]
mod tests;
