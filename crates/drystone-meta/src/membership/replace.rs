//! A voter is replaced by a learner that has caught up; a learner is taken out.

use super::join::{ADD_VOTER, Membership, REMOVE, awaits_vote, caught_up, change};
use crate::service::refused::Refused;
use drystone_proto::cluster::RaftReplace;
use drystone_proto::command::UpdateNode;
use drystone_proto::record::{NodeRecord, role};
use drystone_raft::DropReason;
use drystone_rpc::refusal;
use drystone_types::{Code, NodeId};

impl Membership {
    /// Makes the learner `new` a voter in the place of `old`, which is fenced and gets no vote back.
    ///
    /// # Errors
    /// Nothing was changed, or the answer is unknown; the same request may be sent again.
    pub(crate) async fn replace(&self, replace: RaftReplace) -> Result<(), Refused> {
        let _alone = self.one_change.lock().await;
        let view = self.raft.view();
        let refuse = |code: Code, message: String| Err(Refused::Error(refusal(code, message)));
        let old = self.state.node(NodeId(replace.old));
        // One that has moved is no member for a moment, then a learner, and may not come to be more.
        let was_voter = old.as_ref().is_some_and(|node| node.voter);
        let is_voter = view.conf.voters.contains(&replace.old);
        let is_learner = view.conf.learners.contains(&replace.old);
        if !is_voter && !was_voter {
            // The same request again, when it is done.
            let is_retired = old.is_some_and(|node| node.roles & role::METADATA != 0 && node.fenced);
            if is_retired && view.conf.voters.contains(&replace.new) {
                return Ok(());
            }
            let message = match is_learner {
                true => "is a learner and has no vote to give: `admin raft remove` takes it out",
                false => "is no voter and has no vote to give",
            };
            return refuse(Code::NotFound, format!("node {} {message}", replace.old));
        }
        if view.conf.voters.contains(&replace.new) && !is_voter && !is_learner {
            return self.retire(replace.old).await;
        }
        if !view.conf.learners.contains(&replace.new) {
            return refuse(
                Code::NotFound,
                format!("node {} is no learner: it must join first", replace.new),
            );
        }
        let applied = self.state.applied().applied();
        if let Err(matched) = caught_up(&view, replace.new, applied) {
            return refuse(
                Code::Unavailable,
                format!(
                    "learner {} has {matched} of {applied} entries: try again when it has caught up",
                    replace.new
                ),
            );
        }
        let mut steps = vec![(ADD_VOTER, replace.new)];
        if is_voter || is_learner {
            steps.push((REMOVE, replace.old));
        }
        let change = change(&steps, self.state.read().node(NodeId(replace.new)));
        // First: once it is no member it would ask to be one again, and might be let in before it is fenced.
        self.fence(replace.old).await?;
        self.raft.propose_conf(change).await?;
        // Until the joint configuration is left, the old majority is needed too.
        let mut view = self.raft.watch();
        let left = view.wait_for(|view| view.conf.voters_outgoing.is_empty() || view.office.is_none());
        if left.await.map_or(true, |view| view.office.is_none()) {
            return Err(DropReason::Unknown.into());
        }
        self.retire(replace.old).await?;
        tracing::info!(old = replace.old, new = replace.new, "voter replaced");
        Ok(())
    }

    /// Lets the learner `node` be a member no more. It is fenced and does not come back under its id.
    ///
    /// # Errors
    /// As [`Membership::replace`].
    pub(crate) async fn remove_learner(&self, node: u64) -> Result<(), Refused> {
        let _alone = self.one_change.lock().await;
        let view = self.raft.view();
        let known = self.state.node(NodeId(node));
        let refuse = |code: Code, message: String| Err(Refused::Error(refusal(code, message)));
        let is_voter = view.conf.voters.contains(&node) || view.conf.voters_outgoing.contains(&node);
        if is_voter || known.as_ref().is_some_and(awaits_vote) {
            let message = format!("node {node} is a voter: replace it with `admin raft replace {node} NEW`");
            return refuse(Code::Invalid, message);
        }
        if !view.conf.learners.contains(&node) {
            // The same request again, when it is done.
            return match known.is_some_and(|node| node.roles & role::METADATA != 0 && node.fenced) {
                true => Ok(()),
                false => refuse(Code::NotFound, format!("node {node} is no learner")),
            };
        }
        // First, as above.
        self.fence(node).await?;
        self.raft.propose_conf(change(&[(REMOVE, node)], None)).await?;
        tracing::info!(node, "an operator took a learner out");
        Ok(())
    }

    /// A voter that was replaced has no vote to get back.
    async fn retire(&self, node: u64) -> Result<(), Refused> {
        self.fence(node).await?;
        self.set_voter(node, false).await
    }

    /// A voter that is replaced is fenced, so that it cannot introduce itself again as a learner. One that has not told
    /// of itself yet is recorded for that, as an incarnation that nobody has.
    async fn fence(&self, node: u64) -> Result<(), Refused> {
        let known = self.state.read().node(NodeId(node)).map(|known| known.fenced);
        if known == Some(true) {
            return Ok(());
        }
        if known.is_none() {
            let nobody = NodeRecord {
                id: node,
                incarnation: u64::MAX,
                roles: role::METADATA,
                ..NodeRecord::default()
            };
            self.record(nobody).await?;
        }
        let update = UpdateNode {
            node,
            fenced: Some(true),
            ..UpdateNode::default()
        };
        self.update_node(update).await.map(|_| ())
    }
}
