//! What a member knows, for those who ask.

use super::RaftNode;
use crate::{MemberStatus, Role, Status};
use drystone_types::{LogIndex, NodeId, Term};
use raft::{ProgressState, StateRole};

impl RaftNode {
    /// A moment of it.
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let store = self.raw.store();
        let conf = store.latest_conf().clone();
        let mut members = Vec::new();
        if self.is_leader() {
            members.extend(raft.prs().iter().map(|(id, progress)| MemberStatus {
                id: NodeId(*id),
                voter: conf.voters.contains(id),
                matched: LogIndex(progress.matched),
                recent_active: progress.recent_active || *id == self.config.id.0,
                snapshot: progress.state == ProgressState::Snapshot,
            }));
            members.sort_by_key(|member| member.id);
        }
        Status {
            id: self.config.id,
            role: match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::PreCandidate => Role::PreCandidate,
                StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
            },
            leader: (raft.leader_id != 0).then_some(NodeId(raft.leader_id)),
            term: Term(raft.term),
            commit: LogIndex(raft.raft_log.committed),
            applied: LogIndex(self.delivery.applied),
            purged: LogIndex(store.base().0),
            last: LogIndex(raft.raft_log.last_index()),
            synced: LogIndex(raft.raft_log.persisted),
            conf,
            members,
            needs_snapshot: self.delivery.gap,
            log_bytes: store.bytes(),
        }
    }

    /// True while the state machine lacks purged entries and waits for a snapshot.
    pub fn needs_snapshot(&self) -> bool {
        self.delivery.gap
    }

    /// Bytes of the segments on the disk that hold entries or what else is still needed.
    pub fn held_log_bytes(&self) -> u64 {
        self.log.held_bytes()
    }

    /// True if the log finds no space on its disk: a write waits for some, or what is left in its segments is little, and
    /// another one cannot be made. It goes on by itself when there is some.
    pub fn log_is_short(&self) -> bool {
        self.log.is_short()
    }

    /// True if it leads.
    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// True if it leads and has committed in its term: what it knows is complete.
    pub fn leads_surely(&self) -> bool {
        self.is_leader() && self.raw.raft.commit_to_current_term()
    }

    /// The voters of the present configuration that have synced the log up to `index`, as far as this leader
    /// knows, itself included, sorted; empty at any other member.
    pub fn synced_voters(&self, index: LogIndex) -> Vec<NodeId> {
        if !self.is_leader() {
            return Vec::new();
        }
        let conf = self.raw.store().latest_conf();
        let synced = |id: &u64| {
            self.raw
                .raft
                .prs()
                .get(*id)
                .is_some_and(|at| at.matched >= index.0)
        };
        conf.voters
            .iter()
            .filter(|id| synced(id))
            .map(|id| NodeId(*id))
            .collect()
    }

    /// How many [`RaftNode::synced_voters`] there are.
    pub fn voters_synced(&self, index: LogIndex) -> usize {
        self.synced_voters(index).len()
    }

    /// True after [`Output::Fatal`](crate::Output::Fatal).
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}
