//! From committed entries to the shell.

use super::RaftNode;
use crate::codec::{change_to_raft, decode_change};
use crate::log::cost;
use crate::{CommittedEntry, EntryKind, FatalError, Output};
use drystone_proto::raft::ConfChange;
use drystone_types::{LogIndex, Term};
use raft::eraftpb::{Entry, EntryType, Message};
use std::collections::VecDeque;

// Rounds of delivery that the shell may hold and not have applied: enough that it never waits for the next one, and
// a bound of its queue.
const ROUNDS_AHEAD: u64 = 4;

/// What was committed so many ticks ago is applied, unless there is a backlog.
const BACKLOG_TICKS: usize = 8;

/// How far delivery is.
pub(super) struct Delivery {
    /// What raft-rs has handed over as committed.
    pub emitted: u64,
    /// What the shell was given.
    pub delivered: u64,
    /// What the shell has applied.
    pub applied: u64,
    /// The state machine lacks purged entries: nothing is delivered before a snapshot is installed.
    pub gap: bool,
    /// Memory of the entries that raft-rs took and has not handed over for the log.
    pub arriving: u64,
    /// What was committed at the last ticks, the newest last.
    committed: VecDeque<u64>,
}

impl Delivery {
    pub(super) fn new(base: u64, applied: u64, gap: bool) -> Self {
        let delivered = if gap { applied } else { applied.max(base) };
        Self {
            emitted: base,
            delivered,
            applied: delivered,
            gap,
            arriving: 0,
            committed: VecDeque::from([base; BACKLOG_TICKS]),
        }
    }

    /// A tick has passed.
    pub(super) fn tick(&mut self) {
        self.committed.push_back(self.emitted);
        self.committed.pop_front();
    }

    /// The state machine lacks what was committed some ticks ago: it does not keep up, or was away.
    pub(super) fn has_backlog(&self) -> bool {
        self.committed
            .front()
            .is_some_and(|committed| self.applied < *committed)
    }

    /// The log begins after a snapshot; the state follows when it is installed.
    pub(super) fn log_replaced(&mut self, index: u64) {
        self.emitted = index;
    }

    pub(super) fn installed(&mut self, index: u64) {
        assert!(
            index >= self.applied,
            "a state of {index} takes the place of one of {}",
            self.applied
        );
        self.emitted = self.emitted.max(index);
        self.delivered = index;
        self.applied = index;
        self.gap = false;
    }
}

impl RaftNode {
    /// Membership changes take effect here, in the order of the log and before they are delivered.
    pub(super) fn take_committed(&mut self, committed: &[Entry]) -> Result<(), FatalError> {
        for entry in committed {
            if entry.get_entry_type() != EntryType::EntryNormal {
                let change = read_change(entry)?;
                self.apply_change(entry.index, &change);
            }
            self.delivery.emitted = entry.index;
        }
        Ok(())
    }

    fn apply_change(&mut self, index: u64, change: &ConfChange) {
        self.step_down_if_removed_by(change);
        let applied = change_to_raft(change).and_then(|change| {
            self.raw
                .apply_conf_change(&change)
                .map_err(|error| error.to_string())
        });
        match applied {
            Ok(conf) => {
                self.raw.mut_store().push_conf(index, &conf);
                let conf = self.raw.store().latest_conf().clone();
                tracing::info!(node = self.config.id.0, index, ?conf, "membership changed");
                self.out.push(Output::ConfChanged(conf));
            }
            // Every member comes to the same verdict from the same membership: the entry counts as empty.
            Err(reason) => tracing::warn!(
                node = self.config.id.0,
                index,
                reason,
                "membership change is void"
            ),
        }
        self.after_call();
    }

    /// True while more is committed and not applied than a leader may add to.
    pub(super) fn lags_in_applying(&self) -> bool {
        let Delivery { emitted, applied, .. } = self.delivery;
        emitted.saturating_sub(applied) >= self.config.max_unapplied_entries
            || self.raw.store().bytes_between(applied, emitted) >= self.config.max_unapplied_bytes
    }

