use super::*;
use crate::leader::rig::Rig;
use drystone_proto::command::Op;
use drystone_proto::record::{ChunkRecord, PlacedReplica, PlacementState, ReplicaRecord};
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test]
async fn a_proposal_that_is_never_answered_delays_no_other_task() {
    let mut rig = Rig::new();
    let chunk = ChunkRecord {
        id: 5,
        replicas: vec![PlacedReplica::new(
            ReplicaRecord::default(),
            PlacementState::Verified,
        )],
        ..ChunkRecord::default()
    };
    // Its disk is gone: there is a deletion to log from the beginning.
    let leader = Arc::clone(&rig.parts.leader);
    leader.with(|office| office.reclaim.doom(&[chunk], |_, _| false));
    let clock = Arc::clone(&rig.parts.clock);
    start(&rig.lifecycle, Arc::clone(&rig.parts));
    let (mut unanswered, mut proposed) = (Vec::new(), BTreeSet::new());
    while proposed.len() < 2 {
        let patience = clock.now().plus(Duration::from_secs(20));
        let proposal = clock.until(patience, rig.proposal()).await;
        let (op, reply) = proposal.expect("another task proposes");
        unanswered.push(reply);
        proposed.insert(match op {
            Op::ForgetReplicas(_) => "forget",
            Op::Housekeep(_) => "housekeep",
            other => panic!("nothing else is due: {other:?}"),
        });
    }
    rig.lifecycle.stop();
}
