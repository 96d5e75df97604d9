//! The seeds of the fuzz target `export`, and all that a fuzzer once found.

#[path = "../../../../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../../../../fuzz/scripts.rs"]
mod scripts;

#[test]
fn every_export_of_the_corpus_is_believed_or_refused() {
    replay::replay("export", 15, super::export);
}

#[test]
fn every_export_of_random_changes_is_believed_or_refused() {
    scripts::random(300, 33, super::export);
}

#[test]
fn the_corpus_holds_the_seeds() {
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("untouched", vec![]),
        ("flip-header", vec![0, 0, 0, 0, 20, 0, 1, 0]),
        ("flip-content", vec![0, 0, 1, 0, 90, 0, 1, 0]),
        ("flip-padding", vec![0, 0, 255, 0, 255, 15, 1, 0]),
        ("cut", vec![2, 0, 1, 0, 100, 0, 0, 0]),
        ("cut-at-a-block", vec![2, 0, 1, 0, 0, 0, 0, 0]),
        ("longer", vec![6, 0, 0, 0, 0, 0, 0, 0]),
        ("removed", vec![4, 0, 0, 0, 0, 0, 0, 0]),
        ("resealed", vec![128, 0, 0, 0, 200, 0, 0, 0]),
        ("forged-applied", vec![136, 0, 0, 0, 16, 0, 2, 0]),
        ("forged-time", vec![136, 0, 0, 0, 24, 0, 2, 0]),
        ("forged-length", vec![136, 0, 0, 0, 32, 0, 2, 0]),
        ("forged-short-length", vec![136, 0, 0, 0, 32, 0, 1, 0]),
        ("forged-version", vec![135, 0, 0, 0, 8, 0, 0, 0, 9]),
        (
            "forged-block-length",
            vec![135, 0, 1, 0, 8, 0, 3, 0, 255, 255, 255, 127],
        ),
        (
            "forged-record-length",
            vec![135, 0, 1, 0, 16, 0, 3, 0, 255, 255, 255, 127],
        ),
        (
            "forged-value-length",
            vec![135, 0, 1, 0, 20, 0, 3, 0, 255, 255, 255, 255],
        ),
        ("forged-state", vec![135, 0, 1, 0, 28, 0, 0, 0, 99]),
        ("forged-record", vec![135, 0, 1, 0, 200, 0, 3, 0, 1, 2, 3, 4]),
    ];
    replay::seeds("export", &seeds);
}
