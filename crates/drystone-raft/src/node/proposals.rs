//! Proposals and what became of them: each token is answered once.

use super::RaftNode;
use crate::{DropReason, FatalError, Output};
use bytes::Bytes;
use drystone_types::{LogIndex, NodeId, Term};
use raft::eraftpb::{Entry, Message, MessageType};
use std::collections::BTreeMap;

// What a record adds to the data.
const RECORD_OVERHEAD: usize = 64;

struct Waiting {
    token: u64,
    /// When it is given up, in ticks; set when its leader is deposed.
    deadline: Option<u64>,
}

/// Proposals whose entries are in the log and not delivered.
pub(super) struct Proposals {
    most: usize,
    timeout: u64,
    /// By index and term: two leaderships may have put entries of ours at one index.
    waiting: BTreeMap<(u64, u64), Waiting>,
}

impl Proposals {
    pub(super) fn new(most: usize, timeout: u32) -> Self {
        Self {
            most,
            timeout: timeout.into(),
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn proposed(&mut self, token: u64, index: u64, term: u64) {
        self.waiting.insert(
            (index, term),
            Waiting {
                token,
                deadline: None,
            },
        );
    }

    /// The entry at `index` is committed: the token of this one; others that were at its index are overtaken.
    pub(super) fn committed(&mut self, index: LogIndex, term: Term, out: &mut Vec<Output>) -> Option<u64> {
        let mut mine = None;
        while let Some(first) = self.waiting.first_entry() {
            let (at, of) = *first.key();
            if at > index.0 {
                break;
            }
            let token = first.remove().token;
            if (at, of) == (index.0, term.0) {
                mine = Some(token);
            } else {
                out.push(Output::ProposalDropped {
                    token,
                    reason: DropReason::Overtaken,
                });
            }
        }
        mine
    }

    /// A snapshot covers everything up to `index`: what was in it is not known.
    pub(super) fn covered(&mut self, index: LogIndex, out: &mut Vec<Output>) {
        let rest = self.waiting.split_off(&(index.0 + 1, 0));
        for (_, waiting) in std::mem::replace(&mut self.waiting, rest) {
            out.push(Output::ProposalDropped {
                token: waiting.token,
                reason: DropReason::Unknown,
            });
        }
    }

    /// The leadership that they were proposed under is over.
    pub(super) fn deposed(&mut self, now: u64) {
        for waiting in self.waiting.values_mut() {
            waiting.deadline.get_or_insert(now + self.timeout);
        }
    }

    pub(super) fn expire(&mut self, now: u64, out: &mut Vec<Output>) {
        self.waiting.retain(|_, waiting| {
            let over = waiting.deadline.is_some_and(|deadline| now >= deadline);
            if over {
                out.push(Output::ProposalDropped {
                    token: waiting.token,
                    reason: DropReason::Unknown,
                });
            }
            !over
        });
    }
}

impl RaftNode {
    pub(super) fn propose(&mut self, token: u64, data: Bytes) -> Result<(), FatalError> {
        if let Some(reason) = self.refuses_proposals() {
            self.drop_proposal(token, reason);
            return Ok(());
        }
        let longest = self.config.log.max_record_bytes().saturating_sub(RECORD_OVERHEAD);
        if data.is_empty() || data.len() > longest {
            self.drop_proposal(token, DropReason::Refused);
            return Ok(());
        }
        let mut entry = Entry::default();
        entry.data = data;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![entry].into());
        match self.step_own(message) {
            Ok(()) => {
                let (index, term) = (self.raw.raft.raft_log.last_index(), self.raw.raft.term);
                self.proposals.proposed(token, index, term);
            }
            // Its only reason left is too many uncommitted bytes.
            Err(raft::Error::ProposalDropped) => self.drop_proposal(token, DropReason::Busy),
            Err(error) => return Err(FatalError::Raft(error.to_string())),
        }
        Ok(())
    }

    /// Why no proposal is taken now.
    pub(super) fn refuses_proposals(&self) -> Option<DropReason> {
        let raft = &self.raw.raft;
        let member = raft.prs().get(self.config.id.0).is_some();
        if !self.is_leader() || raft.lead_transferee.is_some() || !member {
            let leader = raft.lead_transferee.unwrap_or(raft.leader_id);
            return Some(DropReason::NotLeader {
                leader: (leader != 0).then_some(NodeId(leader)),
            });
        }
        let busy = self.proposals.waiting.len() >= self.proposals.most || self.lags_in_applying();
        busy.then_some(DropReason::Busy)
    }

    pub(super) fn drop_proposal(&mut self, token: u64, reason: DropReason) {
        self.out.push(Output::ProposalDropped { token, reason });
    }
}
