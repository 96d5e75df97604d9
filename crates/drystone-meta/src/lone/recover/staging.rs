//! Makes the new store, export and log.

use super::survey::{Base, Evidence, open_store};
use super::{RecoverError, failed, settings, wal_config};
use crate::lone::export;
use crate::state::store::{FjallStore, StoreOptions};
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Disk, SeededRng};
use drystone_identity::Identity;
use drystone_namespace::{ImportError, Namespace, OrderedStore, StoreError, import, read_entry};
use drystone_raft::{RaftConfig, RaftNode, Start};
use drystone_types::{BootId, HistoryId, LogIndex, Term};
use std::path::Path;
use std::sync::Arc;

/// Changes held in memory while the log is applied.
const OVERLAY_BYTES: usize = 32 << 20;

/// Why the old state was not copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Import(#[from] ImportError),
}

type State = Namespace<FjallStore>;

/// Makes all of it below `staging`.
pub(super) fn make(
    staging: &Path,
    disk: &Arc<dyn Disk>,
    identity: &Identity,
    evidence: &Evidence,
    new: HistoryId,
) -> Result<(), RecoverError> {
    let make = |error: std::io::Error| failed("making the new directories")(error);
    let directory = staging.join("state").join("1");
    std::fs::create_dir_all(staging.join("state")).map_err(make)?;
    super::sync(staging).map_err(make)?;
    let store =
        FjallStore::open(&directory, StoreOptions::default()).map_err(failed("making a new store"))?;
    let store = Arc::new(store);
    fill(staging, disk, identity, evidence.base, &store)?;
    let mut state =
        Namespace::open(Arc::clone(&store), settings(identity)).map_err(failed("opening the new store"))?;
    apply(&mut state, evidence)?;
    state.begin_history(new);
    flush(&mut state)?;
    super::sync(&staging.join("state")).map_err(make)?;
    let restored = Identity {
        history: new,
        ..identity.clone()
    };
    let staged: Arc<dyn Disk> = Arc::new(OsDisk::new(staging).map_err(make)?);
    let view = store.view().map_err(failed("reading the new store"))?;
    export::write(&*staged, &*view, &settings(&restored), &|| true)
        .map_err(failed("exporting the new state"))?;
    begin_log(staged, &restored, state.applied(), evidence)
}

fn fill(
    staging: &Path,
    disk: &Arc<dyn Disk>,
    identity: &Identity,
    base: Base,
    store: &Arc<FjallStore>,
) -> Result<(), RecoverError> {
    match base {
        Base::Beginning => Ok(()),
        Base::Export(applied) => export::import(&**disk, applied, Arc::clone(store), &settings(identity))
            .map(|_| ())
            .map_err(failed("loading the export")),
        Base::Store => {
            let data = staging.parent().unwrap_or(staging);
            let old = open_store(data).map_err(failed("opening the old store"))?;
            let view = old.view().map_err(failed("opening the old store"))?;
            let copied: Result<_, CopyError> = import(&**store, &settings(identity), |add| {
                drystone_namespace::export::<CopyError>(&*view, &mut |part| Ok(add(&part)?))?;
                Ok(())
            });
            copied.map(|_| ()).map_err(failed("copying the old store"))
        }
    }
}

fn apply(state: &mut State, evidence: &Evidence) -> Result<(), RecoverError> {
    let restored = evidence.survey.restored;
    for (index, entry) in evidence
        .rescued
        .entries
        .range(state.applied().0 + 1..=restored.max(state.applied().0 + 1))
    {
        if *index > restored {
            break;
        }
        match &entry.command {
            None => state.skip(LogIndex(*index)),
            Some(data) => {
                let refuse = |reason: String| RecoverError::Entry {
                    index: *index,
                    reason,
                };
                let entry = read_entry(data.clone()).map_err(|error| refuse(error.to_string()))?;
                state
                    .apply(LogIndex(*index), &entry)
                    .map_err(|error| refuse(error.to_string()))?;
            }
        }
        if state.overlay_bytes() > OVERLAY_BYTES {
            flush(state)?;
        }
    }
    flush(state)
}

fn flush(state: &mut State) -> Result<(), RecoverError> {
    if let Some(batch) = state.freeze() {
        let store = Arc::clone(state.store());
        let done = batch.write_to(&*store).map_err(failed("writing the new store"))?;
        drop(state.flushed(done));
    }
    Ok(())
}

/// An empty log behind the restored state, in a term that the old history did not know.
fn begin_log(
    disk: Arc<dyn Disk>,
    identity: &Identity,
    index: LogIndex,
    evidence: &Evidence,
) -> Result<(), RecoverError> {
    let known = evidence.rescued.term.0;
    // A lone voter's terms are at most as many as its entries: that will do when nothing says more.
    let term = if known > 0 {
        known
    } else {
        evidence.survey.base_index
    };
    let start = Start::Restored {
        index,
        term: Term(term + 1),
    };
    let config = RaftConfig::new(
        identity.node,
        BootId::default(),
        start,
        index,
        wal_config(identity),
    );
    RaftNode::open(disk, config, SeededRng::new(1), BufferPool::new(8 << 20))
        .map(|_| ())
        .map_err(failed("beginning the new log"))
}
