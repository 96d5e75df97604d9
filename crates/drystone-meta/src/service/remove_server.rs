//! Removing a chunk server from the cluster for good: one that is lost, or that is no longer needed.
//!
//! What it holds counts for nothing afterwards: chunks with a replica on it have one less, doomed chunks that wait for
//! it end, and it never comes back under its id. So it is said first what would be lost with it, and for that to be all
//! of it the server is *fenced* before: a logged command, behind which nothing is placed on it and no receipt of it
//! counts. The loss is counted in a state that has applied the fence. A refusal lifts the fence again. The record says that
//! it is a removal's fence: the server's process, if it comes back meanwhile, waits for the decision and does not end.
//!
//! The fence is a record like any other, so it stays if the leader fails in between: the server is shown as `fenced`, and
//! an operator removes it again, or lets it work again with `admin servers --release`. The second removal takes that fence
//! for its own: it asks for no less than the first one, and lifts it if it refuses. Any other fence that was there before
//! (of a cloned server) stays in any case.

use super::refused::{Refused, unknown};
use crate::config::Config;
use crate::leader::office::Leader;
use crate::membership::join::Membership;
use crate::state::cell::StateReader;
use crate::state::readers::Readers;
use drystone_env::Clock;
use drystone_namespace::{Namespace, NamespaceView, OrderedStore, StoreError};
use drystone_proto::cluster::{ErrorReply, RemoveServer, RemovedServer};
use drystone_proto::command::UpdateNode;
use drystone_proto::record::{NodeRecord, role};
use drystone_rpc::refusal;
use drystone_types::{ByteCount, Code, DiskId, DiskRef, Incarnation, LogIndex, NodeId, Since};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Sets of disks read at once.
const PAGE: usize = 1_024;

fn refuse<T>(code: Code, message: String) -> Result<T, Refused> {
    Err(refusal(code, message).into())
}

/// Removes chunk servers, one after the other.
pub(crate) struct Removals {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) state: StateReader,
    pub(crate) readers: Readers,
    pub(crate) leader: Arc<Leader>,
    pub(crate) membership: Arc<Membership>,
    /// What two servers have together would count for none of two removals at the same time.
    pub(crate) one: tokio::sync::Mutex<()>,
}

impl Removals {
    /// Removes a chunk server. Must not be given up in the middle: only at its end the fence is lifted, if it is refused.
    pub(super) async fn remove(&self, remove: RemoveServer) -> Result<RemovedServer, Refused> {
        let _one = self.one.lock().await;
        let node = self.removable(remove.node)?;
        // By a removal whose leader has failed.
        let was_removing = node.fenced && node.removing;
        let fenced_at = match self.begin(&node, remove.force).await {
            Ok(fenced_at) => fenced_at,
            Err(Refused::Error(error)) if was_removing => {
                return Err(self.lift_fence(&node, node.since, error).await.into());
            }
            Err(refused) => return Err(refused),
        };
        match self.decide(&node, fenced_at, remove.force).await {
            Ok(loss) => {
                self.leader.with(|office| office.servers.forget(node.id));
                tracing::warn!(
                    server = node.id,
                    name = node.name,
                    replicas = loss.replicas,
                    lost_chunks = loss.lost_chunks,
                    lost_bytes = loss.lost_bytes,
                    "an operator removed a chunk server"
                );
                Ok(loss)
            }
            Err(refused) if node.fenced && !was_removing => Err(final_error(refused).into()),
            Err(refused) => {
                let error = final_error(refused);
                Err(self.lift_fence(&node, fenced_at.0, error).await.into())
            }
        }
    }

    /// The server, if there is one that can be removed.
    fn removable(&self, id: u64) -> Result<NodeRecord, Refused> {
        let node = self.state.node(NodeId(id)).filter(|node| !node.removed);
        let Some(node) = node else {
            return refuse(Code::NotFound, format!("there is no server {id}"));
        };
        if node.roles & role::CHUNK == 0 {
            let message =
                format!("node {id} is no chunk server: voters are replaced with `admin raft replace`");
            return refuse(Code::Invalid, message);
        }
        Ok(node)
    }

    /// Fences the server, unless what is known before that refuses it; gives what its record is known by then.
    async fn begin(&self, node: &NodeRecord, force: bool) -> Result<Since, Refused> {
        let now = self.clock.now();
        let alive = self.leader.with(|office| {
            let (servers, begun) = (&office.servers, office.begun);
            servers.may_be_alive(node, now, begun, &self.config)
        });
        let is_alive = alive.ok_or(Refused::NotLeader)?;
        if is_alive && !force {
            let message = format!(
                "node {} ({}) is alive, or was not heard yet: stop its process first, or repeat it with --force",
                node.id, node.name
            );
            return refuse(Code::Conflict, message);
        }
        // Not fenced for nothing: a server that comes back while it is waits.
        check_loss(node, &self.loss(node, LogIndex(0)).await?, force)?;
        self.fence(node).await
    }

    /// Keeps new replicas away from the server; gives what its record is known by then.
    async fn fence(&self, node: &NodeRecord) -> Result<Since, Refused> {
        let fence = UpdateNode {
            node: node.id,
            fenced: Some(true),
            removing: true,
            ..UpdateNode::default()
        };
        let index = self.membership.update_node(fence).await?;
        Ok(Since::new(LogIndex(index), 0))
    }

