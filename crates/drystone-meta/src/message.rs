//! What the threads of a metadata server tell each other.

use crate::lone::export::{Export, ExportError};
use crate::membership::domains::Domains;
use crate::state::stores::StateMachine;
use drystone_env::IoCompletion;
use drystone_proto::command::{Entry, Outcome};
use drystone_proto::envelope::Envelope;
use drystone_proto::raft::{ConfChange, RaftConfState, RaftMessage};
use drystone_raft::{CommittedEntry, DropReason, Input, SnapshotMeta};
use drystone_types::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;

/// A proposal that was committed and applied.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    /// Its index.
    pub(crate) index: u64,
    /// What apply said; default for a membership change.
    pub(crate) outcome: Outcome,
    /// How long applying it held the state.
    pub(crate) took: Duration,
}

/// A command that was proposed here: what its bytes in the log say, and who waits for it.
pub(crate) struct Proposed {
    pub(crate) entry: Entry,
    pub(crate) reply: ProposalReply,
}

/// What waits for a committed entry here: a command, or a change of membership.
pub(crate) enum Waiting {
    Command(Box<Proposed>),
    Change(ProposalReply),
}

impl Waiting {
    /// Who waits.
    pub(crate) fn into_reply(self) -> ProposalReply {
        match self {
            Waiting::Command(proposed) => proposed.reply,
            Waiting::Change(reply) => reply,
        }
    }
}

/// Answers a proposal.
pub(crate) type ProposalReply = oneshot::Sender<Result<Applied, DropReason>>;

/// Where the state machine stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AppliedState {
    /// What it has applied.
    pub(crate) index: u64,
    /// Log time there.
    pub(crate) time: u64,
    /// The id after the last chunk id allocated there.
    pub(crate) next_chunk: u64,
}

impl AppliedState {
    pub(crate) fn of(state: &StateMachine) -> Self {
        Self {
            index: state.applied().0,
            time: state.log_time(),
            next_chunk: state.next_chunk().0,
        }
    }
}

/// For the raft thread.
pub(crate) enum ToRaft {
    /// A command.
    Propose {
        command: Box<Envelope>,
        reply: ProposalReply,
    },
    /// A membership change.
    ProposeConf {
        change: ConfChange,
        reply: ProposalReply,
    },
    /// Something waits in the read queue.
    Reads,
    /// From other members.
    Messages(Vec<RaftMessage>),
    /// Disk work is done.
    Io(IoCompletion),
    /// Anything else that goes to Raft as it is.
    Input(Input),
    /// The state machine has applied up to here.
    Applied(AppliedState),
    /// Answer when voters in `need` of these domains have synced `index`, with the number of domains; dropped when this
    /// member stops leading.
    Synced {
        index: u64,
        need: u32,
        domains: Domains,
        reply: oneshot::Sender<u32>,
    },
    /// End.
    Stop,
}

/// For the apply thread.
pub(crate) enum ToApply {
    /// In order, without gaps.
    Entries(Vec<(CommittedEntry, Option<Waiting>)>),
    /// Replace the state machine by a received snapshot.
    Install(SnapshotMeta),
    /// End.
    Stop,
}

/// For the flush thread.
pub(crate) enum ToFlush {
    /// The overlay is large: do not wait for the interval.
    Now,
    /// Raft's memory is large: make the state durable and purge the log up to here.
    Purge(u64),
    /// Make a snapshot that holds at least this index.
    Snapshot(u64),
    /// The state was replaced: answer when the store of the old one is closed.
    Replaced(oneshot::Sender<()>),
    /// The state of a lone voter was exported, or it was not.
    Exported(ExportOutcome),
    /// Write and sync everything, then end.
    Stop,
}

/// What came of an attempt to export the state of a lone voter.
pub(crate) enum ExportOutcome {
    /// What was there at the start and can be believed, newest first.
    Found(Vec<Export>),
    /// A new one.
    New(Result<Export, ExportError>),
}

/// What everybody may know about Raft at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RaftView {
    /// Who leads.
    pub(crate) leader: Option<NodeId>,
    /// In which term.
    pub(crate) term: u64,
    /// This member leads in this term, has committed in it and applied everything before it: it may propose, and
    /// what it reads at a confirmed index is complete.
    pub(crate) office: Option<u64>,
    /// Chunk ids below this were allocated before the office began, by earlier leaders.
    pub(crate) first_chunk: u64,
    /// Membership.
    pub(crate) conf: RaftConfState,
    /// Members as the leader sees them; empty elsewhere.
    pub(crate) members: Vec<drystone_raft::MemberStatus>,
    /// This member lacks what the others have purged and waits for a snapshot.
    pub(crate) needs_snapshot: bool,
}

impl RaftView {
    /// Voters and learners, those of a change under way too.
    pub(crate) fn member_ids(&self) -> BTreeSet<u64> {
        let conf = &self.conf;
        let lists = [
            &conf.voters,
            &conf.voters_outgoing,
            &conf.learners,
            &conf.learners_next,
        ];
        lists.into_iter().flatten().copied().collect()
    }

    /// True if `node` is known to be no member.
    pub(crate) fn is_removed(&self, node: NodeId) -> bool {
        !self.conf.voters.is_empty() && !self.member_ids().contains(&node.0)
    }

    /// Voters that answered this leader lately, itself included.
    pub(crate) fn live_voters(&self) -> impl Iterator<Item = NodeId> {
        let live = |member: &&drystone_raft::MemberStatus| member.voter && member.recent_active;
        self.members.iter().filter(live).map(|member| member.id)
    }
}
