//! The apply thread: the only one that changes the namespace.
//!
//! Many committed entries are applied per lock, so that readers wait for a few hundred microseconds at most and
//! the lock costs nothing per entry. It stops while the overlay is full and a batch is on its way to the store.

use crate::message::{Applied, ProposalReply, ToApply, ToFlush, ToRaft};
use crate::shared::{Shared, State};
use crate::snapshot::NotInstalled;
use drystone_namespace::{ApplyError, UnknownEntry, read_entry};
use drystone_proto::command::{Entry, Outcome};
use drystone_raft::{CommittedEntry, DropReason, EntryKind, Input, SnapshotMeta};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Entries applied under one lock.
const ROUND: usize = 256;

type Work = (CommittedEntry, Option<ProposalReply>);

/// Runs until told to stop, or until the store fails.
pub(crate) fn run(shared: &Arc<Shared>, inbox: &Receiver<ToApply>) {
    while let Ok(message) = inbox.recv() {
        let result = match message {
            ToApply::Entries(entries) => apply(shared, entries).map_err(|error| format!("apply: {error}")),
            ToApply::Install(meta) => install(shared, &meta),
            ToApply::Stop => break,
        };
        if let Err(reason) = result {
            shared.fail(reason);
            break;
        }
    }
}

fn apply(shared: &Arc<Shared>, mut entries: Vec<Work>) -> Result<(), StoreError> {
    let mut answers = Vec::with_capacity(ROUND);
    while !entries.is_empty() {
        wait_for_room(shared);
        let rest = entries.split_off(entries.len().min(ROUND));
        let round = std::mem::replace(&mut entries, rest);
        let decoded: Vec<(Work, Option<Entry>)> = round
            .into_iter()
            .map(|work| {
                let entry = match &work.0.kind {
                    // What cannot be read as an entry is the same on every voter and changes nothing.
                    EntryKind::Command(data) => Some(Entry::decode(data.clone()).unwrap_or_default()),
                    EntryKind::Empty | EntryKind::Membership { .. } => None,
                };
                (work, entry)
            })
            .collect();
        let count = decoded.len() as u64;
        let (index, time, overlay) = {
            let mut state = shared.write();
            for ((entry, reply), command) in decoded {
                let outcome = apply_one(&mut state, &entry, command.as_ref())?;
                if let Some(reply) = reply {
                    answers.push((
                        reply,
                        Applied {
                            index: entry.index.0,
                            outcome,
                        },
                    ));
                }
            }
            (state.applied().0, state.log_time(), state.overlay_bytes())
        };
        shared.gate.publish(index);
        shared.to_raft(ToRaft::Applied { index, time });
        shared.metrics.applied_entries.inc_by(count);
        shared.metrics.applied_index.set(index as i64);
        shared.metrics.overlay_bytes.set(overlay as i64);
        for (reply, applied) in answers.drain(..) {
            let _ = reply.send(Ok::<_, DropReason>(applied));
        }
    }
    Ok(())
}

fn apply_one(
    state: &mut State,
    entry: &CommittedEntry,
    command: Option<&Entry>,
) -> Result<Outcome, StoreError> {
    if entry.index <= state.applied() {
        // Delivered again after a restart in the middle of a batch; its answer was given or lost before.
        return Ok(Outcome::default());
    }
    match command {
        Some(command) => state.apply(entry.index, command),
        None => {
            state.skip(entry.index);
            Ok(Outcome::default())
        }
    }
}

/// The overlay holds at most the configured bytes beside the batch that is on its way.
fn wait_for_room(shared: &Arc<Shared>) {
    let limit = shared.config.overlay.0 as usize / 2;
    while shared.read().overlay_bytes() > limit && !shared.is_stopped() {
        shared.to_flush(ToFlush::Now);
        // The flusher holds this lock while it writes: waiting for it is waiting for the batch.
        std::thread::sleep(Duration::from_millis(1));
        drop(crate::shared::lock(&shared.flushing));
    }
}

fn install(shared: &Arc<Shared>, meta: &SnapshotMeta) -> Result<(), String> {
    let _no_flush = crate::shared::lock(&shared.flushing);
    let state = match shared.snapshots.install(shared, meta) {
        Ok(state) => state,
        Err(NotInstalled::Store(reason)) => return Err(format!("snapshot: {reason}")),
        Err(NotInstalled::Unusable(reason)) => {
            let index = meta.index;
            tracing::warn!(node = %shared.identity.node, index = index.0, reason, "snapshot not installed");
            shared.to_raft(ToRaft::Input(Input::SnapshotNotInstalled { index }));
            return Ok(());
        }
    };
    let (index, time) = (state.applied().0, state.log_time());
    for node in state.nodes() {
        shared.peers.learn_from_record(node);
    }
    *shared.write() = state;
    crate::layout::remove_old_states(&shared.config.data).map_err(|error| error.to_string())?;
    shared.gate.publish(index);
    shared.metrics.snapshots_installed.inc();
    shared.metrics.applied_index.set(index as i64);
    tracing::info!(node = %shared.identity.node, index, "snapshot installed");
    shared.to_raft(ToRaft::Input(Input::SnapshotInstalled { index: meta.index }));
    shared.to_raft(ToRaft::Applied { index, time });
    Ok(())
}
