//! Logs that replicas of doomed chunks are gone.

use super::parts::TaskParts;
use super::task::LeaderTask;
use drystone_proto::command::{self, Op};
use std::time::Duration;

/// Deletions logged with one entry.
const FORGET: usize = 4_096;

/// See the module.
pub(super) struct ForgetReplicas;

impl LeaderTask for ForgetReplicas {
    const PAUSE: Duration = Duration::from_millis(500);

    fn begin(_: &TaskParts) -> Self {
        Self
    }

    async fn round(&mut self, parts: &TaskParts) {
        let replicas = parts
            .leader
            .with(|office| office.reclaim.to_log(FORGET))
            .unwrap_or_default();
        if replicas.is_empty() {
            return;
        }
        let command = command::ForgetReplicas {
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
}
