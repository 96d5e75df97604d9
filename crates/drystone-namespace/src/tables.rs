//! The tables as apply and readers see them: the overlay over the batch that is being written over the store.
//! The newest layer that knows a key answers: overlay, sealed layers, frozen ones, then the batch written last and the
//! clean cache, which only repeat what the store holds, then the store.
//!
//! A view ([`Tables::seal`]) shares every layer below the overlay: what was in the overlay is sealed for it, and later
//! commands begin a new one. So that there are few, sealed layers are merged until they at least double in size from the
//! newest to the oldest. That takes as long as the layers are large, so it is done without the tables
//! ([`LayerMerge::run`]), beside the commands that change them.
//!
//! Owns layers, the undo of a refused command and the bounded cache of clean records. Must never know what a
//! record means.

use crate::key::Key;
use crate::records::{decode, encode};
use crate::store::{Order, OrderedStore, StoreError, Visitor};
use crate::stored::Stored;
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A change that the store does not have yet.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// Set.
    Put(Bytes),
    /// Set, and the key is in no layer below: deleting it leaves nothing to write.
    New(Bytes),
    /// Deleted.
    Deleted,
}

impl Slot {
    fn value(&self) -> Option<&Bytes> {
        match self {
            Slot::Put(value) | Slot::New(value) => Some(value),
            Slot::Deleted => None,
        }
    }
}

pub(crate) type Layer = BTreeMap<Key, Slot>;

/// Clean records kept per generation of the cache: two generations of 32,768 records of about 200 bytes are
/// 13 MiB, enough for the directories, names and sessions that a second's commands share.
const CACHE_RECORDS: usize = 32_768;

/// Estimated memory of an overlay entry beyond its value: key, slot, share of the tree node.
const ENTRY_BYTES: usize = 128;

pub(crate) struct Tables<S> {
    store: Arc<S>,
    overlay: Layer,
    /// Of the overlay and what was sealed of it.
    overlay_bytes: usize,
    /// Changes before those in the overlay that no batch has taken yet, the newest first.
    sealed: Vec<Arc<Layer>>,
    /// Some of the sealed layers are being merged.
    merging: bool,
    /// The batch that is being written, the newest layer first.
    frozen: Option<Vec<Arc<Layer>>>,
    /// The batch written last: a cache, because what was written is read again soon.
    recent: Arc<Layer>,
    /// Clean records, in two generations. A write removes its key here.
    young: BTreeMap<Key, Bytes>,
    old: BTreeMap<Key, Bytes>,
    /// What the running command overwrote in the overlay.
    undo: Vec<(Key, Option<Slot>)>,
}

