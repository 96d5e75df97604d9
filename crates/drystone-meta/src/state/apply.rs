//! The apply thread: the only one that changes the namespace.
//!
//! Many committed entries are applied per lock, so that readers wait for a few hundred microseconds at most and
//! the lock costs nothing per entry. It stops while the overlay is full and a batch is on its way to the store.
//! An entry that cannot be read as a whole ends the server in front of it: whoever passes over one holds another
//! state than the others, and nobody sees it before it leads.

use super::cell::StateWriter;
use super::snapshot::{NotInstalled, Snapshots};
use super::stores::{StateMachine, States};
use crate::lifecycle::Lifecycle;
use crate::membership::members::Members;
use crate::message::{Applied, AppliedState, ProposalReply, Proposed, ToApply, ToFlush, ToRaft, Waiting};
use crate::metrics::Metrics;
use drystone_env::Clock;
use drystone_namespace::{ApplyError, UnknownEntry, read_entry};
use drystone_proto::command::{Entry, Op, Outcome};
use drystone_raft::{BOOTSTRAP_INDEX, CommittedEntry, DropReason, EntryKind, Input, SnapshotMeta};
use drystone_types::{LogIndex, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

/// Entries decoded at once.
const ROUND: usize = 256;
/// How long the lock is held before the others get it: some entries (housekeeping, large publications) take
/// milliseconds each.
const LOCK_TIME: Duration = Duration::from_millis(2);

type Work = (CommittedEntry, Option<Waiting>);

/// What the apply thread works with.
pub(crate) struct Applier {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) state: StateWriter,
    pub(crate) stores: Arc<dyn States>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) members: Arc<Members>,
    pub(crate) raft: UnboundedSender<ToRaft>,
    pub(crate) flush: UnboundedSender<ToFlush>,
    /// Bytes of changes that may wait in memory beside the batch that is on its way.
    pub(crate) overlay_limit: usize,
    pub(crate) metrics: Metrics,
}

/// The command that a committed entry holds, or none: a leader's first entry, or a change of membership.
type Held = Option<Result<Entry, UnknownEntry>>;

/// An entry that can be applied.
struct Decoded {
    entry: CommittedEntry,
    held: Held,
    reply: Option<ProposalReply>,
}

/// What was proposed here was decoded here.
fn decode((entry, waiting): Work) -> Decoded {
    let (held, reply) = match (&entry.kind, waiting) {
        (EntryKind::Command(data), Some(Waiting::Command(proposed))) => {
            let Proposed { entry, reply } = *proposed;
            debug_assert_eq!(
                read_entry(data.clone()).as_ref(),
                Ok(&entry),
                "other voters read what is applied here"
            );
            (Some(Ok(entry)), Some(reply))
        }
        (EntryKind::Command(data), waiting) => {
            let reply = waiting.map(Waiting::into_reply);
            (Some(read_entry(data.clone())), reply)
        }
        (EntryKind::Empty | EntryKind::Membership { .. }, waiting) => {
            (None, waiting.map(Waiting::into_reply))
        }
    };
    Decoded { entry, held, reply }
}

impl Applier {
    /// Runs until told to stop, or until the store fails.
    pub(crate) async fn run(self, mut inbox: UnboundedReceiver<ToApply>) {
        while let Some(message) = inbox.recv().await {
            let result = match message {
                ToApply::Entries(entries) => self.apply(entries).await,
                ToApply::Install(meta) => self.install(meta).await,
                ToApply::Stop => break,
            };
            if let Err(reason) = result {
                self.lifecycle.fail(reason);
                break;
            }
        }
    }

    /// Lost when the raft thread has ended.
    fn to_raft(&self, message: ToRaft) {
        let _ = self.raft.send(message);
    }

