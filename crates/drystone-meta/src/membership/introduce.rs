//! This server introduces itself to the leader.

use super::join::own_record;
use crate::message::RaftView;
use crate::service::MetaService;
use crate::shared::Shared;
use drystone_proto::cluster::{Join, JoinReply};
use drystone_proto::record::NodeRecord;
use drystone_proto::{Kind, Priority};
use drystone_rpc::{CallError, CallOptions};
use drystone_types::{Code, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Addresses asked in one attempt to introduce this server.
const ATTEMPTS: usize = 16;
/// A server that hears of no leader for so long introduces itself again: many elections.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// Between attempts to introduce this server.
const INTRODUCE: Duration = Duration::from_millis(300);

/// Tells the leader this server's address (and asks to be admitted, if it is no member) until it is known; again
/// when for a while no leader was heard of or this server was no member, because another process of this node may have
/// been let in instead.
pub(crate) async fn introduce(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let me = shared.identity.node;
    let record = own_record(shared);
    let mut view = shared.view.subscribe();
    loop {
        let known = if shared.office().is_some() {
            service.admit(record.clone()).await.is_ok()
        } else {
            ask_members(shared, &record, me).await
        };
        if !known {
            shared.env.clock.sleep(INTRODUCE).await;
            continue;
        }
        loop {
            let is_forgotten = |view: &RaftView| view.leader.is_none() || view.is_removed(me);
            if view.wait_for(is_forgotten).await.is_err() {
                return;
            }
            let patience = shared.env.clock.now().plus(FORGOTTEN);
            let led = view.wait_for(|view| !is_forgotten(view));
            if shared.env.clock.until(patience, led).await.is_none() {
                break;
            }
        }
    }
}

async fn ask_members(shared: &Arc<Shared>, record: &NodeRecord, me: NodeId) -> bool {
    let leader = shared.raft_view().leader.filter(|leader| *leader != me);
    let mut addresses: VecDeque<String> = leader
        .and_then(|leader| shared.peers.address(leader))
        .into_iter()
        .collect();
    if addresses.is_empty() {
        if shared.identity.joining {
            addresses.extend(shared.config.join.iter().cloned());
        }
        addresses.extend(
            shared
                .peers
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
        let deadline = shared.env.clock.now().plus(Duration::from_secs(3));
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let join = Join {
            node: Some(record.clone()),
        };
        match shared
            .channels
            .to(&address)
            .call::<Join, JoinReply>(Kind::Join, &join, None, options)
            .await
        {
            Ok(answer) => {
                // Of a voter that has moved since this one was here, and leads, nothing else can tell.
                if !shared.take_records(&answer.body.records) {
                    return false;
                }
                for member in answer.body.members {
                    if member.node != me.0 {
                        shared.peers.learn(NodeId(member.node), &member.address);
                    }
                }
                return true;
            }
            Err(CallError::Refused(error)) if !error.leader.is_empty() => {
                addresses.push_front(error.leader);
            }
            Err(error) if error.code() == Code::Stranger && is_voter(shared, me) => {
                shared.fail(format!("the cluster refuses this server: {error}"));
                return false;
            }
            Err(error) if error.code() == Code::Stranger => {
                tracing::warn!(node = %me, %error, "the cluster does not take this server");
                shared.env.clock.sleep(FORGOTTEN).await;
                return false;
            }
            Err(error) => tracing::debug!(address, %error, "could not introduce this server"),
        }
    }
    false
}

/// True if this server takes itself for a voter: one that was replaced knows better, and only waits.
fn is_voter(shared: &Shared, me: NodeId) -> bool {
    let view = shared.view.borrow();
    view.conf.voters.is_empty() || view.conf.voters.contains(&me.0)
}
