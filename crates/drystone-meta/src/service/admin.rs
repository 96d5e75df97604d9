//! The cluster at a glance, and operators' decisions.

use super::grant::writes_refused;
use super::inline::{inline_voters, live_domains, policy_of, voter_domains};
use super::mutate::{DISK_FULL, LOG_FULL, NO_ROOM};
use super::refused::Refused;
use super::remove_server::Removals;
use super::router::{Route, Router, came_from_metadata};
use super::used_up::used_up;
use crate::config::Config;
use crate::leader::office::Leader;
use crate::lifecycle::Lifecycle;
use crate::membership::join::{Membership, caught_up, list_members};
use crate::membership::members::Members;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use crate::state::readers::Readers;
use bytes::Bytes;
use drystone_env::Clock;
use drystone_identity::Identity;
use drystone_proto::cluster::{
    AdminOp, AdminReply, AdminRequest, ClusterInfo, ClusterInfoRequest, ClusterStatus, Member, ServerStatus,
};
use drystone_proto::command::{Op, ReleaseDeletion};
use drystone_proto::record::{NodeRecord, role};
use drystone_raft::{DropReason, Input};
use drystone_rpc::{Reply, Request, refusal};
use drystone_types::{ByteCount, ChunkId, Code, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an answer about the cluster may wait for the leader before it is given from here.
const INFO_WAIT: Duration = Duration::from_millis(500);

/// How long a voter that is handed leadership may take: some elections.
const TRANSFER: Duration = Duration::from_secs(3);

/// Answers operators.
pub(crate) struct Admin {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) identity: Identity,
    pub(crate) router: Arc<Router>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) readers: Readers,
    pub(crate) leader: Arc<Leader>,
    pub(crate) members: Arc<Members>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) removals: Arc<Removals>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// Only commands that free space are taken.
    pub(crate) disk_full: Arc<AtomicBool>,
    /// Commands wait for an export.
    pub(crate) log_full: Arc<AtomicBool>,
    /// Nothing is taken: the state store waits for room, or the log does.
    pub(crate) memory_full: Arc<AtomicBool>,
    pub(crate) log_short: Arc<AtomicBool>,
}

impl Admin {
    pub(super) async fn cluster_info(&self, request: &Request) -> Reply {
        let wait = self.clock.now().plus(INFO_WAIT).min(request.deadline);
        if let Ok(Route::Leader { node, address }) = self.router.route(wait).await
            && !came_from_metadata(request)
        {
            let asked =
                self.router
                    .forward::<_, ClusterInfo>(request, &ClusterInfoRequest {}, node, &address);
            if let Some(Ok(info)) = self.clock.until(wait, asked).await {
                return Reply::ok(&info);
            }
        }
        Reply::ok(&self.info())
    }

    fn info(&self) -> ClusterInfo {
        let view = self.raft.view();
        let policy = self.state.read().default_policy();
        let inline = view.office.is_some()
            && policy_of(&policy)
                .is_ok_and(|policy| inline_voters(&policy, live_domains(&self.raft, &self.state)).is_some());
        ClusterInfo {
            cluster: Bytes::copy_from_slice(&self.identity.cluster.0),
            history: Bytes::copy_from_slice(&self.identity.history.0),
            leader: view.leader.map_or(0, |leader| leader.0),
            term: view.term,
            members: self.listed_members(),
            inline_max: if inline {
                self.config.inline_max.0 as u32
            } else {
                0
            },
            policy: Some(policy),
            applied: self.state.applied().applied(),
        }
    }

