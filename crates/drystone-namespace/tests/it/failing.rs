//! A store that fails: what was not synced is never told as synced, and what was is there again.

use crate::cluster::{Cluster, POLICY, settings};
use bytes::Bytes;
use drystone_namespace::store::Visitor;
use drystone_namespace::{Batch, MemoryStore, Namespace, Order, OrderedStore, StoreError, View};
use drystone_proto::command::{Command, Entry, Initialize, Op};
use drystone_types::LogIndex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Fails at its `nth` write or sync, and at each one after it; a write that fails may be there or not.
struct Failing {
    inner: MemoryStore,
    left: AtomicU64,
    lands: bool,
    code: i32,
}

impl Failing {
    fn new(nth: u64, lands: bool, code: i32) -> Self {
        Self {
            inner: MemoryStore::new(),
            left: AtomicU64::new(nth),
            lands,
            code,
        }
    }

    fn step(&self, what: &'static str) -> Result<(), StoreError> {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        if left > 0 {
            return Ok(());
        }
        let reason = std::io::Error::from_raw_os_error(self.code).to_string();
        Err(StoreError::Io { what, reason })
    }
}

impl View for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visitor<'_>) -> Result<(), StoreError> {
        self.inner.scan(from, to, order, visit)
    }
}

impl OrderedStore for Failing {
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let step = self.step("writing");
        if step.is_ok() || self.lands {
            self.inner.write(batch)?;
        }
        step
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.step("syncing")?;
        self.inner.sync()
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        self.inner.view()
    }
}

fn entry(at: u64) -> Entry {
    let op = match at {
        1 => Op::Initialize(Initialize {
            policy: Some(POLICY),
            owner: "drystone".to_owned(),
            mode: 0,
        }),
        _ => Cluster::mkdir(&format!("d{at}")),
    };
    Entry {
        time: at,
        command: Some(Command { op: Some(op) }),
        ..Entry::default()
    }
}

#[test]
fn a_batch_that_fails_is_not_told_as_synced_and_the_state_is_that_of_a_batch_before() {
    const EACH: u64 = 3;
    for (nth, lands, code, kept) in (0..12).flat_map(|nth| {
        [(true, 28, 0), (true, 5, 1), (false, 28, 1), (false, 5, 0)]
            .map(|(lands, code, kept)| (nth, lands, code, kept))
    }) {
        let store = Arc::new(Failing::new(nth, lands, code));
        let mut ns = Namespace::open(Arc::clone(&store), settings()).unwrap();
        let (mut index, mut synced, mut hashes) = (0, 0, vec![(0, ns.state_hash().unwrap())]);
        let error = loop {
            for _ in 0..EACH {
                index += 1;
                assert_eq!(ns.apply(LogIndex(index), &entry(index)).unwrap().code, 0);
            }
            hashes.push((index, ns.state_hash().unwrap()));
            match ns.freeze().unwrap().write_to(&*store) {
                Ok(flushed) => drop(ns.flushed(flushed)),
                Err(error) => break error,
            }
            synced = index;
        };
        assert!(error.to_string().contains(&format!("os error {code}")), "{error}");
        assert_eq!(
            ns.synced_index(),
            LogIndex(synced),
            "the log is kept from there on"
        );
        // Nothing goes to the store behind a batch of which nobody knows whether it is there.
        index += 1;
        ns.apply(LogIndex(index), &entry(index)).unwrap();
        assert!(ns.freeze().is_none());
        drop(ns);
        store.inner.crash(kept);
        let mut again = Namespace::open(Arc::clone(&store), settings()).unwrap();
        let found = again.applied().0;
        assert!(found >= synced && found <= synced + EACH, "{found} of {synced}");
        let hash = again.state_hash().unwrap();
        assert!(hashes.contains(&(found, hash)), "the state as of {found}");
        for at in found + 1..=index {
            again.apply(LogIndex(at), &entry(at)).unwrap();
        }
        assert_eq!(again.applied(), LogIndex(index), "the log brings the rest");
    }
}
