//! A state from an export, when the store that should hold it is damaged.
//!
//! The log since that export is replayed behind it as at any start, so nothing is lost. A state of an export is
//! one that every voter of this history had, so that it is right even for one that has become one of several.

use super::export::{self, Export, ExportError};
use crate::state::stores::{StateMachine, StateStore, States, settings_of};
use drystone_env::Disk;
use drystone_identity::Identity;
use drystone_namespace::Namespace;
use std::sync::Arc;

/// Makes a store of the newest export that can be believed the one that counts. `None` if there is none.
///
/// # Errors
/// The system refused; the state that counted before counts still.
pub(crate) fn from_exports(
    states: &dyn States,
    disk: &dyn Disk,
    identity: &Identity,
) -> Result<Option<(StateMachine, Export)>, String> {
    let names = export::list(disk).map_err(|error| error.to_string())?;
    for applied in names {
        let store = states.begin().map_err(|failure| failure.reason)?;
        let store = Arc::new(StateStore(store));
        let found = match export::import(disk, applied, store, &settings_of(identity)) {
            Ok(found) => found,
            Err(ExportError::Store(error)) => return Err(error.to_string()),
            Err(error) => {
                tracing::error!(node = %identity.node, %error, "an export is damaged; the one before is tried");
                continue;
            }
        };
        let store = states.adopt().map_err(|failure| failure.reason)?;
        let state = Namespace::open(Arc::new(StateStore(store)), settings_of(identity));
        return Ok(Some((state.map_err(|error| error.to_string())?, found)));
    }
    Ok(None)
}