    pub(super) async fn admin(&self, admin: AdminRequest, request: &Request) -> Result<AdminReply, Refused> {
        let op = admin
            .op
            .ok_or_else(|| refusal(Code::NotSupported, "the operation is not known here"))?;
        let mut reply = AdminReply::default();
        match op {
            AdminOp::Status(_) => {
                self.router.confirmed(request.deadline).await?;
                reply.status = Some(self.cluster_status()?);
            }
            AdminOp::Raft(_) => reply.info = Some(self.info()),
            AdminOp::RaftReplace(replace) => {
                let changed = self.membership.replace(replace);
                self.until_answered(request, changed).await?;
                reply.info = Some(self.info());
            }
            AdminOp::UpdateNode(update) => {
                let changed = self.membership.update_node(update);
                self.until_answered(request, changed).await?;
            }
            AdminOp::Chunk(id) => {
                self.router.confirmed(request.deadline).await?;
                let record = self
                    .state
                    .read()
                    .chunk(ChunkId(id))
                    .map_err(|error| self.state.store_error(&error))?;
                reply.chunk =
                    Some(record.ok_or_else(|| refusal(Code::NotFound, format!("there is no chunk {id}")))?);
            }
            AdminOp::Lost(after) => {
                self.router.confirmed(request.deadline).await?;
                reply.lost = Some(self.lost(after).await?);
            }
            AdminOp::ReleaseSweep(node) => {
                let now = self.clock.now();
                let released = self.leader.with(|office| office.reclaim.release_sweep(node, now));
                if !released.ok_or(Refused::NotLeader)? {
                    let message = format!("no deletion of orphans is stopped on node {node}");
                    return Err(refusal(Code::NotFound, message).into());
                }
                tracing::warn!(server = node, "an operator lets all orphans go");
            }
            AdminOp::ReleaseDeletion(_) => {
                if !self.state.read().deletion_held() {
                    return Err(refusal(Code::NotFound, "no deletion is held").into());
                }
                let release = self.raft.propose(Op::ReleaseDeletion(ReleaseDeletion {}), None);
                let done = self.clock.until(request.deadline, release).await;
                done.unwrap_or(Err(DropReason::Unknown))?;
                tracing::warn!("an operator lets replicas be deleted again");
            }
            AdminOp::RemoveServer(remove) => {
                let (done, answer) = oneshot::channel();
                let removals = Arc::clone(&self.removals);
                // Past the deadline it goes on, and its answer is given up.
                self.lifecycle.spawn("meta-remove-server", async move {
                    let _ = done.send(removals.remove(remove).await);
                });
                let done = self.clock.until(request.deadline, answer).await;
                let done = done.and_then(Result::ok);
                reply.removed = Some(done.unwrap_or(Err(DropReason::Unknown.into()))?);
            }
            AdminOp::RemoveLearner(node) => {
                let changed = self.membership.remove_learner(node);
                self.until_answered(request, changed).await?;
                reply.info = Some(self.info());
            }
            AdminOp::TransferLeader(to) => {
                self.transfer_leader(to).await?;
                reply.info = Some(self.info());
            }
        }
        Ok(reply)
    }

    /// What comes of `change` within the request's time; unknown after that.
    async fn until_answered(
        &self,
        request: &Request,
        change: impl Future<Output = Result<impl Sized, Refused>>,
    ) -> Result<(), Refused> {
        let done = self.clock.until(request.deadline, change).await;
        done.unwrap_or(Err(DropReason::Unknown.into())).map(drop)
    }

    /// Hands leadership to the voter `to`, and waits until it leads or is given up. Nothing is proposed meanwhile: one
    /// that does not answer is not asked.
    async fn transfer_leader(&self, to: u64) -> Result<(), Refused> {
        let refuse = |code, message: String| Err(Refused::Error(refusal(code, message)));
        let view = self.raft.view();
        if !view.conf.voters.contains(&to) {
            return refuse(Code::Invalid, format!("node {to} is no voter"));
        }
        if view.leader == Some(NodeId(to)) {
            return Ok(());
        }
        if let Err(matched) = caught_up(&view, to, self.state.applied().applied()) {
            let message = format!("node {to} does not answer, or is far behind (it has {matched} entries)");
            return refuse(Code::Unavailable, message);
        }
        self.raft.input(Input::TransferLeader(NodeId(to)));
        let mut view = self.raft.watch();
        let other_leads =
            view.wait_for(|view| view.leader.is_some_and(|leader| leader != self.identity.node));
        let until = self.clock.now().plus(TRANSFER);
        match self.clock.until(until, other_leads).await {
            Some(Ok(view)) if view.leader == Some(NodeId(to)) => Ok(()),
            _ => refuse(Code::Unavailable, format!("node {to} did not come to lead")),
        }
    }

    fn listed_members(&self) -> Vec<Member> {
        list_members(&self.raft, &self.state, &self.members)
    }

    /// Voters that fail together, in words.
    fn crowded_voters(&self, voters: &[u64]) -> Option<String> {
        let domains = voter_domains(&self.raft, &self.state).count(voters.iter().map(|voter| NodeId(*voter)));
        let known = {
            let state = self.state.read();
            voters
                .iter()
                .filter(|voter| state.node(NodeId(**voter)).is_some())
                .count()
        };
        (known > domains as usize).then(|| {
            format!(
                "{known} voters in {domains} failure domain(s): what is small is in the log of each, and counts once per \
                 host; set `host` and `rack` if they are apart"
            )
        })
    }

