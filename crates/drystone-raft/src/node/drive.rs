//! From raft-rs to the log, the mail and back: several rounds may wait for their sync at once.

use super::RaftNode;
use crate::codec::{message_to_proto, meta_from_snapshot};
use crate::log::{Base, Record};
use crate::{FatalError, Output, SnapshotMeta};
use drystone_proto::raft::RaftHardState;
use drystone_wal::Lsn;
use raft::eraftpb::{Message, MessageType};

/// A round of raft-rs whose records are on their way.
pub(super) struct Outstanding {
    number: u64,
    /// What must be durable before the round counts as persisted.
    lsn: Lsn,
    /// What it promises once that is so.
    messages: Vec<Message>,
    /// The snapshot that replaced the log in it.
    snapshot: Option<SnapshotMeta>,
}

impl RaftNode {
    /// Goes round until raft-rs has nothing more to hand over, or the log has no room.
    pub(super) fn drive(&mut self) -> Result<(), FatalError> {
        loop {
            self.log.fill()?;
            self.settle();
            self.tell_applied();
            self.issue_reads()?;
            self.after_call();
            if self.log.is_backed_up() || !self.raw.has_ready() {
                break;
            }
            self.take_ready()?;
        }
        self.poll_snapshots();
        self.deliver()
    }

    fn take_ready(&mut self) -> Result<(), FatalError> {
        let mut ready = self.raw.ready();
        self.delivery.arriving = 0;
        // A leader's messages promise nothing of its own that is not synced: they go at once.
        let messages = ready.take_messages();
        let must_sync = ready.must_sync();
        let hard = ready.hs().map(|hard| RaftHardState {
            term: hard.term,
            vote: hard.vote,
            commit: hard.commit,
        });
        let snapshot = (!ready.snapshot().is_empty()).then(|| meta_from_snapshot(ready.snapshot()));
        let entries = ready.take_entries();
        let before = self.hard;
        if let Some(hard) = hard {
            self.log_state_before(hard, must_sync, snapshot.is_some() || !entries.is_empty());
        }
        if let Some(meta) = &snapshot {
            self.replace_log(meta);
        }
        for entry in entries {
            assert!(
                entry.index > before.commit,
                "entry {} is written anew, and {} is committed",
                entry.index,
                before.commit
            );
            let record = Record::Entry(crate::codec::entry_to_proto(&entry));
            self.urgent = self.log.push(&record, true);
            self.raw.mut_store().put(entry, self.urgent);
        }
        self.log_commit_behind();
        let number = ready.number();
        let promises = ready.take_persisted_messages();
        self.outstanding.push_back(Outstanding {
            number,
            lsn: self.urgent,
            messages: promises,
            snapshot,
        });
        let reads = ready.take_read_states();
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        for message in &messages {
            self.post(message);
        }
        for read in reads {
            self.reads.answer(&read.request_ctx, read.index, &mut self.out);
        }
        self.take_committed(&committed)
    }

    /// Logs term and vote before what may be of that term. What is committed is said only behind the entries that it is
    /// said of: the disk may keep the records up to this one, and the entries that stood at those indexes before would
    /// be taken for committed.
    fn log_state_before(&mut self, hard: RaftHardState, must_sync: bool, something_follows: bool) {
        let before = self.hard;
        assert!(
            hard.term > before.term || (hard.term == before.term && self.keeps_vote(hard.vote)),
            "term {} and vote {} after term {} and vote {}",
            hard.term,
            hard.vote,
            before.term,
            before.vote
        );
        assert!(
            hard.commit >= before.commit,
            "{} is committed after {}",
            hard.commit,
            before.commit
        );
        self.hard = hard;
        let first = match something_follows {
            true => RaftHardState {
                commit: before.commit,
                ..hard
            },
            false => hard,
        };
        if first != before {
            self.log_state(first, must_sync);
        }
    }

    /// Logs what is committed, if that is not yet said.
    fn log_commit_behind(&mut self) {
        if self.hard != self.logged {
            self.log_state(self.hard, false);
        }
    }

    pub(super) fn log_state(&mut self, state: RaftHardState, must_sync: bool) {
        let lsn = self.log.push(&Record::State(state), must_sync);
        self.logged = state;
        if must_sync {
            self.urgent = lsn;
        }
    }

    /// A vote is given once in a term.
    fn keeps_vote(&self, vote: u64) -> bool {
        self.hard.vote == 0 || self.hard.vote == vote
    }

    fn replace_log(&mut self, meta: &SnapshotMeta) {
        let base = Base {
            node: self.config.id,
            index: meta.index,
            term: meta.term,
            conf: meta.conf.clone(),
            reset: true,
        };
        self.urgent = self.log.push(&Record::Base(base), true);
        self.raw.mut_store().reset(meta);
        self.out.push(Output::ConfChanged(meta.conf.clone()));
        self.delivery.log_replaced(meta.index.0);
        self.snapshots.log_replaced(meta.index);
        self.proposals.covered(meta.index, &mut self.out);
    }

    // Rounds whose records are durable: their promises leave, and raft-rs learns of it.
    fn settle(&mut self) {
        let durable = self.log.durable();
        assert!(
            self.outstanding
                .iter()
                .is_sorted_by_key(|round| (round.number, round.lsn)),
            "rounds are synced in their order"
        );
        while self.outstanding.front().is_some_and(|round| round.lsn <= durable) {
            let Some(round) = self.outstanding.pop_front() else {
                break;
            };
            if let Some(meta) = round.snapshot {
                self.snapshots.log_replaced_durably();
                self.out.push(Output::InstallSnapshot { meta });
            }
            for message in round.messages {
                // Until the snapshot's data is in place this member does not claim to hold what it covers; all
                // else goes out, so that the leader does not take it for dead.
                let claims = message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject;
                if claims && self.snapshots.installs_log() {
                    self.snapshots.hold(message);
                } else {
                    self.post(&message);
                }
            }
            if !self.snapshots.defer_persisted(round.number) {
                self.raw.on_persist_ready(round.number);
            }
        }
    }

    /// Puts a message into the mail, or asks the shell to stream if it is a snapshot.
    pub(super) fn post(&mut self, message: &Message) {
        if message.get_msg_type() == MessageType::MsgSnapshot {
            let meta = meta_from_snapshot(message.get_snapshot());
            self.snapshots.send(message.to, message.term, meta, &mut self.out);
        } else {
            let mut mail = message_to_proto(message);
            if message.get_msg_type() == MessageType::MsgHeartbeat {
                let kept_after = self.kept_after();
                mail.kept_after = if kept_after == u64::MAX { 0 } else { kept_after };
            }
            self.mail.entry(message.to).or_default().push(mail);
        }
    }
}
