//! Metadata servers introduce themselves: members tell their address, joiners become learners.

use super::{MetaService, Refused, busy};
use crate::processes::NotNow;
use crate::shared::Shared;
use drystone_proto::Message;
use drystone_proto::cluster::{Join, JoinReply, Member};
use drystone_proto::command::{Op, RegisterNode};
use drystone_proto::raft::{ConfChange, ConfChangeStep};
use drystone_proto::record::{NodeRecord, role};
use drystone_raft::DropReason;
use drystone_rpc::{Request, refusal};
use drystone_types::{Code, NodeId};
use std::sync::Arc;

/// [`ConfChangeStep`] kinds.
pub(super) const ADD_VOTER: u32 = 0;
pub(super) const REMOVE: u32 = 1;
const ADD_LEARNER: u32 = 2;

/// This server as a node of the cluster.
pub(crate) fn own_record(shared: &Shared) -> NodeRecord {
    let (identity, config) = (&shared.identity, &shared.config);
    NodeRecord {
        id: identity.node.0,
        incarnation: identity.node_incarnation.0,
        roles: role::METADATA,
        name: identity.name.clone(),
        address: shared.address.clone(),
        rack: config.rack.clone(),
        zone: config.zone.clone(),
        host: config.host.clone(),
        disks: Vec::new(),
        boot_counter: shared.boot.counter,
        boot_random: shared.boot.random,
        draining: false,
        fenced: false,
        since: 0,
        admin: config.admin.clone().unwrap_or_default(),
        log: shared.log,
    }
}

/// The members as this server knows them.
pub(crate) fn members(shared: &Shared) -> Vec<Member> {
    let view = shared.raft_view();
    let state = shared.read();
    let conf = &view.conf;
    let all = conf
        .voters
        .iter()
        .chain(&conf.voters_outgoing)
        .chain(&conf.learners)
        .chain(&conf.learners_next);
    let ids: std::collections::BTreeSet<u64> = all.copied().collect();
    let member = |id: u64| {
        let node = state.node(id);
        let progress = view.members.iter().find(|member| member.id.0 == id);
        let address = shared.peers.address(NodeId(id)).unwrap_or_default();
        Member {
            node: id,
            address: node.map_or(address, |node| node.address.clone()),
            voter: conf.voters.contains(&id),
            matched: progress.map_or(0, |member| member.matched.0),
            alive: progress.is_some_and(|member| member.recent_active),
            name: node.map_or_else(String::new, |node| node.name.clone()),
        }
    };
    ids.into_iter().map(member).collect()
}

impl MetaService {
    pub(super) async fn join(self: Arc<Self>, join: Join, request: Request) -> Result<JoinReply, Refused> {
        let node = join
            .node
            .ok_or_else(|| refusal(Code::Invalid, "no node in the request"))?;
        self.until(request.deadline, self.admit(node))
            .await
            .unwrap_or(Err(DropReason::Unknown.into()))?;
        Ok(JoinReply {
            members: members(&self.shared),
            records: self.shared.metadata_records(),
        })
    }

    /// Registers a metadata server, and adds it as a learner unless it is a member.
    pub(crate) async fn admit(&self, mut node: NodeRecord) -> Result<(), Refused> {
        if node.roles & role::METADATA == 0 {
            return Err(refusal(Code::Invalid, format!("node {} is no metadata server", node.id)).into());
        }
        let (now, begun) = (
            self.shared.env.clock.now(),
            self.leader.with(&self.shared, |office| office.begun),
        );
        let begun = begun.ok_or(Refused::NotLeader)?;
        let known = self.shared.read().node(node.id).cloned();
        let processes = &self.shared.processes;
        if let Some(known) = &known {
            processes.recorded(known, now);
        }
        processes
            .admit(&node, begun, now)
            .map_err(|reason| match reason {
                NotNow::Lives(other) => busy(&other),
                NotNow::Over(other) => refusal(Code::Stranger, other),
            })?;
        // It is fenced first, and counts until it is replaced: perhaps nothing can be decided without it.
        let is_being_replaced = || {
            let is_fenced = self.shared.read().node(node.id).is_some_and(|known| known.fenced);
            is_fenced && self.shared.raft_view().conf.voters.contains(&node.id)
        };
        if is_being_replaced() {
            return Ok(());
        }
        if let Some(known) = &known {
            (node.since, node.draining, node.fenced) = (known.since, known.draining, known.fenced);
        }
        if known.as_ref() != Some(&node) {
            let registered = self
                .shared
                .propose(
                    Op::RegisterNode(RegisterNode {
                        node: Some(node.clone()),
                    }),
                    None,
                )
                .await?;
            if registered.outcome.code != 0 {
                if is_being_replaced() {
                    return Ok(());
                }
                let code = Code::from_number(registered.outcome.code).unwrap_or(Code::Stranger);
                return Err(refusal(code, registered.outcome.message).into());
            }
        }
        self.shared.peers.learn_from_record(&node);
        let conf = self.shared.raft_view().conf;
        if conf.voters.contains(&node.id) || conf.learners.contains(&node.id) {
            return Ok(());
        }
        let recorded = self.shared.read().node(node.id).map(|known| known.fenced);
        if recorded != Some(false) {
            let message = format!(
                "node {} was replaced, or fenced: format it anew under a new id",
                node.id
            );
            return Err(refusal(Code::Stranger, message).into());
        }
        let steps = vec![ConfChangeStep {
            kind: ADD_LEARNER,
            node: node.id,
        }];
        let change = ConfChange {
            steps,
            context: node.encode_to_vec().into(),
            transition: 0,
        };
        self.shared.propose_conf(change).await?;
        tracing::info!(
            node = node.id,
            address = node.address,
            "metadata server joined as a learner"
        );
        Ok(())
    }
}
