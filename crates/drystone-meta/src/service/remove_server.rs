//! Removing a chunk server from the cluster for good: one that is lost, or that is no longer needed.
//!
//! What it holds counts for nothing afterwards: chunks with a replica on it have one less, doomed chunks that wait for
//! it end, and it never comes back under its id. So it is looked first what would be lost with it.

use super::admin::Admin;
use super::refused::Refused;
use drystone_proto::cluster::{RemoveServer, RemovedServer};
use drystone_proto::command::UpdateNode;
use drystone_proto::record::{NodeRecord, role};
use drystone_rpc::refusal;
use drystone_types::{ByteCount, Code, DiskId, DiskRef, Incarnation};
use std::collections::BTreeSet;

/// Sets of disks read under one lock of the state.
const PAGE: usize = 256;

fn refuse<T>(code: Code, message: String) -> Result<T, Refused> {
    Err(refusal(code, message).into())
}

impl Admin {
    /// Removes a chunk server.
    pub(super) async fn remove_server(&self, remove: RemoveServer) -> Result<RemovedServer, Refused> {
        let node = self.removable(remove)?;
        let loss = self.loss(&node).await?;
        if loss.lost_chunks > 0 && !remove.force {
            let message = format!(
                "node {} ({}) holds the only replica that counts of {} chunk(s): {} would be lost for ever (repeat it \
                 with --force to lose them)",
                node.id,
                node.name,
                loss.lost_chunks,
                ByteCount(loss.lost_bytes)
            );
            return refuse(Code::NotEmpty, message);
        }
        let update = UpdateNode {
            node: node.id,
            remove: true,
            with_replicas: true,
            ..UpdateNode::default()
        };
        self.membership.update_node(update).await?;
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

    /// The server, if it may be removed apart from what it holds.
    fn removable(&self, remove: RemoveServer) -> Result<NodeRecord, Refused> {
        let id = remove.node;
        let node = self.state.read().node(id).filter(|node| !node.removed).cloned();
        let Some(node) = node else {
            return refuse(Code::NotFound, format!("there is no server {id}"));
        };
        if node.roles & role::CHUNK == 0 {
            let message =
                format!("node {id} is no chunk server: voters are replaced with `admin raft replace`");
            return refuse(Code::Invalid, message);
        }
        let now = self.clock.now();
        let alive = self.leader.with(|office| {
            // Who was not heard yet may only not have found this leader.
            let is_young = now.since(office.begun) < self.config.suspect_after
                && !office.servers.is_unreachable(node.id);
            let state = office.servers.state(&node, now, &self.config);
            matches!(state, "alive" | "draining") || (state == "unknown" && is_young)
        });
        let is_alive = alive.ok_or(Refused::NotLeader)?;
        if is_alive && !remove.force {
            let message = format!(
                "node {id} ({}) is alive, or was not heard yet: stop its process first, or repeat it with --force",
                node.name
            );
            return refuse(Code::Conflict, message);
        }
        Ok(node)
    }

    /// What would go with this server: read from the sets of disks that hold chunks together, not from the chunks.
    async fn loss(&self, node: &NodeRecord) -> Result<RemovedServer, Refused> {
        let own: BTreeSet<DiskRef> = (node.disks.iter())
            .map(|disk| DiskRef {
                disk: DiskId(disk.id),
                incarnation: Incarnation(disk.incarnation),
            })
            .collect();
        let present = self.known_present_disks()?;
        let holds = |disk: &DiskRef| !own.contains(disk) && present.contains(disk);
        let mut loss = RemovedServer::default();
        for &disk in &own {
            let mut after = Vec::new();
            loop {
                let page = self.state.read().disk_sets(disk, &after, PAGE);
                let page = page.map_err(|error| self.state.store_error(&error))?;
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
                tokio::task::yield_now().await;
            }
        }
        Ok(loss)
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
