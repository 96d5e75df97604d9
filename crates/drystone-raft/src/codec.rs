//! raft-rs's types from and to ours. Foreign bytes are parsed by prost into ours; raft-rs's own parser sees only
//! what this member encoded itself.

use crate::{SnapshotMeta, plausible};
use bytes::Bytes;
use drystone_proto::raft::{
    ConfChange, ConfChangeStep, RaftConfState, RaftEntry, RaftMessage, RaftSnapshotMeta,
};
use drystone_types::{LogIndex, Term};
use prost::Message as _;
use raft::eraftpb::{self, ConfChangeType, EntryType, MessageType};

const ENTRY_NORMAL: u32 = 0;
const ENTRY_CONF: u32 = 1;

/// Why a message was not understood.
pub(crate) type Malformed = &'static str;

/// The kinds that travel between members, and no others: proposals and transfers are not forwarded by Raft, and a
/// snapshot message is handed over beside its data.
pub(crate) fn foreign_kind(kind: u32) -> Option<MessageType> {
    Some(match kind {
        3 => MessageType::MsgAppend,
        4 => MessageType::MsgAppendResponse,
        5 => MessageType::MsgRequestVote,
        6 => MessageType::MsgRequestVoteResponse,
        8 => MessageType::MsgHeartbeat,
        9 => MessageType::MsgHeartbeatResponse,
        14 => MessageType::MsgTimeoutNow,
        15 => MessageType::MsgReadIndex,
        16 => MessageType::MsgReadIndexResp,
        17 => MessageType::MsgRequestPreVote,
        18 => MessageType::MsgRequestPreVoteResponse,
        _ => return None,
    })
}

