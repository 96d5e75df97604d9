//! Logs that replicas of doomed chunks are gone.

use crate::service::MetaService;
use crate::shared::Shared;
use drystone_proto::command::{ForgetReplicas, Op};
use std::sync::Arc;

/// Deletions logged with one entry.
const FORGET: usize = 4_096;

/// Logs confirmed deletions.
pub(super) async fn forget(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let replicas = service
        .leader
        .with(shared, |office| office.reclaim.to_log(FORGET))
        .unwrap_or_default();
    if replicas.is_empty() {
        return;
    }
    let command = ForgetReplicas {
        replicas: replicas.clone(),
    };
    if shared.propose(Op::ForgetReplicas(command), None).await.is_ok() {
        service
            .leader
            .with(shared, |office| office.reclaim.logged(&replicas));
    }
}
