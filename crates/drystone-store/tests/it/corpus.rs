//! The seeds of the fuzz target `store`, and all that a fuzzer once found.

#[path = "../../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../../fuzz/scripts.rs"]
mod scripts;

use crate::fuzzed;
use crate::image::image;

#[test]
fn every_image_of_the_corpus_opens_or_is_refused() {
    replay::replay("store", 25, fuzzed::store);
}

/// The scripts below name files by their place in this list.
#[test]
fn the_image_has_the_files_that_the_seeds_name() {
    let files = image(3).files();
    assert_eq!(
        files[..3],
        ["checkpoint-a", "checkpoint-b", "journal/00000001.seg"]
    );
    assert!(files[4].starts_with("slots/"), "{files:?}");
}

#[test]
fn every_image_of_random_changes_opens_or_is_refused() {
    scripts::random(300, 33, fuzzed::store);
}

/// One seed for each kind of change in each kind of file, and forgeries of what lies behind the checksums.
#[test]
fn the_corpus_holds_the_seeds() {
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("untouched", vec![]),
        ("checkpoint-flip", vec![0, 0, 0, 0, 20, 0, 1, 0]),
        (
            "checkpoint-flip-both",
            vec![0, 0, 1, 0, 20, 0, 1, 0, 0, 1, 1, 0, 30, 0, 1, 0],
        ),
        ("checkpoint-cut", vec![2, 1, 1, 0, 9, 0, 0, 0]),
        ("checkpoint-removed", vec![4, 0, 0, 0, 0, 0, 0, 0]),
        (
            "checkpoints-removed",
            vec![4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("journal-flip-header", vec![0, 2, 0, 0, 30, 0, 1, 0]),
        ("journal-flip-record", vec![0, 2, 1, 0, 200, 0, 1, 0]),
        ("journal-zeros", vec![1, 2, 2, 0, 0, 0, 0, 0]),
        ("journal-cut", vec![2, 2, 3, 0, 0, 0, 0, 0]),
        ("journal-removed", vec![4, 2, 0, 0, 0, 0, 0, 0]),
        ("journal-exchanged", vec![5, 2, 0, 0, 0, 0, 0, 3]),
        ("journal-copied", vec![3, 2, 5, 0, 0, 0, 2, 2]),
        ("slot-flip-head", vec![0, 4, 0, 0, 9, 0, 1, 0]),
        ("slot-flip-sums", vec![0, 4, 0, 0, 66, 0, 1, 0]),
        ("slot-flip-data", vec![0, 4, 1, 0, 66, 0, 1, 0]),
        ("slot-copied", vec![3, 4, 1, 0, 0, 0, 18, 4]),
        ("slot-cut", vec![2, 4, 20, 0, 1, 0, 0, 0]),
        ("slot-removed", vec![4, 4, 0, 0, 0, 0, 0, 0]),
        (
            "slot-file-lost",
            vec![0, 4, 0, 0, 2, 195, 195, 195, 195, 195, 195, 195, 195, 195, 0, 0],
        ),
        ("slots-exchanged", vec![5, 4, 0, 0, 0, 0, 0, 5]),
        ("slot-for-journal", vec![5, 2, 0, 0, 0, 0, 0, 4]),
        // Forgeries: entry fields of the checkpoint's body (54 bytes each, behind the count), in both copies.
        (
            "forged-checkpoint-count",
            vec![136, 0, 1, 0, 0, 0, 2, 0, 136, 1, 1, 0, 0, 0, 2, 0],
        ),
        (
            "forged-checkpoint-length",
            vec![136, 0, 0, 0, 48, 0, 2, 0, 136, 1, 0, 0, 48, 0, 5, 0],
        ),
        (
            "forged-checkpoint-replay",
            vec![136, 0, 0, 0, 32, 0, 0, 0, 136, 1, 0, 0, 32, 0, 0, 0],
        ),
        (
            "forged-entry-slot",
            vec![
                135, 0, 1, 0, 34, 0, 7, 0, 0, 0, 0, 0, 255, 255, 255, 255, 4, 1, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (
            "forged-entry-state",
            vec![135, 0, 1, 0, 32, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0],
        ),
        ("forged-journal-epoch", vec![136, 2, 0, 0, 118, 0, 2, 0]),
        ("forged-journal-length", vec![136, 2, 0, 0, 136, 0, 5, 0]),
        ("forged-journal-first", vec![136, 2, 0, 0, 156, 0, 2, 0]),
        ("forged-journal-offset", vec![136, 2, 0, 0, 164, 0, 3, 0]),
        ("forged-slot-length", vec![136, 4, 0, 0, 32, 0, 2, 0]),
        ("forged-slot-chunk", vec![136, 4, 0, 0, 8, 0, 1, 0]),
    ];
    replay::seeds("store", &seeds);
}
