//! Replays the fuzzing corpus of the frame decoder: whatever a fuzzer once found stays found.

mod fuzzed;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn every_seed_is_decoded_or_refused_the_same_way_however_it_is_cut() {
    replay::replay("frame", 10, fuzzed::frame);
}
