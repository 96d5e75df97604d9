//! The seeds of the fuzz target `wal`, and all that a fuzzer once found.

#[path = "../../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../../fuzz/scripts.rs"]
mod scripts;

use crate::fuzzed;

#[test]
fn every_image_of_the_corpus_opens_or_is_refused() {
    replay::replay("wal", 20, fuzzed::wal);
}

#[test]
fn every_image_of_random_changes_opens_or_is_refused() {
    scripts::random(300, 33, fuzzed::wal);
}

/// One seed for each kind of change, at a place where it matters, and some that combine them.
#[test]
fn the_corpus_holds_the_seeds() {
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("untouched", vec![0]),
        ("untouched-unmarked", vec![1]),
        ("flip-header", vec![0, 0, 1, 0, 0, 24, 0, 3, 0]),
        ("flip-record", vec![0, 0, 1, 1, 0, 0, 2, 3, 0]),
        ("flip-in-the-last-batch", vec![1, 0, 2, 4, 0, 100, 0, 1, 0]),
        ("zero-block", vec![0, 1, 1, 2, 0, 0, 0, 0, 0]),
        ("truncate", vec![0, 2, 0, 3, 0, 10, 1, 0, 0]),
        ("truncate-to-nothing", vec![0, 2, 2, 0, 0, 0, 0, 0, 0]),
        ("copy-block", vec![0, 3, 1, 3, 0, 0, 0, 2, 1]),
        ("copy-from-another-segment", vec![0, 3, 1, 0, 0, 0, 0, 0, 2]),
        ("remove", vec![0, 4, 1, 0, 0, 0, 0, 0, 0]),
        ("remove-the-newest", vec![1, 4, 2, 0, 0, 0, 0, 0, 0]),
        ("exchange", vec![0, 5, 0, 0, 0, 0, 0, 0, 1]),
        ("longer", vec![0, 6, 1, 0, 0, 0, 0, 0, 0]),
        ("write", vec![0, 7, 0, 2, 0, 96, 0, 3, 0, 1, 2, 3, 4]),
        ("forged-generation", vec![0, 136, 1, 0, 0, 24, 0, 2, 0]),
        ("forged-number", vec![0, 136, 1, 0, 0, 32, 0, 3, 0]),
        ("forged-last-number", vec![0, 136, 128, 0, 0, 32, 0, 2, 0]),
        ("forged-synced", vec![0, 136, 0, 0, 0, 40, 0, 5, 0]),
        ("forged-first", vec![0, 136, 1, 0, 0, 48, 0, 3, 0]),
        ("forged-released", vec![1, 136, 1, 0, 0, 56, 0, 4, 0]),
        ("forged-oldest", vec![0, 136, 2, 0, 0, 64, 0, 1, 0]),
        (
            "forged-lengths",
            vec![0, 135, 1, 0, 0, 72, 0, 7, 0, 1, 0, 0, 0, 255, 255, 0, 0],
        ),
        (
            "forged-record-length",
            vec![1, 135, 1, 1, 0, 96, 0, 3, 0, 255, 255, 255, 127],
        ),
        (
            "zeros-and-remove",
            vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0],
        ),
    ];
    replay::seeds("wal", &seeds);
}
