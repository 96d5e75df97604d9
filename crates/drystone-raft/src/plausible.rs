//! What comes from a disk or from another member, checked for what raft-rs takes for granted: it panics on what it
//! cannot do with a number or a membership.

use drystone_proto::raft::RaftConfState;
use std::collections::BTreeSet;

/// Above every term and index that a log can reach, with room to count on from what is below.
const BEYOND: u64 = 1 << 62;

/// True if all of them are terms or indexes that a log can reach.
pub(crate) fn numbers(numbers: impl IntoIterator<Item = u64>) -> bool {
    numbers.into_iter().all(|number| number < BEYOND)
}

/// What is wrong with a membership. The empty one is that of a member which waits to be added.
pub(crate) fn membership_fault(conf: &RaftConfState) -> Option<&'static str> {
    if *conf == RaftConfState::default() {
        return None;
    }
    let all = [
        &conf.voters,
        &conf.learners,
        &conf.voters_outgoing,
        &conf.learners_next,
    ];
    let [voters, learners, outgoing, next] = all.map(|ids| ids.iter().copied().collect::<BTreeSet<u64>>());
    let distinct = voters.len() + learners.len() + outgoing.len() + next.len();
    if distinct != all.iter().map(|ids| ids.len()).sum::<usize>() {
        Some("a member is named twice")
    } else if all.iter().any(|ids| ids.contains(&0)) {
        Some("a member has id 0")
    } else if voters.is_empty() {
        Some("there are no voters")
    } else if !learners.is_disjoint(&voters) || !learners.is_disjoint(&outgoing) {
        Some("a voter is a learner")
    } else if !next.is_subset(&outgoing) || !next.is_disjoint(&voters) {
        Some("a learner to be does not leave the voters")
    } else if outgoing.is_empty() && conf.auto_leave {
        Some("there is nothing to leave")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(
        voters: &[u64],
        learners: &[u64],
        outgoing: &[u64],
        next: &[u64],
        auto_leave: bool,
    ) -> RaftConfState {
        RaftConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            learners_next: next.to_vec(),
            auto_leave,
        }
    }

    #[test]
    fn memberships_that_raft_knows_have_no_fault() {
        for good in [
            conf(&[], &[], &[], &[], false),
            conf(&[1], &[], &[], &[], false),
            conf(&[1, 2, 3], &[4], &[], &[], false),
            conf(&[1, 2], &[5], &[2, 3, 4], &[3], true),
        ] {
            assert_eq!(membership_fault(&good), None, "{good:?}");
        }
    }

    #[test]
    fn memberships_that_raft_panics_on_have_one() {
        for bad in [
            conf(&[1, 1], &[], &[], &[], false),
            conf(&[0, 1], &[], &[], &[], false),
            conf(&[], &[1], &[], &[], false),
            conf(&[1], &[1], &[], &[], false),
            conf(&[1], &[2], &[2], &[], false),
            conf(&[1, 2], &[], &[2], &[2], false),
            conf(&[1], &[], &[], &[2], false),
            conf(&[1], &[], &[], &[], true),
        ] {
            assert!(membership_fault(&bad).is_some(), "{bad:?}");
        }
    }
}
