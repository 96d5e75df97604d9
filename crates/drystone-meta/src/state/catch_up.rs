//! A state applies what its log holds while that log is opened, so that a log of any length needs little memory.
//!
//! Nobody else has the state yet. What is applied here is not in the memory of Raft any more, and in the log until the
//! flush thread lets it be purged, as everything is.

use super::apply::failure;
use super::stores::{Deferred, StateMachine};
use drystone_namespace::{ApplyError, OrderedStore, StoreError, read_entry};
use drystone_raft::OpenedEntry;
use std::sync::Arc;

/// Applies `entry`, and brings the changes to the store when there are more than `overlay` bytes of them.
///
/// # Errors
/// Why this server cannot start.
pub(crate) fn apply_opened(
    state: &mut StateMachine,
    entry: OpenedEntry,
    overlay: usize,
) -> Result<(), String> {
    let index = entry.index;
    apply(state, entry).map_err(|error| failure(index.0, &error))?;
    assert_eq!(state.applied(), index, "what was applied is said to be");
    if state.overlay_bytes() > overlay {
        store(state).map_err(|error| format!("state store: {error}"))?;
    }
    Ok(())
}

fn apply(state: &mut StateMachine, entry: OpenedEntry) -> Result<(), ApplyError> {
    let Some(data) = entry.command else {
        state.skip(entry.index);
        return Ok(());
    };
    state.apply(entry.index, &read_entry(data)?).map(drop)
}

fn store(state: &mut StateMachine) -> Result<(), StoreError> {
    let store = Arc::clone(state.store());
    if let Some(batch) = state.freeze() {
        let done = batch.write_to(&Deferred(Arc::clone(&store)))?;
        drop(state.flushed(done));
    }
    store.sync()
}
