//! The metadata servers' state stores in a simulation: ordered maps that lose at a crash what fjall may lose.
//!
//! A store keeps its last checkpoint and the batches since. When its process dies any suffix of those batches is
//! gone; when the power fails a batch in the middle may be gone alone (a hole, which the batch chain must show).

use crate::check::state::{self, Map};
use crate::sometimes::sometimes;
use bytes::Bytes;
use drystone_env::{Rng, SeededRng};
use drystone_meta::stores::{OpenFailure, States};
use drystone_namespace::store::Visitor;
use drystone_namespace::{Batch, Order, OrderedStore, StoreError, View};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One of so many batches is followed by a look at the whole.
const WHOLE: u64 = 100;
/// Faults that are kept of one store: the first ones tell.
const FAULTS: usize = 10;

type Changes = Vec<(Vec<u8>, Option<Bytes>)>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Contents {
    /// Shared with the views of it until the next batch.
    now: Arc<Map>,
    durable: Map,
    since: Vec<Changes>,
    /// Of the process that has it open; what an older one writes is lost.
    opened: u64,
    batches: u64,
    /// A crash has left a hole, and nobody has opened it since: who does must see that.
    hole: bool,
    /// What the checks found.
    faults: Vec<String>,
}

fn apply(map: &mut Map, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

impl Contents {
    fn write(&mut self, changes: Changes) {
        let mut faults = state::step(&self.now, &changes);
        apply(Arc::make_mut(&mut self.now), &changes);
        self.since.push(changes);
        self.batches += 1;
        if self.batches.is_multiple_of(WHOLE) {
            faults.extend(state::whole(&self.now));
        }
        let room = FAULTS.saturating_sub(self.faults.len());
        self.faults.extend(faults.into_iter().take(room));
    }

    fn crash(&mut self, rng: &mut SeededRng, power: bool, holes: bool) {
        self.opened += 1;
        let mut since = std::mem::take(&mut self.since);
        since.truncate(rng.below(since.len() as u64 + 1) as usize);
        if power && holes && since.len() > 1 && rng.chance(1, 2) {
            let hole = rng.below(since.len() as u64 - 1) as usize;
            since.remove(hole);
            self.hole = true;
            sometimes("state store with a hole");
        }
        for changes in &since {
            apply(&mut self.durable, changes);
        }
        self.now = Arc::new(self.durable.clone());
    }
}

/// The state stores of one metadata server. Clones are the same.
#[derive(Clone)]
pub struct SimStates(Arc<Mutex<Directory>>);

struct Directory {
    rng: SeededRng,
    states: BTreeMap<u64, Arc<Mutex<Contents>>>,
    new: Option<Arc<Mutex<Contents>>>,
    holes: bool,
}

impl SimStates {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Directory {
            rng: SeededRng::new(seed).split("states"),
            states: BTreeMap::new(),
            new: None,
            holes: false,
        })))
    }

    /// What the checks of all batches found, and those of the whole state that counts.
    pub fn faults(&self) -> Vec<String> {
        let directory = lock(&self.0);
        let states = directory.states.values().chain(&directory.new);
        let mut faults: Vec<String> = states.flat_map(|state| lock(state).faults.clone()).collect();
        let last = directory.states.values().next_back().map(|state| lock(state));
        if let Some(last) = last.filter(|last| !last.hole) {
            faults.extend(state::whole(&last.now));
        }
        faults
    }

    /// Stores of their own with the same contents, of which all is durable.
    pub fn fork(&self, seed: u64) -> Self {
        let directory = lock(&self.0);
        let copy = |contents: &Arc<Mutex<Contents>>| {
            let now = lock(contents).now.clone();
            Arc::new(Mutex::new(Contents {
                durable: (*now).clone(),
                now,
                ..Contents::default()
            }))
        };
        let states = directory.states.iter();
        Self(Arc::new(Mutex::new(Directory {
            rng: SeededRng::new(seed).split("states"),
            states: states
                .map(|(number, contents)| (*number, copy(contents)))
                .collect(),
            new: None,
            holes: false,
        })))
    }

    /// True if the state that counts has a record of the node.
    pub fn has_node(&self, node: u64) -> bool {
        let directory = lock(&self.0);
        let last = directory.states.values().next_back();
        last.is_some_and(|state| state::has_node(&lock(state).now, node))
    }

    /// Power cuts may leave holes from now on. A cluster bears that of one voter, not of all at once.
    pub fn allow_holes(&self) {
        lock(&self.0).holes = true;
    }

    /// The process has died, with `power` by a power cut.
    pub fn crash(&self, power: bool) {
        let mut directory = lock(&self.0);
        let directory = &mut *directory;
        for state in directory.states.values().chain(&directory.new) {
            lock(state).crash(&mut directory.rng, power, directory.holes);
        }
    }
}

fn opened(contents: &Arc<Mutex<Contents>>) -> Arc<dyn OrderedStore> {
    let opened = {
        let mut contents = lock(contents);
        contents.opened += 1;
        contents.hole = false;
        contents.opened
    };
    Arc::new(SimStore {
        contents: Arc::clone(contents),
        opened,
    })
}

impl States for SimStates {
    fn open(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        let mut directory = lock(&self.0);
        if directory.states.is_empty() {
            directory.states.insert(1, Arc::default());
        }
        let (_, state) = directory.states.last_key_value().expect("there is one");
        Ok(opened(state))
    }

    fn abandon(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        let mut directory = lock(&self.0);
        let next = directory.states.keys().next_back().map_or(1, |last| last + 1);
        let state = Arc::default();
        directory.states.insert(next, Arc::clone(&state));
        Ok(opened(&state))
    }

    fn begin(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        let mut directory = lock(&self.0);
        let state = Arc::default();
        directory.new = Some(Arc::clone(&state));
        Ok(opened(&state))
    }

    fn adopt(&self) -> Result<Arc<dyn OrderedStore>, OpenFailure> {
        let mut directory = lock(&self.0);
        let next = directory.states.keys().next_back().map_or(1, |last| last + 1);
        let state = directory.new.take().expect("a new state was begun");
        directory.states.insert(next, Arc::clone(&state));
        Ok(opened(&state))
    }

    fn remove_old(&self) -> std::io::Result<()> {
        let mut directory = lock(&self.0);
        while directory.states.len() > 1 {
            directory.states.pop_first();
        }
        Ok(())
    }
}

struct SimStore {
    contents: Arc<Mutex<Contents>>,
    opened: u64,
}

fn scan(map: &Map, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) {
    if from >= to {
        return;
    }
    let range = map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
    let records: Box<dyn Iterator<Item = _>> = match order {
        Order::Up => Box::new(range),
        Order::Down => Box::new(range.rev()),
    };
    for (key, value) in records {
        if visit(key, value).is_break() {
            return;
        }
    }
}

impl View for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.contents).now.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        scan(&lock(&self.contents).now, from, to, order, visit);
        Ok(())
    }
}

impl OrderedStore for SimStore {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut contents = lock(&self.contents);
        if contents.opened == self.opened {
            let changes: Changes = batch
                .iter()
                .map(|(key, value)| (key.to_vec(), value.cloned()))
                .collect();
            contents.write(changes);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut contents = lock(&self.contents);
        if contents.opened == self.opened {
            contents.since.clear();
            contents.durable = (*contents.now).clone();
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(Frozen(Arc::clone(&lock(&self.contents).now))))
    }
}

struct Frozen(Arc<Map>);

impl View for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        scan(&self.0, from, to, order, visit);
        Ok(())
    }
}