    /// Removes the fenced server, unless bytes would be lost with it.
    async fn decide(
        &self,
        node: &NodeRecord,
        fenced_at: Since,
        force: bool,
    ) -> Result<RemovedServer, Refused> {
        let loss = self.loss(node, fenced_at.index()).await?;
        check_loss(node, &loss, force)?;
        let update = UpdateNode {
            node: node.id,
            remove: true,
            with_replicas: true,
            // Nobody has let it work again meanwhile.
            if_since: Some(fenced_at.0),
            ..UpdateNode::default()
        };
        self.membership.update_node(update).await?;
        Ok(loss)
    }

    /// A refusal lets the server work again, unless somebody has written its record after the command `since`. Gives the
    /// refusal, which says so if it is not known to work again.
    async fn lift_fence(&self, node: &NodeRecord, since: u64, mut refusal: ErrorReply) -> ErrorReply {
        let lift = UpdateNode {
            node: node.id,
            fenced: Some(false),
            if_since: Some(since),
            ..UpdateNode::default()
        };
        let lifted = self.membership.update_node(lift).await;
        let works = |known: NodeRecord| known.removed || !known.fenced;
        if lifted.is_err() && !self.state.node(NodeId(node.id)).is_none_or(works) {
            refusal.message = format!(
                "{}; node {} stays fenced until it is removed, or let work again with `admin servers --release {}`",
                refusal.message, node.id, node.id
            );
        }
        refusal
    }

    /// What would go with this server, in a state that has applied `fenced_at`.
    async fn loss(&self, node: &NodeRecord, fenced_at: LogIndex) -> Result<RemovedServer, Refused> {
        let own: BTreeSet<DiskRef> = (node.disks.iter())
            .map(|disk| DiskRef {
                disk: DiskId(disk.id),
                incarnation: Incarnation(disk.incarnation),
            })
            .collect();
        let present = self.known_present_disks()?;
        let count = move |view: NamespaceView| {
            assert!(
                view.applied() >= fenced_at,
                "the loss is counted behind the fence ({fenced_at}), not at {}",
                view.applied()
            );
            count_loss(&*view, &own, &present)
        };
        let loss = self.readers.read(&self.state, count).await?;
        Ok(loss.map_err(|error| self.state.store_error(&error))?)
    }

    /// The disks whose replicas count now.
    fn known_present_disks(&self) -> Result<BTreeSet<DiskRef>, Refused> {
        let now = self.clock.now();
        let state = self.state.read();
        let present = self.leader.with(|office| {
            let (servers, config) = (&office.servers, &self.config);
            let known = servers.knows_all(state.nodes(), now, office.begun, config);
            known.then(|| servers.present_disks(state.nodes(), now, config))
        });
        let Some(present) = present.ok_or(Refused::NotLeader)? else {
            let message =
                "the leader has just taken office and has not heard every server: try again in some seconds";
            return refuse(Code::Unavailable, message.to_owned());
        };
        Ok(present)
    }
}

/// Refuses a loss that was not agreed to.
fn check_loss(node: &NodeRecord, loss: &RemovedServer, force: bool) -> Result<(), Refused> {
    if loss.lost_chunks == 0 || force {
        return Ok(());
    }
    let message = format!(
        "node {} ({}) holds the only replica that counts of {} chunk(s): {} would be lost for ever (repeat it with --force \
         to lose them)",
        node.id,
        node.name,
        loss.lost_chunks,
        ByteCount(loss.lost_bytes)
    );
    refuse(Code::NotEmpty, message)
}

/// Behind the fence something was done: the request is not handed on to another leader.
fn final_error(refused: Refused) -> ErrorReply {
    match refused {
        Refused::Error(error) => error,
        Refused::NotLeader => unknown(),
    }
}

/// What would go with the disks `own` while those in `present` are there: read from the sets of disks that hold chunks
/// together, not from the chunks.
fn count_loss<S: OrderedStore>(
    state: &Namespace<S>,
    own: &BTreeSet<DiskRef>,
    present: &BTreeSet<DiskRef>,
) -> Result<RemovedServer, StoreError> {
    let holds = |disk: &DiskRef| !own.contains(disk) && present.contains(disk);
    let mut loss = RemovedServer::default();
    for &disk in own {
        let mut after = Vec::new();
        loop {
            let page = state.disk_sets(disk, &after, PAGE)?;
            for (_, set) in &page {
                loss.replicas += set.chunks;
                // A set is entered under each of its disks: it is lost once.
                let is_first = set.disks.iter().filter(|other| own.contains(other)).min() == Some(&disk);
                if is_first && !set.disks.iter().any(holds) {
                    loss.lost_chunks += set.chunks;
                    loss.lost_bytes += set.bytes;
                }
            }
            match page.into_iter().next_back() {
                Some((key, _)) => after = key,
                None => break,
            }
        }
    }
    assert!(
        loss.lost_chunks <= loss.replicas,
        "what is lost with a server has a replica on it"
    );
    Ok(loss)
}

#[cfg(test)]
mod tests;
