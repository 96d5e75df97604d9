use super::*;
use crate::leader::rig::Rig;
use bytes::Bytes;
use drystone_namespace::store::Visitor;
use drystone_namespace::{Batch, MemoryStore, Order, OrderedStore, View};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A store that counts how it is read.
#[derive(Default)]
struct Watched {
    store: MemoryStore,
    /// Reads that were not of a view: under the lock of the state.
    direct: AtomicUsize,
    views: AtomicUsize,
    /// Is called when the next view is made.
    on_view: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl View for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.direct.fetch_add(1, Ordering::Relaxed);
        self.store.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.direct.fetch_add(1, Ordering::Relaxed);
        self.store.scan(from, to, order, visit)
    }
}

impl OrderedStore for Watched {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.store.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.views.fetch_add(1, Ordering::Relaxed);
        let on_view = self.on_view.lock().unwrap().take();
        if let Some(call) = on_view {
            call();
        }
        self.store.view()
    }
}

/// A leader with a file that is lost, and its store.
fn leader() -> (Rig, Arc<Watched>) {
    let store = Arc::new(Watched::default());
    let rig = Rig::over(Arc::<Watched>::clone(&store));
    rig.enlist_silent(3);
    assert_eq!(rig.publish_on(3).code, 0);
    store.direct.store(0, Ordering::Relaxed);
    (rig, store)
}

fn lost(rig: &Rig) -> Option<u64> {
    let found = rig.parts.leader.with(|office| office.redundancy);
    found.unwrap().map(|found| found.lost().chunks)
}

#[tokio::test]
async fn a_count_reads_a_view_and_nothing_under_the_lock_of_the_state() {
    let (rig, store) = leader();
    let mut task = Redundancy::begin(&rig.parts);
    assert_eq!(lost(&rig), None);
    task.round(&rig.parts).await;
    assert_eq!(lost(&rig), Some(1));
    assert_eq!(store.direct.load(Ordering::Relaxed), 0);
    assert_eq!(store.views.load(Ordering::Relaxed), 1);
    rig.lifecycle.stop();
}

#[tokio::test]
async fn what_was_counted_for_one_office_is_not_said_in_the_next() {
    let (rig, store) = leader();
    let view = rig.view.clone();
    let next_office: Box<dyn FnOnce() + Send> = Box::new(move || {
        view.send_modify(|view| view.office = Some(2));
    });
    *store.on_view.lock().unwrap() = Some(next_office);
    let mut task = Redundancy::begin(&rig.parts);
    task.round(&rig.parts).await;
    assert_eq!(rig.parts.raft.office(), Some(2));
    assert_eq!(lost(&rig), None);
    assert_eq!(rig.parts.metrics.redundancy_known.get(), 0);
    rig.lifecycle.stop();
}

#[tokio::test]
async fn after_a_count_there_is_a_rest_in_which_what_was_found_holds() {
    let (rig, store) = leader();
    let mut task = Redundancy::begin(&rig.parts);
    task.round(&rig.parts).await;
    assert!(task.rests_until.is_some());
    assert_eq!(rig.publish_on(3).code, 0);
    task.rests_until = Some(rig.parts.clock.now().plus(Duration::from_secs(3_600)));
    task.round(&rig.parts).await;
    assert_eq!((lost(&rig), store.views.load(Ordering::Relaxed)), (Some(1), 1));
    task.rests_until = None;
    task.round(&rig.parts).await;
    assert_eq!(lost(&rig), Some(2));
    rig.lifecycle.stop();
}
