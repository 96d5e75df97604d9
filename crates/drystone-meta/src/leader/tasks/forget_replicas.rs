//! Logs that replicas of doomed chunks are gone.

use super::parts::TaskParts;
use drystone_proto::command::{ForgetReplicas, Op};

/// Deletions logged with one entry.
const FORGET: usize = 4_096;

/// Logs confirmed deletions.
pub(super) async fn forget(parts: &TaskParts) {
    let replicas = parts
        .leader
        .with(|office| office.reclaim.to_log(FORGET))
        .unwrap_or_default();
    if replicas.is_empty() {
        return;
    }
    let command = ForgetReplicas {
        replicas: replicas.clone(),
    };
    if parts
        .raft
        .propose(Op::ForgetReplicas(command), None)
        .await
        .is_ok()
    {
        parts.leader.with(|office| office.reclaim.logged(&replicas));
    }
}
