//! A state from an export, when the store that should hold it is damaged.
//!
//! The log since that export is replayed behind it as at any start, so nothing is lost. A state of an export is
//! one that every voter of this history had, so that it is right even for one that has become one of several.

use crate::export::{self, Export, ExportError};
use crate::layout;
use crate::shared::State;
use crate::snapshot::{settings_of, store_options};
use crate::store::FjallStore;
use drystone_env::Disk;
use drystone_identity::Identity;
use drystone_namespace::Namespace;
use std::path::Path;
use std::sync::Arc;

/// Makes a store of the newest export that can be believed the one that counts. `None` if there is none.
///
/// # Errors
/// The system refused; the state that counted before counts still.
pub(crate) fn from_exports(
    data: &Path,
    disk: &dyn Disk,
    identity: &Identity,
    cache_bytes: u64,
) -> Result<Option<(State, Export)>, String> {
    let names = export::list(disk).map_err(|error| error.to_string())?;
    for applied in names {
        let found = match fill(data, disk, identity, applied) {
            Ok(found) => found,
            Err(ExportError::Store(error)) => return Err(error.to_string()),
            Err(error) => {
                tracing::error!(node = %identity.node, %error, "an export is damaged; the one before is tried");
                continue;
            }
        };
        let directory = layout::adopt_new_state(data).map_err(|error| error.to_string())?;
        let store =
            FjallStore::open(&directory, store_options(cache_bytes)).map_err(|error| error.to_string())?;
        let state =
            Namespace::open(Arc::new(store), settings_of(identity)).map_err(|error| error.to_string())?;
        return Ok(Some((state, found)));
    }
    Ok(None)
}

fn fill(
    data: &Path,
    disk: &dyn Disk,
    identity: &Identity,
    applied: drystone_types::LogIndex,
) -> Result<Export, ExportError> {
    let directory = layout::new_state(data).map_err(|source| ExportError::Io {
        name: "state/new".to_owned(),
        source,
    })?;
    let store = FjallStore::open(&directory, store_options(1 << 20)).map_err(|error| {
        ExportError::Store(drystone_namespace::StoreError::Io {
            what: "opening a new store",
            reason: error.to_string(),
        })
    })?;
    export::import(disk, applied, Arc::new(store), &settings_of(identity))
}
