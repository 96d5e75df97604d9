//! What a member knows about its group.

use drystone_proto::raft::RaftConfState;
use drystone_types::{LogIndex, NodeId, Term};

/// What a member is at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows, or is a learner.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// A moment of a member.
#[derive(Clone, PartialEq, Debug)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// What it knows to be committed.
    pub commit: LogIndex,
    /// What the state machine has applied.
    pub applied: LogIndex,
    /// What its log begins after.
    pub purged: LogIndex,
    /// The last index of its log.
    pub last: LogIndex,
    /// The last index of its log that is synced.
    pub synced: LogIndex,
    /// Membership.
    pub conf: RaftConfState,
    /// Each member, sorted by id; at the leader only.
    pub members: Vec<MemberStatus>,
    /// True if it waits for a snapshot because its state machine lacks purged entries.
    pub needs_snapshot: bool,
    /// Bytes of entries in memory.
    pub log_bytes: u64,
}

/// What the leader knows about a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberStatus {
    /// The member.
    pub id: NodeId,
    /// True for a voter of the present configuration, false for a learner or one that leaves.
    pub voter: bool,
    /// What it has synced, as far as it said.
    pub matched: LogIndex,
    /// True if it was heard within the last election timeout. The leader itself always was.
    pub recent_active: bool,
    /// True while it waits for a snapshot.
    pub snapshot: bool,
}
