//! The first command of a cluster.

use super::parts::TaskParts;
use drystone_proto::command::{Initialize, Op};
use drystone_proto::record::PolicyRecord;

/// Makes the root, with the policy and the owner that are configured here, unless a leader has done so.
pub(super) async fn initialize(parts: &TaskParts) {
    if parts.state.read().initialized() {
        return;
    }
    let policy = parts.config.policy.policy();
    let policy = PolicyRecord {
        replicas: policy.replicas,
        ack: policy.ack.number(),
        degraded_minimum: policy.degraded_minimum,
        chunk_bytes: policy.chunk_bytes.0,
    };
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
