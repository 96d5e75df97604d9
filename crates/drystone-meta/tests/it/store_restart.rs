//! What was written after the store was opened again counts over what it held before.

use drystone_meta::store::{FjallStore, StoreOptions};
use drystone_namespace::OrderedStore;
use std::ops::Bound;
use std::path::Path;

fn open(directory: &Path) -> FjallStore {
    FjallStore::open(directory, StoreOptions::default()).unwrap()
}

fn scanned(store: &FjallStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        true
    };
    store.visit((Bound::Unbounded, Bound::Unbounded), visit).unwrap();
    found
}

#[test]
fn a_value_that_was_written_after_a_restart_is_the_one_that_counts() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("store");
    let store = open(&directory);
    for round in 0..50_u8 {
        store
            .change([
                (b"key".as_slice(), Some([round].as_slice())),
                (b"gone", Some(b"x")),
            ])
            .unwrap();
    }
    store.checkpoint().unwrap();
    drop(store);
    for round in 100..110_u8 {
        let store = open(&directory);
        let view = store.view().unwrap();
        store
            .change([(b"key".as_slice(), Some([round].as_slice())), (b"gone", None)])
            .unwrap();
        let expected = vec![(b"key".to_vec(), vec![round])];
        assert_eq!(store.read(b"key").unwrap().unwrap(), [round].as_slice());
        assert_eq!(scanned(&store), expected, "round {round}, in memory");
        store.checkpoint().unwrap();
        assert_eq!(store.read(b"key").unwrap().unwrap(), [round].as_slice());
        assert_eq!(store.read(b"gone").unwrap(), None);
        assert_eq!(scanned(&store), expected, "round {round}, in tables");
        let seen = view.get(b"key").unwrap();
        assert!(seen.is_some(), "a view right after opening sees what is there");
    }
}

/// Keys of five bytes, above that of what is local.
fn record(number: u32) -> (Vec<u8>, Vec<u8>) {
    let value = [b"value ".as_slice(), &number.to_le_bytes(), &[7; 90]].concat();
    ([&[1], &number.to_be_bytes()[..]].concat(), value)
}

const RECORDS: u32 = 800_000;

/// A new store with one record, before those that are loaded.
fn open_with_one(directory: &Path) -> FjallStore {
    let store = open(directory);
    store
        .change([([0].as_slice(), Some(b"before".as_slice()))])
        .unwrap();
    store
}

fn load(store: &FjallStore, records: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) {
    let mut records = records;
    let fill = &mut |insert: drystone_namespace::store::Insert<'_>| {
        records.try_for_each(|(key, value)| insert(&key, &value))
    };
    store.load(fill).unwrap();
}

#[test]
fn what_was_loaded_is_there_after_a_restart_and_what_is_written_later_counts_over_it() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("store");
    let store = open_with_one(&directory);
    // More than one table holds.
    load(&store, (0..RECORDS).map(record));
    let all = || (0..RECORDS).map(record);
    let rest = |store: &FjallStore, from: u32| {
        let mut expected = all().skip(from as usize);
        let first = record(from).0;
        let visit = &mut |key: &[u8], value: &[u8]| {
            assert_eq!(expected.next(), Some((key.to_vec(), value.to_vec())));
            true
        };
        store
            .visit((Bound::Included(&first), Bound::Unbounded), visit)
            .unwrap();
        assert_eq!(expected.next(), None);
    };
    rest(&store, 0);
    // Written and removed while the store is open in which it was loaded, and after each restart.
    let mut store = store;
    for round in 0..4_u8 {
        let (changed, removed) = (record(u32::from(round) * 2).0, record(u32::from(round) * 2 + 1).0);
        store
            .change([
                (changed.as_slice(), Some([round].as_slice())),
                (removed.as_slice(), None),
            ])
            .unwrap();
        store.checkpoint().unwrap();
        drop(store);
        store = open(&directory);
        let view = store.view().unwrap();
        for earlier in 0..=round {
            let (changed, removed) = (
                record(u32::from(earlier) * 2).0,
                record(u32::from(earlier) * 2 + 1).0,
            );
            assert_eq!(store.read(&changed).unwrap().unwrap(), [earlier].as_slice());
            assert_eq!(view.get(&changed).unwrap().unwrap(), [earlier].as_slice());
            assert_eq!(store.read(&removed).unwrap(), None);
        }
    }
    assert_eq!(store.read(&[0]).unwrap().unwrap(), b"before".as_slice());
    rest(&store, 8);
}

#[test]
fn a_load_that_is_given_up_leaves_nothing_that_counts() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("store");
    let store = open_with_one(&directory);
    let gave_up = |reason: &str| drystone_namespace::StoreError::Io {
        what: "loading",
        reason: reason.to_owned(),
    };
    let stopped = store.load(&mut |insert| {
        (0..RECORDS)
            .map(record)
            .try_for_each(|(key, value)| insert(&key, &value))?;
        Err(gave_up("enough"))
    });
    assert!(stopped.unwrap_err().to_string().contains("enough"));
    let descending = store.load(&mut |insert| {
        let (key, value) = record(5);
        insert(&key, &value)?;
        let (key, value) = record(4);
        insert(&key, &value)
    });
    descending.unwrap_err();
    let before = vec![(vec![0], b"before".to_vec())];
    assert_eq!(scanned(&store), before);
    store.checkpoint().unwrap();
    drop(store);
    assert_eq!(scanned(&open(&directory)), before);
}
