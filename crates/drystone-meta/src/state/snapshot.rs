//! Snapshots on their way: made from a view of the store, streamed beside Raft, received into a file, installed.
//!
//! At most one that was made is kept, and one per sender that is arriving. A snapshot is believed only after its
//! whole checksum matched here and importing it has checked every record; a crash at any point leaves the state
//! that was there before, or the new one.
//!
//! Making, sending and importing run on threads of their own that get what processor time the others leave, and rest
//! between steps where none is left. A transfer that breaks off goes on where the receiver stands, for as long as both
//! processes live (`send`, `receive`).

mod arrivals;
mod files;
pub(crate) mod receive;
mod send;

use super::stores::{StateMachine, StateStore, States, settings_of};
use crate::layout;
use crate::lifecycle::Lifecycle;
use crate::locks::MADE;
use crate::membership::members::Members;
use crate::raft::handle::RaftHandle;
use arrivals::Arrivals;
use bytes::Bytes;
use drystone_env::sync::Mutex;
use drystone_env::{Disk, Env, OpenOptions, Rng};
use drystone_identity::Identity;
use drystone_namespace::{ImportError, Namespace, StoreError, View, export};
use drystone_raft::{Input, SnapshotMeta};
use drystone_rpc::Channels;
use drystone_types::{BootId, NodeId};
use files::{Made, Sending, append, create, read_part};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Read and written at once when installing.
const STEP: usize = 1 << 20;

/// What snapshots are made of, and how they travel.
pub(crate) struct SnapshotParts {
    pub(crate) env: Env,
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) stores: Arc<dyn States>,
    pub(crate) channels: Channels,
    pub(crate) members: Arc<Members>,
    pub(crate) raft: RaftHandle,
}

/// See the module.
pub(crate) struct Snapshots {
    parts: SnapshotParts,
    made: Mutex<Option<Made>>,
    sending: Sending,
    arrivals: Arrivals,
}

/// Why a received snapshot was not installed; the old state is still there.
#[derive(Debug)]
pub(crate) enum NotInstalled {
    /// Its file is gone or no good: another one will come.
    Unusable(String),
    /// The store failed: this server must stop.
    Store(String),
}

impl NotInstalled {
    fn unusable(error: impl std::fmt::Display) -> Self {
        NotInstalled::Unusable(error.to_string())
    }

    fn store(error: impl std::fmt::Display) -> Self {
        NotInstalled::Store(error.to_string())
    }
}

