//! This server introduces itself to the leader.

use super::join::Membership;
use super::members::Members;
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::message::RaftView;
use crate::raft::handle::RaftHandle;
use drystone_env::Clock;
use drystone_identity::Identity;
use drystone_proto::cluster::{Join, JoinReply};
use drystone_proto::record::{NodeRecord, role};
use drystone_proto::{Kind, Priority};
use drystone_rpc::{CallError, CallOptions, Channels};
use drystone_types::{BootId, Code, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Addresses asked in one attempt to introduce this server.
const ATTEMPTS: usize = 16;
/// A server that hears of no leader for so long introduces itself again: many elections.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// Between attempts to introduce this server.
const INTRODUCE: Duration = Duration::from_millis(300);

/// This server as a node of the cluster: the process `boot`, whose log has the number `log`, reached at `address`.
pub(crate) fn own_record(
    identity: &Identity,
    config: &Config,
    address: &str,
    boot: BootId,
    log: u64,
) -> NodeRecord {
    NodeRecord {
        id: identity.node.0,
        incarnation: identity.node_incarnation.0,
        roles: role::METADATA,
        name: identity.name.clone(),
        address: address.to_owned(),
        rack: config.rack.clone(),
        zone: config.zone.clone(),
        host: config.host.clone(),
        disks: Vec::new(),
        boot_counter: boot.counter,
        boot_random: boot.random,
        draining: false,
        fenced: false,
        since: 0,
        admin: config.admin.clone().unwrap_or_default(),
        log,
        voter: false,
        removed: false,
        removing: false,
    }
}

/// What an introduction needs.
pub(crate) struct Introduction {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) raft: RaftHandle,
    pub(crate) members: Arc<Members>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) channels: Channels,
    /// This server; see [`own_record`].
    pub(crate) record: NodeRecord,
    /// It was formatted to join a cluster, whose members are reached at `join`.
    pub(crate) joining: bool,
    pub(crate) join: Vec<String>,
}

impl Introduction {
    /// Tells the leader this server's address (and asks to be admitted, if it is no member) until it is known; again
    /// when for a while no leader was heard of or this server was no member, because another process of this node may have
    /// been let in instead.
    pub(crate) async fn run(self) {
        let me = NodeId(self.record.id);
        let mut view = self.raft.watch();
        loop {
            let known = if self.raft.office().is_some() {
                self.membership.admit(self.record.clone()).await.is_ok()
            } else {
                self.ask_members().await
            };
            if !known {
                self.clock.sleep(INTRODUCE).await;
                continue;
            }
            loop {
                let is_forgotten = |view: &RaftView| view.leader.is_none() || view.is_removed(me);
                if view.wait_for(is_forgotten).await.is_err() {
                    return;
                }
                let patience = self.clock.now().plus(FORGOTTEN);
                let led = view.wait_for(|view| !is_forgotten(view));
                if self.clock.until(patience, led).await.is_none() {
                    break;
                }
            }
        }
    }

    async fn ask_members(&self) -> bool {
        let me = NodeId(self.record.id);
        let leader = self.raft.view().leader.filter(|leader| *leader != me);
        let mut addresses: VecDeque<String> = leader
            .and_then(|leader| self.members.peers().address(leader))
            .into_iter()
            .collect();
        if addresses.is_empty() {
            if self.joining {
                addresses.extend(self.join.iter().cloned());
            }
            addresses.extend(
                self.members
                    .peers()
                    .all()
                    .into_iter()
                    .filter(|(node, _)| *node != me)
                    .map(|(_, address)| address),
            );
        }
        // A server that is not the leader may name it.
        for _ in 0..ATTEMPTS {
            let Some(address) = addresses.pop_front() else {
                break;
            };
            let deadline = self.clock.now().plus(Duration::from_secs(3));
            let options = CallOptions::until(deadline).priority(Priority::Control);
            let join = Join {
                node: Some(self.record.clone()),
            };
            match self
                .channels
                .to(&address)
                .call::<Join, JoinReply>(Kind::Join, &join, None, options)
                .await
            {
                Ok(answer) => {
                    // Of a voter that has moved since this one was here, and leads, nothing else can tell.
                    if !self.members.take_records(&answer.body.records) {
                        return false;
                    }
                    for member in answer.body.members {
                        if member.node != me.0 {
                            self.members.peers().learn(NodeId(member.node), &member.address);
                        }
                    }
                    return true;
                }
                Err(CallError::Refused(error)) if !error.leader.is_empty() => {
                    addresses.push_front(error.leader);
                }
                Err(error) if error.code() == Code::Stranger && self.is_voter() => {
                    self.lifecycle
                        .fail(format!("the cluster refuses this server: {error}"));
                    return false;
                }
                Err(error) if error.code() == Code::Stranger => {
                    tracing::warn!(node = %me, %error, "the cluster does not take this server");
                    self.clock.sleep(FORGOTTEN).await;
                    return false;
                }
                Err(error) => tracing::debug!(address, %error, "could not introduce this server"),
            }
        }
        false
    }

    /// True if this server takes itself for a voter: one that was replaced knows better, and only waits.
    fn is_voter(&self) -> bool {
        let view = self.raft.borrow_view();
        view.conf.voters.is_empty() || view.conf.voters.contains(&self.record.id)
    }
}
