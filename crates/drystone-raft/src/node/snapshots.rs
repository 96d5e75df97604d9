//! Snapshots: making, sending, receiving, installing; and the purge of what the state machine holds.

use super::RaftNode;
use super::inputs::tolerate;
use crate::codec::snapshot_from_meta;
use crate::log::{Base, Record};
use crate::{FatalError, Output, SnapshotMeta, SnapshotTransfer, plausible};
use bytes::Bytes;
use drystone_proto::raft::RaftMessage;
use drystone_types::{LogIndex, NodeId, Term};
use raft::SnapshotStatus;
use raft::eraftpb::{Message, MessageType};
use std::collections::{BTreeMap, BTreeSet};

// A member whose state lacks entries repeats its request as often: the answer takes long, a lost request little.
const REQUEST_EVERY_TICKS: u64 = 20;
// raft-rs's number of an append response, which carries the request.
const APPEND_RESPONSE: u32 = 4;

enum Installing {
    /// The log was replaced too; raft-rs learns of the rounds since then up to this one when it is done.
    /// `synced`: the log's new beginning is durable, and the state machine was asked to follow.
    Log {
        index: LogIndex,
        synced: bool,
        persisted: u64,
        held: Vec<Message>,
    },
    /// Only the state machine: the log goes on.
    State { index: LogIndex },
}

/// Snapshots under way.
#[derive(Default)]
pub(super) struct Snapshots {
    /// The least index of the one that the shell is making.
    making: Option<u64>,
    installing: Option<Installing>,
    /// Members that are being sent one.
    sending: BTreeSet<u64>,
    /// While leading: the index of the snapshot that each member was sent last.
    sent: BTreeMap<u64, u64>,
    /// While leading: when each member was heard last, in ticks.
    heard: BTreeMap<u64, u64>,
    /// Behind which index the last leader keeps entries for members that lag, and when it said so, in ticks.
    told: Option<(u64, u64)>,
    /// Nothing is kept for members that lag.
    disk_full: bool,
    /// What the last purge was asked to go below.
    purge_wanted: LogIndex,
}

impl Snapshots {
    pub(super) fn deposed(&mut self) {
        self.sending.clear();
        self.sent.clear();
        self.heard.clear();
    }

    /// The leader keeps the entries behind this index for members that lag; 0: none.
    pub(super) fn told(&mut self, kept_after: u64, tick: u64) {
        self.told = (kept_after > 0).then_some((kept_after, tick));
    }

    /// A member sent a message of this term to this leader.
    pub(super) fn heard(&mut self, from: u64, tick: u64) {
        self.heard.insert(from, tick);
    }

    pub(super) fn not_made(&mut self) {
        self.making = None;
    }

    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    pub(super) fn installs_log(&self) -> bool {
        matches!(self.installing, Some(Installing::Log { synced: true, .. }))
    }

    /// True while the shell installs the snapshot of this index.
    fn installs(&self, of: LogIndex) -> bool {
        match self.installing {
            Some(Installing::Log { index, synced, .. }) => synced && index == of,
            Some(Installing::State { index }) => index == of,
            None => false,
        }
    }

    /// The log has been replaced, in memory.
    pub(super) fn log_replaced(&mut self, index: LogIndex) {
        self.installing = Some(Installing::Log {
            index,
            synced: false,
            persisted: 0,
            held: Vec::new(),
        });
    }

    /// The log has been replaced, durably.
    pub(super) fn log_replaced_durably(&mut self) {
        if let Some(Installing::Log { synced, .. }) = &mut self.installing {
            *synced = true;
        }
    }

    pub(super) fn hold(&mut self, message: Message) {
        if let Some(Installing::Log { held, .. }) = &mut self.installing {
            // Bounded by what a leader sends to a member that does not acknowledge: one probe a heartbeat. Only
            // the last acknowledgement counts.
            held.retain(|old| old.to != message.to || old.term != message.term);
            held.push(message);
        }
    }

    /// True if raft-rs learns of this round only when the snapshot is installed.
    pub(super) fn defer_persisted(&mut self, round: u64) -> bool {
        let Some(Installing::Log {
            synced: true,
            persisted,
            ..
        }) = &mut self.installing
        else {
            return false;
        };
        *persisted = round;
        true
    }