pub(crate) fn entry_to_proto(entry: &eraftpb::Entry) -> RaftEntry {
    RaftEntry {
        kind: match entry.get_entry_type() {
            EntryType::EntryNormal => ENTRY_NORMAL,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => ENTRY_CONF,
        },
        term: entry.term,
        index: entry.index,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

pub(crate) fn entry_from_proto(entry: RaftEntry) -> Result<eraftpb::Entry, Malformed> {
    let mut made = eraftpb::Entry::default();
    made.set_entry_type(match entry.kind {
        ENTRY_NORMAL => EntryType::EntryNormal,
        ENTRY_CONF => EntryType::EntryConfChangeV2,
        _ => return Err("unknown kind of entry"),
    });
    if entry.index == 0 {
        return Err("entry without an index");
    }
    made.term = entry.term;
    made.index = entry.index;
    made.data = entry.data;
    made.context = entry.context;
    Ok(made)
}

pub(crate) fn conf_to_proto(conf: &eraftpb::ConfState) -> RaftConfState {
    // raft-rs keeps sets: sorted here so that equal memberships are equal bytes on every member.
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    RaftConfState {
        voters: sorted(&conf.voters),
        learners: sorted(&conf.learners),
        voters_outgoing: sorted(&conf.voters_outgoing),
        learners_next: sorted(&conf.learners_next),
        auto_leave: conf.auto_leave,
    }
}

pub(crate) fn conf_from_proto(conf: &RaftConfState) -> eraftpb::ConfState {
    let mut made = eraftpb::ConfState::default();
    made.voters = conf.voters.clone();
    made.learners = conf.learners.clone();
    made.voters_outgoing = conf.voters_outgoing.clone();
    made.learners_next = conf.learners_next.clone();
    made.auto_leave = conf.auto_leave;
    made
}

pub(crate) fn snapshot_from_meta(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    snapshot.data = meta.data.clone();
    let made = snapshot.mut_metadata();
    made.index = meta.index.0;
    made.term = meta.term.0;
    made.set_conf_state(conf_from_proto(&meta.conf));
    snapshot
}

pub(crate) fn meta_from_snapshot(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    SnapshotMeta {
        index: LogIndex(meta.index),
        term: Term(meta.term),
        conf: conf_to_proto(meta.get_conf_state()),
        data: snapshot.data.clone(),
    }
}

/// A message of ours on its way out.
pub(crate) fn message_to_proto(message: &eraftpb::Message) -> RaftMessage {
    RaftMessage {
        kind: message.get_msg_type() as u32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.iter().map(entry_to_proto).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: message
            .has_snapshot()
            .then(|| RaftSnapshotMeta::from(meta_from_snapshot(message.get_snapshot()))),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context.clone(),
        priority: message.priority,
        kept_after: 0,
    }
}

/// A foreign message, checked for what raft-rs takes for granted.
pub(crate) fn message_from_proto(message: RaftMessage) -> Result<eraftpb::Message, Malformed> {
    let kind = foreign_kind(message.kind).ok_or("kind does not travel")?;
    let mut made = eraftpb::Message::default();
    made.set_msg_type(kind);
    let local_term = kind == MessageType::MsgReadIndex;
    if message.from == 0 || (message.term == 0) != local_term {
        return Err("no sender or term");
    }
    let numbers = [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
    ];
    if !plausible::numbers(numbers) {
        return Err("numbers that no log reaches");
    }
    match kind {
        MessageType::MsgAppend => {
            // raft-rs says term 0 of every index that it does not have, and would take the entries for its next ones.
            if (message.log_term == 0) != (message.index == 0) {
                return Err("no term before the entries");
            }
            let (mut index, mut term) = (message.index, message.log_term);
            for entry in &message.entries {
                index = index.checked_add(1).ok_or("index overflows")?;
                if entry.index != index || entry.term < term || entry.term > message.term {
                    return Err("entries are not consecutive");
                }
                term = entry.term;
            }
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp if message.entries.len() != 1 => {
            return Err("read without its context");
        }
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {}
        _ if !message.entries.is_empty() => return Err("entries where none belong"),
        _ => {}
    }
    if message.snapshot.is_some() {
        return Err("snapshot where none belongs");
    }
    made.to = message.to;
    made.from = message.from;
    made.term = message.term;
    made.log_term = message.log_term;
    made.index = message.index;
    let read = matches!(kind, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp);
    let entries: Vec<eraftpb::Entry> = if read {
        message.entries.into_iter().map(context_entry).collect()
    } else {
        message
            .entries
            .into_iter()
            .map(entry_from_proto)
            .collect::<Result<_, _>>()?
    };
    made.set_entries(entries.into());
    made.commit = message.commit;
    made.commit_term = message.commit_term;
    made.request_snapshot = message.request_snapshot;
    made.reject = message.reject;
    made.reject_hint = message.reject_hint;
    made.context = message.context;
    made.priority = message.priority;
    Ok(made)
}

// A read's entry is only the vessel of its context.
fn context_entry(entry: RaftEntry) -> eraftpb::Entry {
    let mut made = eraftpb::Entry::default();
    made.data = entry.data;
    made
}

/// The form of raft-rs's ConfChangeV2 in the log (raft-rs parses the leader's own to check it).
#[derive(Clone, PartialEq, prost::Message)]
struct LoggedConfChange {
    #[prost(uint32, tag = "1")]
    transition: u32,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<LoggedStep>,
    #[prost(bytes = "bytes", tag = "3")]
    context: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct LoggedStep {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    node: u64,
}

/// The entry data of a membership change.
pub(crate) fn encode_change(change: &ConfChange) -> Bytes {
    let changes = change
        .steps
        .iter()
        .map(|step| LoggedStep {
            kind: step.kind,
            node: step.node,
        })
        .collect();
    let logged = LoggedConfChange {
        transition: change.transition,
        changes,
        context: change.context.clone(),
    };
    logged.encode_to_vec().into()
}

/// The membership change in entry data; empty data is the end of a joint change.
pub(crate) fn decode_change(data: &Bytes) -> Result<ConfChange, String> {
    let logged = LoggedConfChange::decode(data.clone()).map_err(|error| error.to_string())?;
    let steps = logged
        .changes
        .iter()
        .map(|step| ConfChangeStep {
            kind: step.kind,
            node: step.node,
        })
        .collect();
    Ok(ConfChange {
        steps,
        context: logged.context,
        transition: logged.transition,
    })
}

/// As raft-rs wants it.
pub(crate) fn change_to_raft(change: &ConfChange) -> Result<eraftpb::ConfChangeV2, String> {
    let mut made = eraftpb::ConfChangeV2::default();
    let steps: Vec<_> = change
        .steps
        .iter()
        .map(|step| {
            let mut single = eraftpb::ConfChangeSingle::default();
            single.set_change_type(match step.kind {
                0 => ConfChangeType::AddNode,
                1 => ConfChangeType::RemoveNode,
                2 => ConfChangeType::AddLearnerNode,
                kind => return Err(format!("unknown step {kind}")),
            });
            if step.node == 0 {
                return Err("node 0".to_owned());
            }
            single.node_id = step.node;
            Ok(single)
        })
        .collect::<Result<_, _>>()?;
    if change.transition != 0 {
        return Err(format!("transition {} is not in use", change.transition));
    }
    made.set_changes(steps.into());
    made.context = change.context.clone();
    Ok(made)
}

#[cfg(test)]
mod tests;
