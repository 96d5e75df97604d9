//! An office begins: the soft state of the term, and the first command of a cluster.

use super::ask_reports::ask_reports;
use super::parts::TaskParts;
use drystone_proto::command::{Initialize, Op};
use drystone_proto::record::PolicyRecord;
use std::sync::Arc;

/// Begins each office of this server, and says so.
pub(super) async fn hold_offices(parts: Arc<TaskParts>) {
    let mut watch = parts.raft.watch();
    loop {
        let Ok(term) = watch
            .wait_for(|view| view.office.is_some())
            .await
            .map(|view| view.office)
        else {
            return;
        };
        tracing::info!(node = %parts.me, term = term.unwrap_or(0), "leading");
        parts.metrics.leading.set(1);
        // The ids of earlier leaders begin to age now.
        parts.leader.with(|_| ());
        ask_reports(&parts, term.unwrap_or(0));
        initialize(&parts).await;
        let ended = watch.wait_for(|view| view.office != term).await;
        parts.metrics.leading.set(0);
        parts.metrics.redundancy_known.set(0);
        if ended.is_err() {
            return;
        }
    }
}

/// Makes the root, with the policy and the owner that are configured here, unless a leader has done so.
async fn initialize(parts: &TaskParts) {
    if parts.state.read().initialized() {
        return;
    }
    let policy = parts.config.policy.policy();
    let policy = PolicyRecord::from(&policy);
    let initialize = Initialize {
        policy: Some(policy),
        owner: parts.config.owner.clone(),
        mode: 0,
    };
    if let Err(reason) = parts.raft.propose(Op::Initialize(initialize), None).await {
        tracing::warn!(
            ?reason,
            "the first command was dropped; the next leader proposes it"
        );
    }
}