    pub(super) fn send(&mut self, to: u64, term: u64, meta: SnapshotMeta, out: &mut Vec<Output>) {
        self.sending.insert(to);
        self.sent.insert(to, meta.index.0);
        out.push(Output::SendSnapshot {
            to: NodeId(to),
            term: Term(term),
            meta,
        });
    }
}

impl RaftNode {
    /// Passes on the wish for a snapshot.
    pub(super) fn poll_snapshots(&mut self) {
        if self.snapshots.making.is_some() {
            return;
        }
        if let Some(at_least) = self.raw.store().take_wanted() {
            self.snapshots.making = Some(at_least);
            self.out.push(Output::MakeSnapshot {
                at_least: LogIndex(at_least),
            });
        }
    }

    pub(super) fn snapshot_made(&mut self, index: LogIndex, id: Bytes) {
        self.snapshots.making = None;
        let store = self.raw.store();
        if index.0 > self.delivery.applied || self.delivery.gap {
            return;
        }
        // One that the log has outrun is of no use: the wish comes again.
        let Some(term) = store.term_at(index.0) else {
            return;
        };
        let meta = SnapshotMeta {
            index,
            term: Term(term),
            conf: store.conf_at(index.0).clone(),
            data: id,
        };
        if term != 0 {
            self.raw.mut_store().set_made(Some(meta));
        }
    }

    pub(super) fn snapshot_sent(&mut self, to: NodeId, result: SnapshotTransfer) {
        self.snapshots.sending.remove(&to.0);
        let status = match result {
            SnapshotTransfer::Taken => SnapshotStatus::Finish,
            SnapshotTransfer::Broken => SnapshotStatus::Failure,
            SnapshotTransfer::Unusable => {
                self.raw.mut_store().set_made(None);
                SnapshotStatus::Failure
            }
        };
        self.raw.report_snapshot(to.0, status);
    }

