//! What each input sets in motion.

use super::RaftNode;
use crate::codec::message_from_proto;
use crate::{FatalError, Input};
use drystone_env::Monotonic;
use drystone_proto::raft::RaftMessage;
use drystone_types::{LogIndex, NodeId, Term};
use raft::eraftpb::{Message, MessageType};

impl RaftNode {
    pub(super) fn take_input(&mut self, now: Monotonic, input: Input) -> Result<(), FatalError> {
        match input {
            Input::Tick => {}
            Input::Messages(messages) => {
                for message in messages {
                    self.take_message(message)?;
                }
            }
            Input::Propose { token, data } => self.propose(token, data)?,
            Input::ProposeConf { token, change } => self.propose_change(token, &change)?,
            Input::ReadIndex { token } => self.reads.ask(token, self.ticks, &mut self.out),
            Input::Io(completion) => {
                if self.log.on_completion(now, completion, &mut self.io)? {
                    self.drive()?;
                }
            }
            Input::Applied { index } => {
                self.delivery.applied = self.delivery.applied.max(index.0).min(self.delivery.delivered);
            }
            Input::SnapshotMade { index, id } => self.snapshot_made(index, id),
            Input::SnapshotNotMade => self.snapshots.not_made(),
            Input::SnapshotSent { to, result } => self.snapshot_sent(to, result),
            Input::SnapshotReceived { from, term, meta } => self.snapshot_received(from, term, meta)?,
            Input::SnapshotInstalled { index } => self.snapshot_installed(index)?,
            Input::SnapshotNotInstalled { index } => self.snapshot_not_installed(index)?,
            Input::Purge { below } => self.purge(below),
            Input::DiskFull(full) => self.set_disk_full(full),
            Input::TransferLeader(to) => {
                if self.is_leader() {
                    self.raw.transfer_leader(to.0);
                }
            }
            Input::Unreachable(to) => self.raw.report_unreachable(to.0),
            Input::Campaign => {
                if self.may_campaign() {
                    self.raw.campaign().or_else(tolerate)?;
                }
            }
        }
        self.after_call();
        Ok(())
    }

    /// raft-rs lets anybody campaign who is told to, and panics if one wins that is no voter.
    fn may_campaign(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        self.raw.raft.promotable() && !self.delivery.gap && log.persisted == log.last_index()
    }

    fn take_message(&mut self, message: RaftMessage) -> Result<(), FatalError> {
        let (from, kind, kept_after) = (message.from, message.kind, message.kept_after);
        let ours = message.to == self.config.id.0 && from != self.config.id.0;
        let mut message = match message_from_proto(message) {
            Ok(message) if ours => message,
            Ok(_) => return Ok(()),
            Err(reason) => {
                tracing::warn!(
                    node = self.config.id.0,
                    from,
                    kind,
                    reason,
                    "raft message dropped"
                );
                return Ok(());
            }
        };
        self.check_own_log(&message)?;
        if self.is_leader() && message.term >= self.raw.raft.term {
            self.snapshots.heard(message.from, self.ticks);
        }
        let (kind, term) = (message.get_msg_type(), message.term);
        if kind == MessageType::MsgAppendResponse && message.request_snapshot != 0 {
            self.state_requested(NodeId(message.from), LogIndex(message.request_snapshot));
            return Ok(());
        }
        if kind == MessageType::MsgAppend {
            self.bound_entries(&mut message);
        }
        if kind == MessageType::MsgTimeoutNow && !self.may_campaign() {
            return Ok(());
        }
        if kind == MessageType::MsgReadIndex && self.is_leader() && !self.leads_surely() {
            // raft-rs would drop it without a word.
            self.reads.hold(message);
            return Ok(());
        }
        self.raw.step(message).or_else(tolerate)?;
        self.after_call();
        let raft = &self.raw.raft;
        if kind == MessageType::MsgHeartbeat && (raft.leader_id, raft.term) == (from, term) {
            self.snapshots.told(kept_after, self.ticks);
        }
        match kind {
            MessageType::MsgAppend
            | MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeat
            | MessageType::MsgHeartbeatResponse => Ok(()),
            // What a vote promises is handed over before the role can change again in the same batch.
            _ => self.drive(),
        }
    }

    // A leader only says that what this member acknowledged is committed: if it is not here, the log was lost, and
    // raft-rs would panic.
    fn check_own_log(&self, message: &Message) -> Result<(), FatalError> {
        let last = self.raw.raft.raft_log.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.raw.raft.term
            && message.commit > last
        {
            return Err(FatalError::LogLost {
                leader: NodeId(message.from),
                term: Term(message.term),
                commit: LogIndex(message.commit),
                last: LogIndex(last),
            });
        }
        Ok(())
    }

    /// Steps a message of our own making.
    pub(super) fn step_own(&mut self, message: Message) -> raft::Result<()> {
        let stepped = self.raw.raft.step(message);
        self.after_call();
        stepped
    }
}

/// Errors that say "not now" are no errors; what is left is a fault of storage.
pub(super) fn tolerate(error: raft::Error) -> Result<(), FatalError> {
    match error {
        raft::Error::StepPeerNotFound | raft::Error::ProposalDropped | raft::Error::StepLocalMsg => Ok(()),
        error => Err(FatalError::Raft(error.to_string())),
    }
}