    fn cluster_status(&self) -> Result<ClusterStatus, Refused> {
        let view = self.raft.view();
        let now = self.clock.now();
        let config = &self.config;
        let state = self.state.read();
        let counters = state.counters();
        let nodes: Vec<_> = state
            .nodes()
            .filter(|node| node.roles & role::CHUNK != 0 && !node.removed)
            .cloned()
            .collect();
        let ids = view.member_ids();
        let highest_node = state.nodes().map(|node| node.id).chain(ids.iter().copied()).max();
        let used_up = used_up(state.nodes(), &ids);
        let (floor, applied) = (state.grant_floor().0, state.applied().0);
        let held = state.deletion_held();
        drop(state);
        let no_room = self.memory_full.load(Ordering::Relaxed) || self.log_short.load(Ordering::Relaxed);
        let writes_refused = match (
            no_room,
            self.disk_full.load(Ordering::Relaxed),
            self.log_full.load(Ordering::Relaxed),
        ) {
            (true, ..) => NO_ROOM.to_owned(),
            (_, true, _) => DISK_FULL.to_owned(),
            (.., true) => LOG_FULL.to_owned(),
            _ => writes_refused(&self.leader, &self.state).unwrap_or_default(),
        };
        let mut warnings = warnings(&nodes, &view.conf.voters);
        warnings.extend(self.crowded_voters(&view.conf.voters));
        if held {
            warnings.push(
                "the namespace was restored: no replica is deleted until you have looked whether files are missing \
                 (`admin release-deletion`)"
                    .to_owned(),
            );
        }
        // Reads the state, which is never read while the office is held.
        let members = self.listed_members();
        self.leader
            .with(|office| {
                let deletion_limit = office.reclaim.deletion_limit();
                warnings.extend(deletion_limit.stopped(now).map(|(node, bytes)| {
                    format!(
                        "node {node} holds many replicas that nothing refers to: {} of them were deleted within \
                         an hour, the rest waits (`admin release-sweep {node}` lets them go)",
                        ByteCount(bytes)
                    )
                }));
                warnings.extend(deletion_limit.released(now).map(|(node, bytes)| {
                    format!(
                        "an operator lets all replicas on node {node} go that nothing refers to: {} so far",
                        ByteCount(bytes)
                    )
                }));
                let servers = nodes.into_iter().map(|node| {
                    let server = office.servers.get(node.id);
                    ServerStatus {
                        state: office.servers.state(&node, now, config).to_owned(),
                        last_heartbeat_ms: server
                            .and_then(|server| server.last)
                            .map_or(u64::MAX, |last| now.since(last).as_millis() as u64),
                        disks: server.map_or_else(Vec::new, |server| server.loads.clone()),
                        node: Some(node),
                    }
                });
                ClusterStatus {
                    leader: self.identity.node.0,
                    term: office.term,
                    servers: servers.collect(),
                    chunks_total: counters.chunks,
                    chunks_under_redundant: office.redundancy.map(|found| found.under_redundant().chunks),
                    chunks_lost: office.redundancy.map(|found| found.lost().chunks),
                    exposure_bytes: office.redundancy.map(|found| found.exposure(1).bytes),
                    files: counters.files,
                    directories: counters.directories,
                    file_bytes: counters.bytes,
                    members,
                    grant_floor: floor,
                    applied,
                    damage_reports: office.damage_reports,
                    leader_name: self.identity.name.clone(),
                    chunks_doomed: counters.doomed,
                    warnings,
                    writes_refused,
                    highest_node: highest_node.unwrap_or_default(),
                    used_up,
                }
            })
            .ok_or(Refused::NotLeader)
    }
}

fn warnings(nodes: &[NodeRecord], voters: &[u64]) -> Vec<String> {
    let mut warnings = Vec::new();
    if voters.len().is_multiple_of(2) {
        warnings.push(format!(
            "{} voters: an even number survives no more failures than one less",
            voters.len()
        ));
    }
    if voters.len() == 1 {
        warnings.push("one voter: the namespace is lost with its disk".to_owned());
    }
    warnings.extend(nodes.iter().filter(|node| node.fenced).map(|node| {
        let (id, name) = (node.id, &node.name);
        let why = match node.removing {
            true => "a removal of it is being decided, or was given up in the middle",
            false => "two processes ran as it",
        };
        format!(
            "node {id} ({name}) is fenced: {why}; its replicas count for \
             nothing until it works again (`admin servers --release {id}`) or is removed (`admin servers --remove {id}`)"
        )
    }));
    let disks: Vec<_> = nodes
        .iter()
        .flat_map(|node| node.disks.iter().map(move |disk| (node, disk)))
        .collect();
    let racks: BTreeSet<_> = nodes.iter().map(|node| (&node.zone, &node.rack)).collect();
    let devices: BTreeSet<_> = disks
        .iter()
        .map(|(node, disk)| (&node.host, disk.device))
        .collect();
    if disks.len() > 1 && devices.len() < racks.len().max(2).min(disks.len()) {
        warnings.push(format!(
            "{} disks in {} racks are {} device(s): what looks like separate failure domains fails together",
            disks.len(),
            racks.len(),
            devices.len()
        ));
    }
    warnings
}