impl<S: OrderedStore> Tables<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        Self::over(store, Vec::new())
    }

    /// The tables of a view: of a store as it was when the layers were sealed.
    pub(crate) fn over(store: Arc<S>, sealed: Vec<Arc<Layer>>) -> Self {
        Self {
            store,
            overlay: Layer::new(),
            overlay_bytes: 0,
            sealed,
            merging: false,
            frozen: None,
            recent: Arc::default(),
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            undo: Vec::new(),
        }
    }

    pub(crate) fn store(&self) -> &Arc<S> {
        &self.store
    }

    pub(crate) fn overlay_bytes(&self) -> usize {
        self.overlay_bytes
    }

    pub(crate) fn overlay_len(&self) -> usize {
        self.overlay.len() + self.sealed.iter().map(|layer| layer.len()).sum::<usize>()
    }

    /// The layers that hold what the store lacks, the newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        let below = self.sealed.iter().chain(self.frozen.iter().flatten());
        std::iter::once(&self.overlay).chain(below.map(|layer| &**layer))
    }

    fn layered(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let mut layers = self.layers().chain([&*self.recent]);
        if let Some(slot) = layers.find_map(|layer| layer.get(key)) {
            return Some(slot.value().cloned());
        }
        self.young
            .get(key)
            .or_else(|| self.old.get(key))
            .map(|value| Some(value.clone()))
    }

    /// The value of a key, for readers: leaves no trace in the cache.
    pub(crate) fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        match self.layered(key.as_slice()) {
            Some(known) => Ok(known),
            None => self.store.get(key.as_slice()),
        }
    }

    /// The value of a key, for apply: remembered, because the next command often needs it too.
    pub(crate) fn load(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        if let Some(known) = self.layered(key.as_slice()) {
            return Ok(known);
        }
        let Some(value) = self.store.get(key.as_slice())? else {
            // An absent key is mostly about to be made: remembering it would cost more than it saves.
            return Ok(None);
        };
        if self.young.len() >= CACHE_RECORDS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), value.clone());
        Ok(Some(value))
    }

    /// The record of a key, for readers.
    pub(crate) fn get_record<R: Stored>(&self, key: &Key) -> Result<Option<R>, StoreError> {
        self.get(key)?
            .map(|value| decode(key.as_slice(), &value))
            .transpose()
    }

    /// The record of a key, for apply.
    pub(crate) fn load_record<R: Stored>(&mut self, key: &Key) -> Result<Option<R>, StoreError> {
        self.load(key)?
            .map(|value| decode(key.as_slice(), &value))
            .transpose()
    }

    /// Sets a record.
    pub(crate) fn put<R: Stored>(&mut self, key: Key, record: &R) {
        let value = encoded(&key, record);
        self.set(key, value, false);
    }

    /// Sets a record whose key the caller knows to be free.
    pub(crate) fn put_new<R: Stored>(&mut self, key: Key, record: &R) {
        let value = encoded(&key, record);
        self.set(key, value, true);
    }

    fn set(&mut self, key: Key, value: Bytes, free: bool) {
        debug_assert!(!free || matches!(self.get(&key), Ok(None)), "{key:?} is not free");
        let fresh = match self.overlay.get(&key) {
            Some(Slot::New(_)) => true,
            Some(_) => false,
            None => free,
        };
        self.change(key, Some(if fresh { Slot::New(value) } else { Slot::Put(value) }));
    }

    /// Deletes a key.
    pub(crate) fn delete(&mut self, key: Key) {
        let fresh = matches!(self.overlay.get(&key), Some(Slot::New(_)));
        self.change(key, (!fresh).then_some(Slot::Deleted));
    }

    fn change(&mut self, key: Key, slot: Option<Slot>) {
        if !self.young.is_empty() {
            self.young.remove(&key);
        }
        if !self.old.is_empty() {
            self.old.remove(&key);
        }
        let before = self.swap(key.clone(), slot);
        self.undo.push((key, before));
    }

    fn swap(&mut self, key: Key, slot: Option<Slot>) -> Option<Slot> {
        let size = |slot: &Slot| ENTRY_BYTES + slot.value().map_or(0, Bytes::len);
        let before = match slot {
            Some(slot) => {
                self.overlay_bytes += size(&slot);
                self.overlay.insert(key, slot)
            }
            None => self.overlay.remove(&key),
        };
        self.overlay_bytes -= before.as_ref().map_or(0, size);
        before
    }

    /// Keeps what the running command changed.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
    }

    /// Takes back everything since the last [`Tables::commit`].
    pub(crate) fn rollback(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            self.swap(key, before);
        }
    }

    /// What a view shares with the tables: the layers that hold what the store lacks, the newest first. Commands that
    /// come later do not change them. Merges nothing and copies no record.
    pub(crate) fn seal(&mut self) -> Vec<Arc<Layer>> {
        assert!(self.undo.is_empty(), "sealed only between commands");
        if !self.overlay.is_empty() {
            self.sealed.insert(0, Arc::new(std::mem::take(&mut self.overlay)));
        }
        let frozen = self.frozen.iter().flatten();
        self.sealed.iter().chain(frozen).cloned().collect()
    }

    /// The newest sealed layers, if they are to be merged and no others are being merged: a layer is while it is less than
    /// twice as large as all newer ones.
    pub(crate) fn begin_merge(&mut self) -> Option<LayerMerge> {
        if self.merging {
            return None;
        }
        let (mut size, mut count) = (0, 0);
        for layer in &self.sealed {
            if count > 0 && layer.len() >= 2 * size {
                break;
            }
            (size, count) = (size + layer.len(), count + 1);
        }
        if count < 2 {
            return None;
        }
        self.merging = true;
        let layers = self.sealed.iter().take(count).cloned().collect();
        Some(LayerMerge { layers })
    }

    /// Puts the merged layer in the place of those that it was made of, unless a batch has taken them meanwhile. Gives what
    /// is not needed any more.
    pub(crate) fn end_merge(&mut self, merged: MergedLayers) -> OldLayers {
        let MergedLayers { mut layers, layer } = merged;
        let is_same = |(one, other): (&Arc<Layer>, &Arc<Layer>)| Arc::ptr_eq(one, other);
        let is_at = |sealed: &[Arc<Layer>]| sealed.iter().zip(&layers).all(is_same);
        if let Some(at) = self.sealed.windows(layers.len()).position(is_at) {
            assert!(self.merging, "one merge at a time");
            self.merging = false;
            self.sealed.splice(at..at + layers.len(), [layer]);
        } else {
            layers.push(layer);
        }
        OldLayers { _layers: layers }
    }

    /// Moves the overlay into layers for the store, the newest first, unless a batch is on its way.
    pub(crate) fn freeze(&mut self) -> Option<Vec<Arc<Layer>>> {
        assert!(self.undo.is_empty(), "frozen only between commands");
        if self.frozen.is_some() {
            return None;
        }
        let mut layers = std::mem::take(&mut self.sealed);
        if !self.overlay.is_empty() {
            layers.insert(0, Arc::new(std::mem::take(&mut self.overlay)));
        }
        self.overlay_bytes = 0;
        self.merging = false;
        self.frozen = Some(layers.clone());
        Some(layers)
    }

    /// The frozen layers are in the store; `written` has the changes of all of them. Gives what is not needed any more.
    pub(crate) fn thaw(&mut self, written: Arc<Layer>) -> OldLayers {
        let mut old = self.frozen.take().expect("a batch was on its way");
        debug_assert!(
            old.iter()
                .flat_map(|layer| layer.keys())
                .all(|key| written.contains_key(key)),
            "what was frozen was written"
        );
        old.push(std::mem::replace(&mut self.recent, written));
        OldLayers { _layers: old }
    }

    /// Visits the live records with `from <= key < to`.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        order: Order,
        visit: Visitor<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let mut changes = Changes::new(self.layers(), from, to, order);
        let mut ended = false;
        self.store.scan(from, to, order, &mut |key, value| {
            loop {
                let side = changes
                    .peek()
                    .map_or(Ordering::Greater, |next| direct(next.cmp(key), order));
                if side == Ordering::Greater {
                    break;
                }
                let Some((changed, slot)) = changes.next() else {
                    break;
                };
                let flow = slot
                    .value()
                    .map_or(ControlFlow::Continue(()), |value| visit(changed, value));
                if flow.is_break() {
                    ended = true;
                    return flow;
                }
                if side == Ordering::Equal {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(key, value);
            ended = flow.is_break();
            flow
        })?;
        while !ended && let Some((key, slot)) = changes.next() {
            ended = slot.value().is_some_and(|value| visit(key, value).is_break());
        }
        Ok(())
    }

    /// The first (or, downwards, last) live record of a range.
    pub(crate) fn first(&self, from: &[u8], to: &[u8], order: Order) -> Result<Option<Record>, StoreError> {
        let mut found = None;
        self.scan(from, to, order, &mut |key, value| {
            found = Some((key.to_vec(), Bytes::copy_from_slice(value)));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// At most `limit` live records of a range.
    pub(crate) fn page(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut page = Vec::new();
        if limit == 0 {
            return Ok(page);
        }
        self.scan(from, to, Order::Up, &mut |key, value| {
            page.push((key.to_vec(), Bytes::copy_from_slice(value)));
            if page.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(page)
    }
}

/// The stored form of a record that is one of its key.
fn encoded<R: Stored>(key: &Key, record: &R) -> Bytes {
    if let Some(expected) = record.fault_under(key.as_slice()) {
        panic!("key {key:?} is for {expected}: another record is written under it");
    }
    encode(record)
}

/// A key and its stored value.
pub(crate) type Record = (Vec<u8>, Bytes);

/// `ordering` as seen in the direction of the scan: `Less` comes first.
fn direct(ordering: Ordering, order: Order) -> Ordering {
    match order {
        Order::Up => ordering,
        Order::Down => ordering.reverse(),
    }
}

/// A key and its change.
type Entry<'a> = (&'a [u8], &'a Slot);

/// Sealed layers that are to be one.
#[must_use = "nothing else is merged until it is given back"]
pub struct LayerMerge {
    /// The newest first.
    layers: Vec<Arc<Layer>>,
}

/// Layers that the tables do not need any more. Views may still share some; the others go with this, which takes as long
/// as they are large.
#[must_use = "drop it behind the end of the lock on the namespace"]
pub struct OldLayers {
    _layers: Vec<Arc<Layer>>,
}

/// What [`LayerMerge::run`] has made.
pub struct MergedLayers {
    layers: Vec<Arc<Layer>>,
    layer: Arc<Layer>,
}

impl LayerMerge {
    /// Merges them: takes as long as they are large, and needs no lock.
    #[must_use]
    pub fn run(self) -> MergedLayers {
        let layer = merged(self.layers.clone());
        MergedLayers {
            layers: self.layers,
            layer,
        }
    }
}

/// The layers (the newest first) in one; the changes of newer ones hide those of older ones.
pub(crate) fn merged(newest_first: Vec<Arc<Layer>>) -> Arc<Layer> {
    let mut oldest_first = newest_first.into_iter().rev();
    let oldest = oldest_first.next().unwrap_or_default();
    oldest_first.fold(oldest, |lower, upper| {
        let mut merged = Arc::unwrap_or_clone(lower);
        merged.append(&mut Arc::unwrap_or_clone(upper));
        Arc::new(merged)
    })
}

type Entries<'a> = Box<dyn Iterator<Item = Entry<'a>> + 'a>;

/// The changes of several layers in order; a newer layer's change of a key hides an older one's.
struct Changes<'a> {
    /// The next change of each layer and those behind it, the newest layer first.
    layers: Vec<(Option<Entry<'a>>, Entries<'a>)>,
    order: Order,
}

impl<'a> Changes<'a> {
    fn new(layers: impl Iterator<Item = &'a Layer>, from: &[u8], to: &[u8], order: Order) -> Self {
        let range = |layer: &'a Layer| -> Entries<'a> {
            let range = layer.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
            let entries = range.map(|(key, slot)| (key.as_slice(), slot));
            match order {
                Order::Up => Box::new(entries),
                Order::Down => Box::new(entries.rev()),
            }
        };
        let layers = layers.map(range).map(|mut entries| (entries.next(), entries));
        Self {
            layers: layers.collect(),
            order,
        }
    }

    fn peek(&self) -> Option<&'a [u8]> {
        let keys = self.layers.iter().filter_map(|(next, _)| Some(next.as_ref()?.0));
        keys.min_by(|one, other| direct(one.cmp(other), self.order))
    }

    fn next(&mut self) -> Option<Entry<'a>> {
        let key = self.peek()?;
        let mut found = None;
        for (next, entries) in &mut self.layers {
            if let Some(entry) = next.take_if(|entry| entry.0 == key) {
                found.get_or_insert(entry);
                *next = entries.next();
            }
        }
        found
    }
}
