//! How many voters must hold inline content, and in how many failure domains they are.

use crate::membership::domains::Domains;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::record::PolicyRecord;
use drystone_rpc::refusal;
use drystone_types::{Code, NodeId, Policy};

/// A policy record of the wire, checked.
pub(crate) fn policy_of(record: &PolicyRecord) -> Result<Policy, ErrorReply> {
    let policy = record.checked();
    policy.map_err(|error| refusal(Code::Invalid, error.to_string()))
}

/// Domains whose voters must have an inline write synced, with `live` of them answering; `None`: too few live ones.
pub(crate) fn inline_voters(policy: &Policy, live: u32) -> Option<u32> {
    (live >= policy.minimum()).then(|| policy.ack.required(policy.replicas).min(live).max(1))
}

/// Which voters fail together.
pub(crate) fn voter_domains(raft: &RaftHandle, state: &StateReader) -> Domains {
    let voters = raft.borrow_view().conf.voters.clone();
    let state = state.read();
    Domains::new(&voters, |voter| state.node(NodeId(voter)))
}

/// Failure domains in which a voter answered this leader lately.
pub(crate) fn live_domains(raft: &RaftHandle, state: &StateReader) -> u32 {
    voter_domains(raft, state).count(raft.borrow_view().live_voters())
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_types::AckPolicy;

    #[test]
    fn inline_content_needs_the_voters_that_its_policy_asks_for() {
        let policy = Policy::default();
        assert_eq!(inline_voters(&policy, 3), Some(3));
        assert_eq!(inline_voters(&policy, 5), Some(3));
        assert_eq!(inline_voters(&policy, 2), None);
        let degraded = Policy {
            degraded_minimum: 2,
            ..policy
        };
        assert_eq!(inline_voters(&degraded, 2), Some(2));
        assert_eq!(inline_voters(&degraded, 1), None);
        let one = Policy {
            ack: AckPolicy::One,
            replicas: 1,
            ..policy
        };
        assert_eq!(inline_voters(&one, 1), Some(1));
    }
}