    /// Takes from an append what this follower has no room for, while it holds as much that it has not applied as a
    /// leader may ever have under way: so its memory has a bound. What it holds already stays in the message, so that
    /// the leader learns of it and says what is committed; the leader finds it slow and sends the rest again. Entries
    /// that replace others have room: without them a follower that is full of what a deposed leader left would stay so.
    pub(super) fn bound_entries(&mut self, message: &mut Message) {
        if message.entries.is_empty() {
            return;
        }
        let store = self.raw.store();
        let held = store.bytes_between(self.delivery.applied, store.last());
        let most = self.config.max_unapplied_bytes + self.config.max_uncommitted_bytes;
        if held + self.delivery.arriving >= most {
            let log = &self.raw.raft.raft_log;
            let last = log.last_index();
            let here = |entry: &&Entry| entry.index <= last;
            let replaces = |entry: &Entry| log.term(entry.index).is_ok_and(|term| term != entry.term);
            if !message.entries.iter().take_while(here).any(replaces) {
                let kept = message.entries.iter().take_while(here).count();
                message.entries.truncate(kept);
            }
        }
        self.delivery.arriving += message.entries.iter().map(cost).sum::<u64>();
    }

    /// True while the shell holds as much as it may; the next that it has applied lets delivery go on.
    fn shell_is_full(&self) -> bool {
        let Delivery {
            delivered, applied, ..
        } = self.delivery;
        let window = self.config.max_committed_bytes.saturating_mul(ROUNDS_AHEAD);
        self.raw.store().bytes_between(applied, delivered) >= window
    }

    /// Gives the shell what it may apply, some rounds ahead of what it has applied: the rest waits in the log.
    pub(super) fn deliver(&mut self) -> Result<(), FatalError> {
        if self.delivery.gap || self.snapshots.is_installing() {
            return Ok(());
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        while self.delivery.delivered < self.delivery.emitted && !self.shell_is_full() {
            let index = self.delivery.delivered + 1;
            let Some(entry) = self.raw.store().get(index) else {
                return Err(FatalError::Raft(format!(
                    "committed entry {index} is not in the log"
                )));
            };
            assert!(
                entry.index == index && entry.term <= self.raw.raft.term,
                "entry {} of term {} is delivered as {index} in term {}",
                entry.index,
                entry.term,
                self.raw.raft.term
            );
            bytes += entry.data.len() as u64;
            let (term, kind) = (Term(entry.term), self.kind_of(entry)?);
            let token = self.proposals.committed(LogIndex(index), term, &mut self.out);
            entries.push(CommittedEntry {
                index: LogIndex(index),
                term,
                kind,
                token,
            });
            self.delivery.delivered = index;
            if bytes >= self.config.max_committed_bytes {
                self.out.push(Output::Committed(std::mem::take(&mut entries)));
                bytes = 0;
            }
        }
        if !entries.is_empty() {
            self.out.push(Output::Committed(entries));
        }
        let Delivery {
            emitted,
            delivered,
            applied,
            ..
        } = self.delivery;
        assert!(
            applied <= delivered && delivered <= emitted && emitted <= self.raw.raft.raft_log.committed,
            "{applied} is applied, {delivered} delivered, {emitted} handed over"
        );
        Ok(())
    }

    fn kind_of(&self, entry: &Entry) -> Result<EntryKind, FatalError> {
        if entry.get_entry_type() != EntryType::EntryNormal {
            return Ok(match self.raw.store().conf_made_by(entry.index) {
                Some(conf) => EntryKind::Membership {
                    change: read_change(entry)?,
                    conf: conf.clone(),
                },
                None => EntryKind::Empty,
            });
        }
        Ok(if entry.data.is_empty() {
            EntryKind::Empty
        } else {
            EntryKind::Command(entry.data.clone())
        })
    }

    /// Passes on to raft-rs what the shell has applied, as far as raft-rs can follow.
    pub(super) fn tell_applied(&mut self) {
        if self.delivery.gap || self.snapshots.is_installing() {
            return;
        }
        let log = &self.raw.raft.raft_log;
        let to = self
            .delivery
            .applied
            .min(self.delivery.emitted)
            .min(log.committed)
            .min(log.persisted);
        if to > log.applied {
            self.raw.advance_apply_to(to);
        }
    }
}

fn read_change(entry: &Entry) -> Result<ConfChange, FatalError> {
    decode_change(&entry.data).map_err(|reason| FatalError::Membership {
        index: LogIndex(entry.index),
        reason,
    })
}
