//! Metadata servers introduce themselves: members tell their address, joiners become learners.

use super::members::Members;
use super::processes::{AddressChange, NotRegistered};
use crate::leader::office::Leader;
use crate::message::{Applied, RaftView};
use crate::raft::handle::RaftHandle;
use crate::service::refused::{Refused, busy};
use crate::state::cell::StateReader;
use drystone_env::Clock;
use drystone_env::planted::{Bug, planted};
use drystone_proto::Message;
use drystone_proto::cluster::{Join, JoinReply, Member};
use drystone_proto::command::{Op, RegisterNode, UpdateNode};
use drystone_proto::raft::{ConfChange, ConfChangeStep};
use drystone_proto::record::{NodeRecord, role};
use drystone_raft::DropReason;
use drystone_rpc::{Request, refusal};
use drystone_types::{Code, NodeId};
use std::sync::Arc;

/// [`ConfChangeStep`] kinds.
pub(crate) const ADD_VOTER: u32 = 0;
pub(crate) const REMOVE: u32 = 1;
const ADD_LEARNER: u32 = 2;

/// A learner this far behind the leader may become a voter: it catches up within a second.
const PROMOTE_LAG: u64 = 10_000;

/// The members as this server knows them.
pub(crate) fn list_members(raft: &RaftHandle, state: &StateReader, members: &Members) -> Vec<Member> {
    let view = raft.view();
    let state = state.read();
    let member = |id: u64| {
        let node = state.node(NodeId(id));
        let progress = view.members.iter().find(|member| member.id.0 == id);
        let address = members.peers().address(NodeId(id)).unwrap_or_default();
        Member {
            node: id,
            address: node.map_or(address, |node| node.address.clone()),
            voter: view.conf.voters.contains(&id),
            matched: progress.map_or(0, |member| member.matched.0),
            alive: progress.is_some_and(|member| member.recent_active),
            name: node.map_or_else(String::new, |node| node.name.clone()),
            fenced: node.is_some_and(|node| node.fenced),
        }
    };
    view.member_ids().into_iter().map(member).collect()
}

/// What the learner `node` has; an error with that if it is too far behind to become a voter.
pub(crate) fn caught_up(view: &RaftView, node: u64, applied: u64) -> Result<(), u64> {
    let member = view.members.iter().find(|member| member.id.0 == node);
    let matched = member
        .filter(|member| member.recent_active)
        .map_or(0, |member| member.matched.0);
    match matched == 0 || matched + PROMOTE_LAG < applied {
        true => Err(matched),
        false => Ok(()),
    }
}

/// True of a learner that lost its vote by moving and gets it back.
pub(crate) fn awaits_vote(learner: &NodeRecord) -> bool {
    learner.voter && !learner.fenced
}

/// A change by these steps, each a kind and a node, with the record of the one that comes.
pub(crate) fn change(steps: &[(u32, u64)], record: Option<&NodeRecord>) -> ConfChange {
    let step = |&(kind, node): &(u32, u64)| ConfChangeStep { kind, node };
    ConfChange {
        steps: steps.iter().map(step).collect(),
        context: record.map(|node| node.encode_to_vec()).unwrap_or_default().into(),
        transition: 0,
    }
}

/// Takes metadata servers in, and moves votes. One change at a time.
pub(crate) struct Membership {
    clock: Arc<dyn Clock>,
    pub(super) raft: RaftHandle,
    pub(super) state: StateReader,
    leader: Arc<Leader>,
    members: Arc<Members>,
    /// Members come, go and move one after the other. What was on its way when a call was given up still comes.
    pub(super) one_change: tokio::sync::Mutex<()>,
}

