//! The ordered store below the namespace: a narrow trait, so that the disk's store and the simulation's are one.
//!
//! Owns the trait and what passes through it. Must never know what a key means.

use crate::key::Key;
use crate::tables::{Layer, Slot, merged};
use bytes::Bytes;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Why the store could not answer. Every one is final for this voter: it stops and takes a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store below failed.
    #[error("the store failed while {what}: {reason}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// A record does not read as what its key says it is.
    #[error("record {key} is damaged: expected {expected}, found {found}")]
    Corrupt {
        /// The key in hexadecimal.
        key: String,
        /// What should be there.
        expected: &'static str,
        /// What is.
        found: String,
    },
}

/// Direction of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Ascending keys.
    Up,
    /// Descending keys.
    Down,
}

/// Called for each record of a scan; the scan ends early on `Break`.
pub type Visitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Takes a record of a load.
pub type Insert<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// A load writes a batch when it holds so many bytes.
const LOAD_BYTES: usize = 1 << 20;

/// What can be read: the store as it is, or as it was when [`OrderedStore::view`] was called.
pub trait View: Send + Sync {
    /// The value of `key`.
    ///
    /// # Errors
    /// The store failed, or the record is damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the records with `from <= key < to` in `order`.
    ///
    /// # Errors
    /// The store failed, or a record is damaged; records before it have been visited.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError>;
}

/// An ordered map of bytes that survives a crash up to the last [`OrderedStore::sync`].
pub trait OrderedStore: View + Sync + 'static {
    /// Applies the batch atomically: after a crash all of it is there, or nothing. Readers see all or nothing.
    /// Batches become durable in the order in which they were written.
    ///
    /// # Errors
    /// The store failed; whether the batch is in it is not known.
    fn write(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Takes many records at once, the fastest way there is: `fill` is called once and inserts records with ascending
    /// keys, none of which is there yet. Not atomic: after an error, or a crash before the next sync, any part of
    /// them is there.
    ///
    /// # Errors
    /// The store failed, or what `fill` said.
    fn load(&self, fill: &mut dyn FnMut(Insert<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        fill(&mut |key, value| {
            batch.push(key, Some(Bytes::copy_from_slice(value)));
            bytes += key.len() + value.len();
            if bytes < LOAD_BYTES {
                return Ok(());
            }
            bytes = 0;
            self.write(&std::mem::take(&mut batch))
        })?;
        self.write(&batch)
    }

    /// Everything written before is on stable media when this returns.
    ///
    /// # Errors
    /// The store failed; this is final.
    fn sync(&self) -> Result<(), StoreError>;

    /// Bytes that it takes of its file system, more or less; 0 where it has none.
    fn disk_bytes(&self) -> u64 {
        0
    }

    /// The state between two batches, which later writes do not change: what a snapshot is exported from
    /// while the namespace goes on.
    ///
    /// # Errors
    /// The store failed.
    fn view(&self) -> Result<Box<dyn View>, StoreError>;
}

/// A view where a store is expected: what reads it reads the view, and nothing can be written.
pub struct ReadOnly(Box<dyn View>);

impl ReadOnly {
    /// Of this view.
    pub(crate) fn new(view: Box<dyn View>) -> Self {
        Self(view)
    }

    fn refuse<T>() -> Result<T, StoreError> {
        Err(StoreError::Io {
            what: "changing a view",
            reason: "it can only be read".to_owned(),
        })
    }
}

impl View for ReadOnly {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.0.scan(from, to, order, visit)
    }
}

impl OrderedStore for ReadOnly {
    fn write(&self, _batch: &Batch) -> Result<(), StoreError> {
        Self::refuse()
    }

    fn sync(&self) -> Result<(), StoreError> {
        Self::refuse()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Self::refuse()
    }
}

/// Changes that are written together; the last one of a key counts.
#[derive(Clone, Default)]
pub struct Batch {
    layer: Arc<Layer>,
    extra: Vec<(Key, Option<Bytes>)>,
}

impl Batch {
    /// A batch of the layers' changes.
    pub(crate) fn of_layers(newest_first: Vec<Arc<Layer>>) -> Self {
        Self {
            layer: merged(newest_first),
            extra: Vec::new(),
        }
    }

    /// The changes of all layers.
    pub(crate) fn layer(&self) -> &Arc<Layer> {
        &self.layer
    }

    /// Sets or (with `None`) deletes a key, after the changes before it.
    pub fn push(&mut self, key: &[u8], value: Option<Bytes>) {
        self.extra.push((Key::from_slice(key), value));
    }

    /// The changes, in the order in which they count: key, and value or `None` to delete it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&Bytes>)> {
        let layer = self.layer.iter().map(|(key, slot)| {
            let value = match slot {
                Slot::Put(value) | Slot::New(value) => Some(value),
                Slot::Deleted => None,
            };
            (key.as_slice(), value)
        });
        layer.chain(
            self.extra
                .iter()
                .map(|(key, value)| (key.as_slice(), value.as_ref())),
        )
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.layer.len() + self.extra.len()
    }

    /// True without changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
