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
    let names = [
        "arenas/00000000",
        "arenas/00000001",
        "checkpoint-a",
        "checkpoint-b",
        "index-a",
        "index-b",
        "journal/00000001.seg",
    ];
    assert_eq!(files[..7], names);
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
        ("checkpoint-flip", vec![0, 2, 0, 0, 20, 0, 1, 0]),
        (
            "checkpoint-flip-both",
            vec![0, 2, 1, 0, 20, 0, 1, 0, 0, 3, 1, 0, 30, 0, 1, 0],
        ),
        ("checkpoint-cut", vec![2, 3, 1, 0, 9, 0, 0, 0]),
        ("checkpoint-removed", vec![4, 2, 0, 0, 0, 0, 0, 0]),
        (
            "checkpoints-removed",
            vec![4, 2, 0, 0, 0, 0, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0],
        ),
        ("index-flip", vec![0, 4, 0, 0, 20, 0, 1, 0]),
        (
            "index-flip-both",
            vec![0, 4, 0, 0, 20, 0, 1, 0, 0, 5, 0, 0, 30, 0, 1, 0],
        ),
        ("index-cut", vec![2, 4, 0, 0, 9, 0, 0, 0]),
        ("index-removed", vec![4, 4, 0, 0, 0, 0, 0, 0]),
        (
            "indexes-removed",
            vec![4, 4, 0, 0, 0, 0, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0],
        ),
        ("index-zeros", vec![1, 5, 0, 0, 0, 0, 0, 0]),
        ("forged-leaf-count", vec![136, 4, 0, 0, 4, 0, 2, 0]),
        ("forged-checkpoint-place", vec![136, 2, 1, 0, 120, 0, 2, 0]),
        ("journal-flip-header", vec![0, 6, 0, 0, 30, 0, 1, 0]),
        ("journal-flip-record", vec![0, 6, 1, 0, 200, 0, 1, 0]),
        ("journal-zeros", vec![1, 6, 2, 0, 0, 0, 0, 0]),
        ("journal-cut", vec![2, 6, 3, 0, 0, 0, 0, 0]),
        ("journal-removed", vec![4, 6, 0, 0, 0, 0, 0, 0]),
        ("journal-exchanged", vec![5, 6, 0, 0, 0, 0, 0, 7]),
        ("journal-copied", vec![3, 6, 5, 0, 0, 0, 2, 6]),
        // The first chunk has two blocks of data, then its tail.
        ("tail-flip", vec![0, 0, 2, 0, 9, 0, 1, 0]),
        ("tail-flip-sums", vec![0, 0, 2, 0, 66, 0, 1, 0]),
        ("data-flip", vec![0, 0, 1, 0, 66, 0, 1, 0]),
        ("arena-copied", vec![3, 0, 1, 0, 0, 0, 18, 0]),
        ("arena-cut", vec![2, 0, 20, 0, 1, 0, 0, 0]),
        ("arena-removed", vec![4, 0, 0, 0, 0, 0, 0, 0]),
        ("second-arena-removed", vec![4, 1, 0, 0, 0, 0, 0, 0]),
        ("arenas-exchanged", vec![5, 0, 0, 0, 0, 0, 0, 1]),
        ("arena-for-journal", vec![5, 6, 0, 0, 0, 0, 0, 0]),
        // Forgeries: entry fields of the checkpoint's body (67 bytes each, behind the count), in both copies.
        (
            "forged-checkpoint-count",
            vec![136, 2, 1, 0, 0, 0, 2, 0, 136, 3, 1, 0, 0, 0, 2, 0],
        ),
        (
            "forged-checkpoint-length",
            vec![136, 2, 0, 0, 48, 0, 2, 0, 136, 3, 0, 0, 48, 0, 5, 0],
        ),
        (
            "forged-checkpoint-replay",
            vec![136, 2, 0, 0, 32, 0, 0, 0, 136, 3, 0, 0, 32, 0, 0, 0],
        ),
        (
            "forged-checkpoint-next-arena",
            vec![136, 2, 0, 0, 56, 0, 2, 0, 136, 3, 0, 0, 56, 0, 2, 0],
        ),
        (
            "forged-entry-run",
            vec![
                135, 2, 1, 0, 59, 0, 7, 0, 1, 0, 192, 255, 255, 15, 0, 0, 6, 3, 0, 0, 0, 0, 0, 0,
            ],
        ),
        (
            "forged-entry-runs",
            vec![135, 2, 1, 0, 57, 0, 1, 0, 255, 255, 6, 3, 0, 0, 0, 0, 0, 0],
        ),
        (
            "forged-entry-state",
            vec![135, 2, 1, 0, 32, 0, 0, 0, 0, 6, 3, 0, 0, 0, 0, 0, 0],
        ),
        ("forged-journal-epoch", vec![136, 6, 0, 0, 118, 0, 2, 0]),
        ("forged-journal-length", vec![136, 6, 0, 0, 127, 0, 5, 0]),
        ("forged-journal-tail", vec![136, 6, 0, 0, 147, 0, 1, 0]),
        ("forged-journal-run", vec![136, 6, 0, 0, 153, 0, 3, 0]),
        ("forged-journal-first", vec![136, 6, 0, 0, 161, 0, 2, 0]),
        ("forged-journal-offset", vec![136, 6, 0, 0, 169, 0, 3, 0]),
        ("forged-tail-length", vec![136, 0, 2, 0, 32, 0, 2, 0]),
        ("forged-tail-chunk", vec![136, 0, 2, 0, 8, 0, 1, 0]),
    ];
    replay::seeds("store", &seeds);
}