    async fn apply(&self, mut entries: Vec<Work>) -> Result<(), String> {
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(ROUND));
            let round = std::mem::replace(&mut entries, rest);
            let mut decoded: VecDeque<Decoded> = round.into_iter().map(decode).collect();
            while !decoded.is_empty() {
                self.wait_for_room().await;
                if !self.apply_some(&mut decoded)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Applies what is `decoded`, for as long as the lock may be held. False if this server ends by what it has applied.
    fn apply_some(&self, decoded: &mut VecDeque<Decoded>) -> Result<bool, String> {
        let (mut count, mut failed) = (0, None);
        let (mut answers, mut records) = (Vec::new(), Vec::new());
        let (applied, overlay) = {
            let mut state = self.state.write();
            let mut begun = self.clock.now();
            let until = begun.plus(LOCK_TIME);
            while let Some(Decoded { entry, held, reply }) = decoded.pop_front() {
                let index = entry.index.0;
                let registered = registered(&held);
                match apply_one(&mut state, &entry, held) {
                    Ok(outcome) => {
                        records.extend(registered.and_then(|node| state.node(NodeId(node)).cloned()));
                        let took = self.clock.now().since(begun);
                        answers.extend(reply.map(|reply| (reply, Applied { index, outcome, took })));
                    }
                    Err(error) => {
                        failed = Some(failure(index, &error));
                        break;
                    }
                }
                count += 1;
                begun = self.clock.now();
                if begun >= until {
                    break;
                }
            }
            (AppliedState::of(&state), state.overlay_bytes())
        };
        // Whoever sees the index hears whom the state names.
        if !self.members.take_records(&records) {
            return Ok(false);
        }
        self.state.applied().publish(applied.index);
        self.to_raft(ToRaft::Applied(applied));
        self.metrics.applied_entries.inc_by(count);
        self.metrics.applied_index.set(applied.index as i64);
        self.metrics.overlay_bytes.set(overlay as i64);
        for (reply, applied) in answers {
            let _ = reply.send(Ok::<_, DropReason>(applied));
        }
        failed.map_or(Ok(true), Err)
    }

    /// The overlay holds at most the configured bytes beside the batch that is on its way.
    async fn wait_for_room(&self) {
        while self.state.read().overlay_bytes() > self.overlay_limit && !self.lifecycle.is_stopped() {
            let _ = self.flush.send(ToFlush::Now);
            // The flusher holds this lock while it writes: waiting for it is waiting for the batch.
            self.clock.sleep(Duration::from_millis(1)).await;
            drop(self.state.flushing());
        }
    }

    async fn install(&self, meta: SnapshotMeta) -> Result<(), String> {
        let index = meta.index;
        match self.snapshots.import(meta).await {
            Ok(()) => {
                if self.replace(index)? {
                    self.remove_old().await?;
                }
                Ok(())
            }
            Err(NotInstalled::Store(reason)) => Err(format!("snapshot: {reason}")),
            Err(NotInstalled::Unusable(reason)) => {
                tracing::warn!(node = %self.me, index = index.0, reason, "snapshot not installed");
                self.to_raft(ToRaft::Input(Input::SnapshotNotInstalled { index }));
                Ok(())
            }
        }
    }

    /// Replaces the state by the imported one, of index `installed`. False if this server ends by what is in it.
    fn replace(&self, installed: LogIndex) -> Result<bool, String> {
        let _no_flush = self.state.flushing();
        let state = self.snapshots.adopt().map_err(|error| match error {
            NotInstalled::Store(reason) | NotInstalled::Unusable(reason) => format!("snapshot: {reason}"),
        })?;
        let applied = AppliedState::of(&state);
        let index = applied.index;
        assert_eq!(
            index, installed.0,
            "the imported state is of the index that was checked"
        );
        assert!(
            index >= self.state.applied().applied(),
            "a state is never replaced by an older one: readers saw index {}, the snapshot is of {index}",
            self.state.applied().applied()
        );
        // Before the membership that comes with it is in force.
        if !self.members.take_records(state.nodes()) {
            return Ok(false);
        }
        self.state.replace(state);
        self.state.applied().publish(index);
        self.metrics.snapshots_installed.inc();
        self.metrics.applied_index.set(index as i64);
        tracing::info!(node = %self.me, index, "snapshot installed");
        self.to_raft(ToRaft::Input(Input::SnapshotInstalled { index: installed }));
        self.to_raft(ToRaft::Applied(applied));
        Ok(true)
    }

    /// Removes the stores that do not count any more, when the flusher has left the one that counted last: what works in
    /// a store must not lose its directory. One that it does not leave any more is removed by the next start.
    async fn remove_old(&self) -> Result<(), String> {
        let (closed, is_closed) = oneshot::channel();
        let _ = self.flush.send(ToFlush::Replaced(closed));
        match is_closed.await {
            Ok(()) => self.stores.remove_old().map_err(|error| error.to_string()),
            Err(_) => Ok(()),
        }
    }
}

/// The node that a command registers.
fn registered(held: &Held) -> Option<u64> {
    let command = held.as_ref()?.as_ref().ok()?.command.as_ref()?;
    match command.op.as_ref()? {
        Op::RegisterNode(register) => register.node.as_ref().map(|node| node.id),
        _ => None,
    }
}

/// Why a server that does not apply an entry ends.
pub(super) fn failure(index: u64, error: &ApplyError) -> String {
    match error {
        ApplyError::Store(error) => format!("apply: {error}"),
        ApplyError::Unknown(what) => format!(
            "apply: entry {index} of the log is of a newer version ({what}); nothing of it was applied: upgrade this \
             metadata server, and it goes on from there"
        ),
    }
}

fn apply_one(state: &mut StateMachine, entry: &CommittedEntry, held: Held) -> Result<Outcome, ApplyError> {
    if entry.index <= state.applied() {
        // Delivered again after a restart in the middle of a batch; its answer was given or lost before.
        return Ok(Outcome::default());
    }
    assert_eq!(
        entry.index.0,
        state.applied().max(BOOTSTRAP_INDEX).0 + 1,
        "entries are applied in order and without gaps"
    );
    let outcome = match held {
        Some(command) => state.apply(entry.index, &command?)?,
        None => {
            state.skip(entry.index);
            Outcome::default()
        }
    };
    assert_eq!(state.applied(), entry.index, "what was applied is said to be");
    Ok(outcome)
}
