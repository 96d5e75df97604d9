//! What goes into a member and what comes out.

use crate::{DropReason, FatalError, plausible};
use bytes::Bytes;
use drystone_env::{IoCompletion, IoRequest, Monotonic};
use drystone_proto::raft::{ConfChange, RaftConfState, RaftMessage, RaftSnapshotMeta};
use drystone_types::{LogIndex, NodeId, Term};
use drystone_wal::Torn;

/// What a member is told. Tokens are the caller's; it does not use one again before it is answered.
#[derive(Debug)]
pub enum Input {
    /// Nothing but time. (Time also passes with every other input.)
    Tick,
    /// Messages of other members, as they came. They may be lost, doubled, late or foreign; what makes no sense
    /// is dropped. The caller has checked that they come from this cluster and history.
    Messages(Vec<RaftMessage>),
    /// A command for the log. Answered by [`Output::Committed`] or [`Output::ProposalDropped`].
    Propose {
        /// Names it.
        token: u64,
        /// The command; not empty.
        data: Bytes,
    },
    /// A membership change, answered as a command is. Several steps are one joint change that leaves the joint
    /// configuration by itself: *replace OLD by NEW* is add voter NEW and remove OLD in one.
    ProposeConf {
        /// Names it.
        token: u64,
        /// The change.
        change: ConfChange,
    },
    /// A linearizable read, here or at a follower: answered by [`Output::ReadReady`] or [`Output::ReadFailed`].
    ReadIndex {
        /// Names it.
        token: u64,
    },
    /// What became of an [`Output::Io`].
    Io(IoCompletion),
    /// The state machine has applied up to here (in memory). It only grows, and not beyond what was delivered.
    Applied {
        /// The index.
        index: LogIndex,
    },
    /// A snapshot has been made as [`Output::MakeSnapshot`] asked (or unasked): the state as of `index`. It can be
    /// streamed until a newer one is made.
    SnapshotMade {
        /// The applied index that it holds; at most the applied index told.
        index: LogIndex,
        /// Names it for whoever streams it.
        id: Bytes,
    },
    /// A snapshot could not be made; it is asked for again later.
    SnapshotNotMade,
    /// An [`Output::SendSnapshot`] is over.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// How it ended.
        result: SnapshotTransfer,
    },
    /// The data of a snapshot has arrived, whole and verified.
    SnapshotReceived {
        /// Who sent it.
        from: NodeId,
        /// The sender's term, which came with it.
        term: Term,
        /// What it is, which came with it.
        meta: SnapshotMeta,
    },
    /// The state machine is now the one that [`Output::InstallSnapshot`] named, durably.
    SnapshotInstalled {
        /// The snapshot's index.
        index: LogIndex,
    },
    /// The data of the snapshot that [`Output::InstallSnapshot`] named is not here or no good, and the state machine is
    /// the one that it was. The member stands as after a restart without its state: it asks for another one.
    SnapshotNotInstalled {
        /// The snapshot's index.
        index: LogIndex,
    },
    /// Entries below this index are in the state machine durably: the log may forget them. More than what is
    /// applied is never forgotten, nor what is kept for members that lag.
    Purge {
        /// The first index to keep.
        below: LogIndex,
    },
    /// Whether the disk that holds the log is nearly full. While it is, nothing is kept for members that lag: what the
    /// last [`Input::Purge`] named goes at once.
    DiskFull(bool),
    /// Hand the leadership to this voter.
    TransferLeader(NodeId),
    /// Messages to this member are known to be lost: probe before sending more.
    Unreachable(NodeId),
    /// Campaign now, if this member is a voter that may (tests, and a lone voter that need not wait).
    Campaign,
}

