//! The store of tests and simulation: a `BTreeMap` that can lose what was not synced.

use crate::store::{Batch, Order, OrderedStore, StoreError, View, Visitor};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Map = BTreeMap<Bytes, Bytes>;

#[derive(Default)]
struct Inner {
    now: Arc<Map>,
    synced: Map,
    /// Batches since the last sync, in order.
    unsynced: Vec<Batch>,
}

/// An [`OrderedStore`] in memory.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Batches that a crash may lose.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// A crash after which only the first `kept` of the unsynced batches are there.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.lock();
        let mut map = std::mem::take(&mut inner.synced);
        for batch in inner.unsynced.iter().take(kept) {
            write(&mut map, batch);
        }
        inner.unsynced.clear();
        inner.now = Arc::new(map.clone());
        inner.synced = map;
    }

    /// Damage: the record is not there any more, whatever was synced.
    pub fn lose(&self, key: &[u8]) {
        let mut inner = self.lock();
        Arc::make_mut(&mut inner.now).remove(key);
        inner.synced.remove(key);
    }

    /// Damage: the record has another value, whatever was synced.
    pub fn replace(&self, key: &[u8], value: Bytes) {
        let mut inner = self.lock();
        Arc::make_mut(&mut inner.now).insert(Bytes::copy_from_slice(key), value.clone());
        inner.synced.insert(Bytes::copy_from_slice(key), value);
    }

    /// Every record, in order.
    pub fn records(&self) -> Vec<(Bytes, Bytes)> {
        self.lock()
            .now
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

fn write(map: &mut Map, batch: &Batch) {
    for (key, value) in batch.iter() {
        match value {
            Some(value) => {
                map.insert(Bytes::copy_from_slice(key), value.clone());
            }
            None => {
                map.remove(key);
            }
        }
    }
}

fn scan(map: &Map, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) {
    if from >= to {
        return;
    }
    let range = map.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
    let mut visit = |(key, value): (&Bytes, &Bytes)| visit(key, value).is_break();
    let _ended_early = match order {
        Order::Up => range.into_iter().any(&mut visit),
        Order::Down => range.into_iter().rev().any(&mut visit),
    };
}

impl View for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.lock().now.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        scan(&self.lock().now, from, to, order, visit);
        Ok(())
    }
}

impl OrderedStore for MemoryStore {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut inner = self.lock();
        write(Arc::make_mut(&mut inner.now), batch);
        inner.unsynced.push(batch.clone());
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let Inner { synced, unsynced, .. } = &mut *inner;
        for batch in unsynced.drain(..) {
            write(synced, &batch);
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(MemoryView(Arc::clone(&self.lock().now))))
    }
}

struct MemoryView(Arc<Map>);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        scan(&self.0, from, to, order, visit);
        Ok(())
    }
}