impl From<ImportError> for NotInstalled {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Damaged { .. } | ImportError::Stranger => Self::unusable(error),
            ImportError::Store(_) | ImportError::NotEmpty => Self::store(error),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the store holds no batch yet")]
    Empty,
    #[error("this server is stopping")]
    Stopped,
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Snapshots {
    /// None is on its way yet.
    pub(crate) fn new(parts: SnapshotParts) -> Self {
        Self {
            arrivals: Arrivals::new(Arc::clone(&parts.disk)),
            parts,
            made: Mutex::new(MADE, None),
            sending: Sending::default(),
        }
    }

    /// Exports `view` on a thread of its own, behind everything that serves somebody, and tells Raft.
    pub(crate) fn make(self: &Arc<Self>, view: Box<dyn View>) {
        let snapshots = Arc::clone(self);
        self.parts.lifecycle.background("meta-snapshot", async move {
            let parts = &snapshots.parts;
            match snapshots.export(&*view) {
                Ok((index, id)) => {
                    tracing::info!(node = %parts.identity.node, index, "snapshot made");
                    let index = index.into();
                    parts.raft.input(Input::SnapshotMade { index, id });
                }
                Err(error) => {
                    tracing::warn!(node = %parts.identity.node, %error, "snapshot not made");
                    parts.raft.input(Input::SnapshotNotMade);
                }
            }
        });
    }

    fn export(&self, view: &dyn View) -> Result<(u64, Bytes), MakeError> {
        let mut id = vec![0; 16];
        let parts = &self.parts;
        let now = parts.env.clock.now().0;
        let mut rng = parts.env.rng(&format!("snapshot {} {now}", parts.boot.random));
        rng.fill(&mut id);
        let id = Bytes::from(id);
        let path = layout::snapshot_file(&format!("out-{}", hex(&id)));
        let written = write_out(&*parts.disk, &parts.lifecycle, view, &path);
        if written.is_err() {
            let _ = parts.disk.unlink(&path);
        }
        let written = written?;
        let made = Made {
            id: id.clone(),
            path,
            bytes: written.bytes,
            checksum: written.checksum,
        };
        let old = self.made.lock().replace(made);
        if let Some(old) = old {
            // Whoever still streams it has it open; the name is not needed any more.
            let _ = parts.disk.unlink(&old.path);
        }
        Ok((written.applied, id))
    }

    /// Raft has no use for this one: its sender may send another at once.
    pub(crate) fn ignored(&self, from: NodeId, meta: &SnapshotMeta) {
        self.arrivals.ignore(from.0, &meta.data);
    }

    /// Imports the received snapshot into a fresh store that does not count yet, on a thread of its own behind
    /// everything that serves somebody. [`Snapshots::adopt`] makes it the one that counts.
    ///
    /// # Errors
    /// [`NotInstalled`].
    pub(crate) async fn import(self: &Arc<Self>, meta: SnapshotMeta) -> Result<(), NotInstalled> {
        let (reply, answer) = oneshot::channel();
        let inner = Arc::clone(self);
        self.parts.lifecycle.background("meta-import", async move {
            let received = inner.arrivals.take_whole(&meta.data);
            let missing = || NotInstalled::unusable("the received snapshot is not here");
            let imported = received.ok_or_else(missing).and_then(|path| {
                let imported = import(&inner.parts, &meta, &path);
                let _ = inner.parts.disk.unlink(&path);
                imported
            });
            let _ = reply.send(imported);
        });
        answer
            .await
            .unwrap_or_else(|_| Err(NotInstalled::Store("the import panicked".to_owned())))
    }

    /// Makes the imported store the one that counts. The flusher must not write meanwhile.
    ///
    /// # Errors
    /// [`NotInstalled`].
    pub(crate) fn adopt(self: &Arc<Self>) -> Result<StateMachine, NotInstalled> {
        let adopted = self.parts.stores.adopt();
        let store = adopted.map_err(|failure| NotInstalled::Store(failure.reason))?;
        let state = Namespace::open(Arc::new(StateStore(store)), settings_of(&self.parts.identity));
        let state = state.map_err(NotInstalled::store)?;
        let files = self.arrivals.forget_incomplete();
        if !files.is_empty() {
            let inner = Arc::clone(self);
            self.parts
                .lifecycle
                .background("meta-snapshot-files", async move {
                    for path in files {
                        let _ = inner.parts.disk.unlink(&path);
                    }
                });
        }
        Ok(state)
    }
}

/// What a snapshot's file holds.
struct Written {
    applied: u64,
    bytes: u64,
    checksum: u32,
}

/// From the view into a new file.
fn write_out(
    disk: &dyn Disk,
    lifecycle: &Lifecycle,
    view: &dyn View,
    path: &str,
) -> Result<Written, MakeError> {
    let file = create(disk, path)?;
    let (mut bytes, mut checksum) = (0, 0);
    let mut write = |part: Bytes| {
        if lifecycle.is_stopped() {
            return Err(MakeError::Stopped);
        }
        append(&*file, &part, bytes)?;
        bytes += part.len() as u64;
        checksum = crc32c::crc32c_append(checksum, &part);
        lifecycle.rest();
        Ok(())
    };
    let summary = export::<MakeError>(view, &mut write)?.ok_or(MakeError::Empty)?;
    Ok(Written {
        applied: summary.applied.0,
        bytes,
        checksum,
    })
}

/// From the file into the store that does not count yet.
fn import(parts: &SnapshotParts, meta: &SnapshotMeta, path: &str) -> Result<(), NotInstalled> {
    let file = (parts.disk.open(path, OpenOptions::default())).map_err(NotInstalled::unusable)?;
    let begun = parts.stores.begin();
    let store = begun.map_err(|failure| NotInstalled::Store(failure.reason))?;
    let store = StateStore(store);
    let summary = drystone_namespace::import(&store, &settings_of(&parts.identity), |add| {
        let (mut buffer, mut at) = (vec![0; STEP], 0);
        loop {
            let read = read_part(&*file, at, &mut buffer).map_err(NotInstalled::unusable)?;
            if read == 0 {
                return Ok(());
            }
            at += read as u64;
            add(buffer.get(..read).unwrap_or_default())?;
            if parts.lifecycle.is_stopped() {
                return Err(NotInstalled::Unusable("this server is stopping".to_owned()));
            }
            parts.lifecycle.rest();
        }
    })?;
    if summary.applied != meta.index {
        let (found, expected) = (summary.applied, meta.index);
        return Err(NotInstalled::Unusable(format!(
            "the snapshot is of index {found}, not of {expected}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::rig::Rig;
    use drystone_env::sim::SimDisk;
    use drystone_namespace::OrderedStore;

    #[tokio::test]
    async fn a_stop_ends_the_making_of_a_snapshot() {
        let (rig, disk) = (Rig::new(), SimDisk::new(1));
        let batch = rig.state.write().freeze().unwrap();
        let store = Arc::clone(rig.state.read().store());
        let _ = batch.write_to(&*store).unwrap();
        let view = store.view().unwrap();
        let write = || write_out(&disk, &rig.lifecycle, &*view, "out");
        assert!(write().unwrap().bytes > 0);
        rig.lifecycle.stop();
        assert!(matches!(write(), Err(MakeError::Stopped)));
    }
}