/// What a member wants done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Disk work; its completion comes back as [`Input::Io`]. Requests that are out together may run together.
    Io(IoRequest),
    /// Messages for one member, in order. Best effort.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        messages: Vec<RaftMessage>,
    },
    /// Entries to apply, in order, without gaps. [`Input::Applied`] follows when it is done.
    Committed(Vec<CommittedEntry>),
    /// A read may be served once the state machine has applied up to `index`.
    ReadReady {
        /// Of the read.
        token: u64,
        /// What must be applied.
        index: LogIndex,
    },
    /// A read cannot be served; it had no effect.
    ReadFailed {
        /// Of the read.
        token: u64,
        /// Why.
        reason: ReadFailure,
    },
    /// A proposal was not seen to commit here.
    ProposalDropped {
        /// Of the proposal.
        token: u64,
        /// Why, and whether it can still happen.
        reason: DropReason,
    },
    /// A member needs a snapshot and there is none that serves: make one of the state at an applied index of
    /// `at_least`, then [`Input::SnapshotMade`]. Not repeated until that is answered. Meanwhile the log is kept from
    /// `at_least` on, within [`RaftConfig::catch_up_bytes`](crate::RaftConfig::catch_up_bytes).
    MakeSnapshot {
        /// The least index that it must hold.
        at_least: LogIndex,
    },
    /// Stream the snapshot to a member, with `term` and `meta` beside it; then [`Input::SnapshotSent`]. One at a
    /// time per member; a repeated one for the same member replaces the last.
    SendSnapshot {
        /// To whom.
        to: NodeId,
        /// The term to pass on.
        term: Term,
        /// What to pass on; `meta.data` names the snapshot.
        meta: SnapshotMeta,
    },
    /// Replace the state machine by the received snapshot, durably, then [`Input::SnapshotInstalled`], or
    /// [`Input::SnapshotNotInstalled`] if it cannot be had from this data. No entry is delivered in between. A crash in
    /// between leaves a member that asks for another snapshot.
    InstallSnapshot {
        /// Which.
        meta: SnapshotMeta,
    },
    /// A snapshot that was received is of no use (old, doubled, or while another is being installed): its data may go.
    SnapshotIgnored {
        /// Who sent it.
        from: NodeId,
        /// What it is.
        meta: SnapshotMeta,
    },
    /// Somebody leads, or nobody does.
    LeaderChanged {
        /// Who.
        leader: Option<NodeId>,
        /// In which term.
        term: Term,
        /// True if it is this member.
        is_me: bool,
    },
    /// The membership as of the last delivered entry, or of the snapshot that has replaced the log.
    ConfChanged(RaftConfState),
    /// The entries in memory exceed their bound: sync the state machine, then [`Input::Purge`] up to here or less.
    PurgeWanted {
        /// Keeps about half of the bound.
        below: LogIndex,
    },
    /// Entries that were kept for members that lag are purged, because the disk is nearly full: those members will need
    /// a snapshot.
    KeptReleased {
        /// Entries up to here were kept so far.
        kept_after: LogIndex,
        /// Entries up to here are purged.
        purged: LogIndex,
    },
    /// The member has stopped for good. Nothing follows.
    Fatal(FatalError),
    /// Call again at this time at the latest; replaces the last.
    Wake(Monotonic),
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq)]
pub struct CommittedEntry {
    /// Its index.
    pub index: LogIndex,
    /// The term that it was proposed in.
    pub term: Term,
    /// What it holds.
    pub kind: EntryKind,
    /// Of the proposal, if it was made here and since open.
    pub token: Option<u64>,
}

/// What a committed entry holds.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryKind {
    /// Nothing: a leader's first, or a refused change. Only its index counts.
    Empty,
    /// A command.
    Command(Bytes),
    /// A membership change that has taken effect, with the membership that it leads to. The end of a joint change
    /// has no steps.
    Membership {
        /// The change.
        change: ConfChange,
        /// The membership from here on.
        conf: RaftConfState,
    },
}

/// A committed entry that is given out while the log is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedEntry {
    /// Its index.
    pub index: LogIndex,
    /// The term that it was proposed in.
    pub term: Term,
    /// The command; `None` for a membership change or a leader's first entry, of which only the index counts.
    pub command: Option<Bytes>,
}

/// Why a read failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadFailure {
    /// Too many are under way.
    Busy,
    /// No leader confirmed it in time.
    Timeout,
}

/// How the transfer of a snapshot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotTransfer {
    /// The receiver took all of it.
    Taken,
    /// It did not arrive whole. The same snapshot is sent again, as long as the log reaches it.
    Broken,
    /// It is gone or no good: another one is made.
    Unusable,
}

/// What a snapshot is: sent beside its data, and what a member's log begins after.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotMeta {
    /// The last index that it holds.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The membership as of that entry.
    pub conf: RaftConfState,
    /// Names the data for whoever streams it.
    pub data: Bytes,
}

impl From<SnapshotMeta> for RaftSnapshotMeta {
    fn from(meta: SnapshotMeta) -> Self {
        RaftSnapshotMeta {
            index: meta.index.0,
            term: meta.term.0,
            conf: Some(meta.conf),
            data: meta.data,
        }
    }
}

impl TryFrom<RaftSnapshotMeta> for SnapshotMeta {
    type Error = &'static str;

    fn try_from(meta: RaftSnapshotMeta) -> Result<Self, Self::Error> {
        let conf = meta.conf.ok_or("a snapshot without its membership")?;
        if meta.index == 0 || meta.term == 0 || conf.voters.is_empty() {
            return Err("a snapshot of nothing");
        }
        if !plausible::numbers([meta.index, meta.term]) {
            return Err("a snapshot behind every log's end");
        }
        if let Some(fault) = plausible::membership_fault(&conf) {
            return Err(fault);
        }
        Ok(SnapshotMeta {
            index: LogIndex(meta.index),
            term: Term(meta.term),
            conf,
            data: meta.data,
        })
    }
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// True if the log was begun by this open.
    pub fresh: bool,
    /// What the log begins after.
    pub purged: LogIndex,
    /// The last index of the log.
    pub last: LogIndex,
    /// What the state machine has applied: what it had, and what it was given while the log was opened.
    pub applied: LogIndex,
    /// What is known to be committed; entries from the applied index to here are delivered at once.
    pub commit: LogIndex,
    /// True if the state machine lacks purged entries: nothing is delivered until a snapshot is installed, and the
    /// member does not campaign.
    pub needs_snapshot: bool,
    /// A torn tail that was cut.
    pub torn: Option<Torn>,
}