    pub(super) fn snapshot_received(
        &mut self,
        from: NodeId,
        term: Term,
        meta: SnapshotMeta,
    ) -> Result<(), FatalError> {
        if self.snapshots.is_installing()
            || self.raw.snap().is_some()
            || term.0 == 0
            || !plausible::numbers([term.0])
            // Nobody holds what was written in a term later than its own.
            || meta.term > term
            || from == self.config.id
        {
            self.out.push(Output::SnapshotIgnored { from, meta });
            return Ok(());
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        message.from = from.0;
        message.to = self.config.id.0;
        message.term = term.0;
        message.set_snapshot(snapshot_from_meta(&meta));
        self.raw.step(message).or_else(tolerate)?;
        self.after_call();
        // Inside the log of a member whose state lacks entries before it: the state alone is replaced.
        let log = &self.raw.raft.raft_log;
        let inside = self.raw.snap().is_none() && meta.index.0 <= log.committed.min(log.persisted);
        if self.delivery.gap && inside && self.raw.store().term_at(meta.index.0) == Some(meta.term.0) {
            self.snapshots.installing = Some(Installing::State { index: meta.index });
            self.out.push(Output::InstallSnapshot { meta });
        } else if self.raw.snap().is_none() {
            self.out.push(Output::SnapshotIgnored { from, meta });
        }
        self.drive()
    }

    pub(super) fn snapshot_installed(&mut self, installed: LogIndex) -> Result<(), FatalError> {
        if !self.snapshots.installs(installed) {
            return Ok(());
        }
        self.delivery.installed(installed.0);
        self.go_on_after_install()
    }

    /// The log may have been replaced and the state was not: that is a member without its state, which asks for one.
    pub(super) fn snapshot_not_installed(&mut self, index: LogIndex) -> Result<(), FatalError> {
        if !self.snapshots.installs(index) {
            return Ok(());
        }
        self.delivery.gap = true;
        self.go_on_after_install()
    }

    fn go_on_after_install(&mut self) -> Result<(), FatalError> {
        if let Some(Installing::Log { persisted, held, .. }) = self.snapshots.installing.take() {
            self.raw.on_persist_ready(persisted);
            for message in &held {
                self.post(message);
            }
        }
        self.drive()
    }

    /// A member says that its state lacks entries up to `index`.
    pub(super) fn state_requested(&mut self, from: NodeId, index: LogIndex) {
        if !self.is_leader() || self.snapshots.sending.contains(&from.0) {
            return;
        }
        let term = self.raw.raft.term;
        if let Some(meta) = self.raw.store().snapshot_for(index.0, from).cloned() {
            self.snapshots.send(from.0, term, meta, &mut self.out);
        }
    }

    pub(super) fn request_state_if_due(&mut self) {
        let leader = self.raw.raft.leader_id;
        let due = self.delivery.gap
            && !self.snapshots.is_installing()
            && leader != 0
            && self.ticks.is_multiple_of(REQUEST_EVERY_TICKS);
        if !due {
            return;
        }
        let request = RaftMessage {
            kind: APPEND_RESPONSE,
            to: leader,
            from: self.config.id.0,
            term: self.raw.raft.term,
            reject: true,
            request_snapshot: self.raw.store().base().0,
            ..RaftMessage::default()
        };
        self.mail.entry(leader).or_default().push(request);
    }

    /// The highest index that this member may purge: entries behind it are kept for members that lack them, unless that
    /// grows beyond its bound or the disk is nearly full. Every member keeps what the leader keeps, so that whoever
    /// leads next has what follows a snapshot that is on its way.
    pub(super) fn kept_after(&self) -> u64 {
        match self.snapshots.disk_full {
            true => u64::MAX,
            false => self.kept_with_room(),
        }
    }

    /// As [`RaftNode::kept_after`], whatever room the disk has.
    fn kept_with_room(&self) -> u64 {
        if self.raw.store().bytes() > self.config.catch_up_bytes {
            return u64::MAX;
        }
        let lives = |tick: u64| self.ticks < tick + self.config.catch_up_ticks;
        // A new leader does not know yet where the others stand; the one before did.
        let told = self.snapshots.told.filter(|(_, tick)| lives(*tick));
        let told = told.map_or(u64::MAX, |(index, _)| index);
        if !self.is_leader() {
            return told;
        }
        let store = self.raw.store();
        let base = store.base().0;
        let mut least = told.min(self.snapshots.making.unwrap_or(u64::MAX));
        for (id, progress) in self.raw.raft.prs().iter() {
            if !self.snapshots.heard.get(id).is_some_and(|tick| lives(*tick)) {
                continue;
            }
            if progress.matched > 0 && progress.matched >= base {
                least = least.min(progress.matched);
                continue;
            }
            // It needs a snapshot: what follows the one that it was sent, or the one that it will be.
            let sent = self.snapshots.sent.get(id).copied().filter(|sent| *sent >= base);
            let made = || store.made().map(|made| made.index.0);
            if let Some(index) = sent.or_else(made) {
                least = least.min(index);
            }
        }
        least
    }

    /// The disk is nearly full, or is not any more.
    pub(super) fn set_disk_full(&mut self, full: bool) {
        let was_full = std::mem::replace(&mut self.snapshots.disk_full, full);
        if full && !was_full {
            self.purge(self.snapshots.purge_wanted);
        }
    }

    /// Forgets what the state machine holds.
    pub(super) fn purge(&mut self, below: LogIndex) {
        self.snapshots.purge_wanted = self.snapshots.purge_wanted.max(below);
        if self.delivery.gap || self.snapshots.is_installing() {
            return;
        }
        let most = below.0.saturating_sub(1).min(self.raw.raft.raft_log.applied);
        let Some((index, term, conf, kept)) = self.raw.store().cut_at(most.min(self.kept_after())) else {
            return;
        };
        assert!(
            index <= self.delivery.applied,
            "the log is cut at {index}, and {} is applied",
            self.delivery.applied
        );
        let base = Base {
            node: self.config.id,
            index: LogIndex(index),
            term: Term(term),
            conf: conf.clone(),
            reset: false,
        };
        let kept_after = self.kept_with_room();
        if index > kept_after {
            self.out.push(Output::KeptReleased {
                kept_after: LogIndex(kept_after),
                purged: LogIndex(index),
            });
        }
        let at = self.log.push(&Record::Base(base), true);
        // What is not said again would go with the records before.
        self.log_state(self.hard, true);
        self.log
            .release_after(self.urgent, kept.map_or(at, |kept| kept.min(at)));
        self.raw.mut_store().cut(index);
        self.purge_asked = None;
    }
}
