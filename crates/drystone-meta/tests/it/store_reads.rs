//! What a look-up in a large store reads.

use drystone_meta::store::{FjallStore, StoreOptions};
use std::fs;

/// Keys written between two looks: tables of several levels come to be.
const ROUND: u64 = 100_000;
/// A few blocks of a few tables.
const BOUND: u64 = 128 << 10;

/// Bytes that this thread has asked the system for.
fn bytes_read() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}

fn key(number: u64) -> [u8; 16] {
    // Spread over all tables.
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&spread.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

#[test]
fn a_look_up_reads_blocks_and_not_whole_filters_however_many_keys_there_are() {
    let home = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        cache_bytes: 256 << 10,
        memtable_bytes: 4 << 20,
        ..StoreOptions::default()
    };
    let store = FjallStore::open(&home.path().join("store"), options).unwrap();
    let mut worst = 0;
    for round in 0..8 {
        let keys: Vec<[u8; 16]> = (round * ROUND..(round + 1) * ROUND).map(key).collect();
        store
            .change(keys.iter().map(|key| (&key[..], Some(&b"v"[..]))))
            .unwrap();
        store.checkpoint().unwrap();
        let before = bytes_read();
        let looks = 200;
        for look in 0..looks {
            // Absent: every table is asked, mostly its filter alone.
            assert!(store.read(&key(1 << 40 | look)).unwrap().is_none());
        }
        worst = worst.max((bytes_read() - before) / looks);
    }
    assert!(worst < BOUND, "{worst} bytes read for each look-up");
}
