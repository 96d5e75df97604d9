//! Membership changes.

use super::RaftNode;
use super::inputs::tolerate;
use crate::codec::{change_to_raft, encode_change};
use crate::{DropReason, FatalError};
use bytes::Bytes;
use drystone_proto::raft::ConfChange;
use raft::Changer;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

fn change_message(data: Bytes) -> Message {
    let mut entry = Entry::default();
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry.data = data;
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgPropose);
    message.set_entries(vec![entry].into());
    message
}

impl RaftNode {
    pub(super) fn propose_change(&mut self, token: u64, change: &ConfChange) -> Result<(), FatalError> {
        if let Some(reason) = self.refuses_proposals() {
            self.drop_proposal(token, reason);
            return Ok(());
        }
        if change.steps.is_empty() || !self.would_take(change) {
            self.drop_proposal(token, DropReason::Refused);
            return Ok(());
        }
        if self.step_own(change_message(encode_change(change))).is_err() {
            self.drop_proposal(token, DropReason::Busy);
            return Ok(());
        }
        // raft-rs turns a change that may not be proposed now into an empty entry.
        let raft = &self.raw.raft;
        let taken = raft.raft_log.unstable_entries().last().map(Entry::get_entry_type);
        if taken == Some(EntryType::EntryConfChangeV2) {
            let (index, term) = (raft.raft_log.last_index(), raft.term);
            self.proposals.proposed(token, index, term);
        } else {
            self.drop_proposal(token, DropReason::Refused);
        }
        Ok(())
    }

    fn would_take(&self, change: &ConfChange) -> bool {
        let Ok(change) = change_to_raft(change) else {
            return false;
        };
        let mut changer = Changer::new(self.raw.raft.prs());
        let steps: Vec<_> = change.changes.iter().cloned().collect();
        match steps.len() {
            1 => changer.simple(&steps).is_ok(),
            _ => changer.enter_joint(true, &steps).is_ok(),
        }
    }

    /// raft-rs does not survive that a leader applies its own removal.
    pub(super) fn step_down_if_removed_by(&mut self, change: &ConfChange) {
        if !self.is_leader() {
            return;
        }
        let me = self.config.id.0;
        let removed = match change.steps.as_slice() {
            [] => !self.raw.store().latest_conf().voters.contains(&me),
            [step] => step.node == me && step.kind != 0,
            // A joint change keeps the outgoing voters until it is left.
            _ => false,
        };
        if removed {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
            self.after_call();
        }
    }

    /// A leader that was elected in the middle of a joint change ends it; raft-rs only does so for its own.
    pub(super) fn leave_joint_if_due(&mut self) -> Result<(), FatalError> {
        let conf = self.raw.store().latest_conf();
        let due = conf.auto_leave
            && !conf.voters_outgoing.is_empty()
            && self.leads_surely()
            && !self.raw.raft.has_pending_conf();
        if due {
            self.step_own(change_message(Bytes::new())).or_else(tolerate)?;
        }
        Ok(())
    }
}
