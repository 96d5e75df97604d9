//! The state stores of one metadata server, and which of them counts: the seam between the server and what it keeps
//! its state in, so that a simulation can put another below.

use crate::layout;
use crate::state::store::{FjallStore, StoreOptions};
use bytes::Bytes;
use drystone_identity::Identity;
use drystone_namespace::store::{Insert, Visitor};
use drystone_namespace::{Batch, Namespace, Order, OrderedStore, Settings, StoreError, View};
use drystone_types::ShardId;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a store does not open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenFailure {
    /// In words.
    pub reason: String,
    /// What lies there is not what was written: it may be given up. Otherwise the system refused, which says nothing
    /// about the data.
    pub damage: bool,
}

/// The stores. One process uses them at a time. All methods block.
pub trait States: Send + Sync + 'static {
    /// Opens the one that counts; an empty one if there is none.
    ///
    /// # Errors
    /// [`OpenFailure`]; nothing is changed.
    fn open(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure>;
    /// Sets the one that counts aside by making an empty one count, durably.
    ///
    /// # Errors
    /// [`OpenFailure`].
    fn abandon(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure>;
    /// An empty one that does not count yet, in place of any other such.
    ///
    /// # Errors
    /// [`OpenFailure`].
    fn begin(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure>;
    /// Makes the one that was begun, synced and dropped the one that counts, atomically and durably, and opens it.
    ///
    /// # Errors
    /// [`OpenFailure`]; either still counts.
    fn adopt(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure>;
    /// Removes every one that does not count any more.
    ///
    /// # Errors
    /// The system's; what is left is tried again at the next start.
    fn remove_old(&self) -> io::Result<()>;
}

/// Stores of fjall in the directory `state` of a data directory.
pub(crate) struct FjallStates {
    data: PathBuf,
    options: StoreOptions,
}

impl From<io::Error> for OpenFailure {
    fn from(error: io::Error) -> Self {
        Self {
            reason: error.to_string(),
            damage: false,
        }
    }
}

impl FjallStates {
    pub(crate) fn new(data: &Path, cache_bytes: u64) -> Self {
        Self {
            data: data.to_owned(),
            options: StoreOptions {
                cache_bytes,
                ..StoreOptions::default()
            },
        }
    }

    fn open_in(&self, directory: &Path) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        match FjallStore::open(directory, self.options) {
            Ok(store) => Ok(Arc::new(store)),
            Err(error) => Err(OpenFailure {
                reason: error.to_string(),
                damage: error.is_damage(),
            }),
        }
    }
}

impl States for FjallStates {
    fn open(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        self.open_in(&layout::current_state(&self.data)?)
    }

    fn abandon(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        self.open_in(&layout::abandon_state(&self.data)?)
    }

    fn begin(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        self.open_in(&layout::new_state(&self.data)?)
    }

    fn adopt(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        self.open_in(&layout::adopt_new_state(&self.data)?)
    }

    fn remove_old(&self) -> io::Result<()> {
        layout::remove_old_states(&self.data)
    }
}

/// The namespace as this server keeps it.
pub(crate) type StateMachine = Namespace<StateStore>;

/// How the namespace of the cluster of `identity` is opened.
pub(crate) fn settings_of(identity: &Identity) -> Settings {
    Settings {
        shard: ShardId(0),
        key: identity.key.clone(),
        history: identity.history,
    }
}

/// Whatever store it is.
pub(crate) struct StateStore(pub(crate) Arc<dyn OrderedStore>);

impl View for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.0.scan(from, to, order, visit)
    }
}

impl OrderedStore for StateStore {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }

    fn load(&self, fill: &mut dyn FnMut(Insert<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.0.load(fill)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }

    fn disk_bytes(&self) -> u64 {
        self.0.disk_bytes()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.0.view()
    }
}

/// The store as the flusher writes to it: batches count as durable only after the next [`OrderedStore::sync`] of the
/// store itself. Whoever uses it keeps the Raft log until then.
pub(crate) struct Deferred(pub(crate) Arc<StateStore>);

impl View for Deferred {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.0.scan(from, to, order, visit)
    }
}

impl OrderedStore for Deferred {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.0.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.0.view()
    }
}
