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