impl Membership {
    /// Works while this server leads.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        raft: RaftHandle,
        state: StateReader,
        leader: Arc<Leader>,
        members: Arc<Members>,
    ) -> Self {
        Self {
            clock,
            raft,
            state,
            leader,
            members,
            one_change: tokio::sync::Mutex::default(),
        }
    }

    /// A metadata server asks to be taken in.
    pub(crate) async fn join(&self, join: Join, request: &Request) -> Result<JoinReply, Refused> {
        let node = join
            .node
            .ok_or_else(|| refusal(Code::Invalid, "no node in the request"))?;
        self.clock
            .until(request.deadline, self.admit(node))
            .await
            .unwrap_or(Err(DropReason::Unknown.into()))?;
        Ok(JoinReply {
            members: list_members(&self.raft, &self.state, &self.members),
            records: self.state.metadata_records(),
        })
    }

    /// Registers a metadata server, and adds it as a learner unless it is a member. A voter that is somewhere else than
    /// it was is no member any more before that.
    pub(crate) async fn admit(&self, mut node: NodeRecord) -> Result<(), Refused> {
        if node.roles & role::METADATA == 0 {
            return Err(refusal(Code::Invalid, format!("node {} is no metadata server", node.id)).into());
        }
        let _alone = self.one_change.lock().await;
        let begun = self.leader.with(|office| office.begun);
        let begun = begun.ok_or(Refused::NotLeader)?;
        let known = self.state.read().node(NodeId(node.id)).cloned();
        let place = self.members.admit(&node, begun).map_err(|reason| match reason {
            NotRegistered::PredecessorLives(other) => busy(&other),
            NotRegistered::Superseded(other) => refusal(Code::Stranger, other),
        })?;
        // It is fenced first, and counts until it is replaced: perhaps nothing can be decided without it.
        let is_being_replaced = || {
            let is_fenced = self
                .state
                .read()
                .node(NodeId(node.id))
                .is_some_and(|known| known.fenced);
            is_fenced && self.raft.view().conf.voters.contains(&node.id)
        };
        if is_being_replaced() {
            return Ok(());
        }
        let is_voter = self.raft.view().conf.voters.contains(&node.id);
        let has_moved = place == AddressChange::Moved && !planted(Bug::MovedVoterVotes);
        if has_moved && is_voter && known.is_none() {
            let message = format!(
                "node {} is a voter that nobody has recorded where it was",
                node.id
            );
            return Err(busy(&message).into());
        }
        node.voter = is_voter;
        if let Some(known) = &known {
            (node.since, node.draining) = (known.since, known.draining);
            (node.fenced, node.removing) = (known.fenced, known.removing);
            node.voter |= known.voter;
            if has_moved && known.incarnation == node.incarnation {
                self.remove_moved(node.id).await?;
            }
        }
        if known.as_ref() != Some(&node) {
            let registered = self.record(node.clone()).await?;
            if registered.outcome.code != 0 {
                if is_being_replaced() {
                    return Ok(());
                }
                let code = Code::from_number(registered.outcome.code).unwrap_or(Code::Stranger);
                return Err(refusal(code, registered.outcome.message).into());
            }
        }
        if has_moved {
            // The one before may have asked as well, in a call that was given up: what it acknowledges is not known here.
            self.remove_moved(node.id).await?;
        }
        let conf = self.raft.view().conf;
        if conf.voters.contains(&node.id) || conf.learners.contains(&node.id) {
            return Ok(());
        }
        let recorded = self.state.read().node(NodeId(node.id)).map(|known| known.fenced);
        if recorded != Some(false) {
            let message = format!(
                "node {} was replaced, or fenced: format it anew under a new id",
                node.id
            );
            return Err(refusal(Code::Stranger, message).into());
        }
        let change = change(&[(ADD_LEARNER, node.id)], Some(&node));
        self.raft.propose_conf(change).await?;
        tracing::info!(
            node = node.id,
            address = node.address,
            "metadata server joined as a learner"
        );
        Ok(())
    }

    /// Puts down whether a node has a vote, or had one and is to get it back.
    pub(crate) async fn set_voter(&self, node: u64, voter: bool) -> Result<(), Refused> {
        if self
            .state
            .read()
            .node(NodeId(node))
            .is_none_or(|known| known.voter == voter)
        {
            return Ok(());
        }
        let update = UpdateNode {
            node,
            voter: Some(voter),
            ..UpdateNode::default()
        };
        self.update_node(update).await.map(|_| ())
    }

    pub(crate) async fn record(&self, node: NodeRecord) -> Result<Applied, DropReason> {
        let register = Op::RegisterNode(RegisterNode { node: Some(node) });
        self.raft.propose(register, None).await
    }

    /// A voter that lost its vote by moving gets it back once it has caught up; does nothing if there is none, or if
    /// something else is going on.
    pub(crate) async fn return_vote(&self) {
        let Ok(_alone) = self.one_change.try_lock() else {
            return;
        };
        let (view, applied) = (self.raft.view(), self.state.applied().applied());
        let record = {
            let state = self.state.read();
            let learners = view.conf.learners.iter().filter_map(|id| state.node(NodeId(*id)));
            let mut moved = learners.filter(|node| awaits_vote(node));
            moved
                .find(|node| caught_up(&view, node.id, applied).is_ok())
                .cloned()
        };
        let Some(record) = record else { return };
        let change = change(&[(ADD_VOTER, record.id)], Some(&record));
        if self.raft.propose_conf(change).await.is_ok() {
            tracing::info!(
                node = record.id,
                address = record.address,
                "metadata server that has moved is a voter again"
            );
        }
    }

    /// Removes a member that is silent where it is known to be and speaks somewhere else. Raft trusts a member to
    /// remember its votes and what it acknowledged, and two processes that may forget each other's are two members.
    async fn remove_moved(&self, node: u64) -> Result<(), Refused> {
        let view = self.raft.view();
        let voters = &view.conf.voters;
        let is_voter = voters.contains(&node);
        if !is_voter && !view.conf.learners.contains(&node) {
            return Ok(());
        }
        let others = view.live_voters().filter(|voter| voter.0 != node).count();
        if is_voter && others <= voters.len() / 2 {
            let message =
                format!("node {node} is a voter that has moved: too few others are there to let it in");
            return Err(busy(&message).into());
        }
        // Whoever leads next must know that it had a vote.
        if is_voter {
            self.set_voter(node, true).await?;
        }
        self.raft.propose_conf(change(&[(REMOVE, node)], None)).await?;
        tracing::warn!(
            node,
            is_voter,
            "a member is heard at another address: it begins there as a learner"
        );
        Ok(())
    }

    /// Changes what an operator may change of a node; gives the index of the command, which is applied here.
    ///
    /// # Errors
    /// The refusal of apply, or why it was not proposed.
    pub(crate) async fn update_node(&self, update: UpdateNode) -> Result<u64, Refused> {
        let applied = self.raft.propose(Op::UpdateNode(update), None).await?;
        self.leader.with(|office| office.servers.forget_views());
        match Code::from_number(applied.outcome.code) {
            Some(code) => Err(refusal(code, applied.outcome.message).into()),
            None => Ok(applied.index),
        }
    }
}
