//! The seeds of the fuzz targets `commands` and `snapshot`, and all that a fuzzer once found.

#[path = "../../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../../fuzz/scripts.rs"]
mod scripts;

use crate::fuzzed;

#[test]
fn every_command_of_the_corpus_is_applied_or_refused() {
    replay::replay("commands", 20, fuzzed::commands);
}

#[test]
fn every_snapshot_of_the_corpus_is_imported_or_refused() {
    replay::replay("snapshot", 15, fuzzed::snapshot);
}

#[test]
fn every_snapshot_of_random_changes_is_imported_or_refused() {
    scripts::random(200, 40, fuzzed::snapshot);
}

#[test]
fn the_corpora_hold_the_seeds() {
    replay::seeds("commands", &fuzzed::command_seeds());
    replay::seeds("snapshot", &fuzzed::snapshot_seeds());
}
