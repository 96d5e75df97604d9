//! Replays the fuzzing corpus of the frame decoder: whatever a fuzzer once found stays found.

use drystone_rpc::decode_stream;
use std::path::Path;

#[test]
fn every_seed_is_decoded_or_refused_the_same_way_however_it_is_cut() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/frame");
    let mut seeds = 0;
    for entry in std::fs::read_dir(&directory).expect("the corpus is in the repository") {
        let path = entry.expect("a readable directory").path();
        let bytes = std::fs::read(&path).expect("a readable seed");
        let whole = decode_stream(&bytes);
        let pool = drystone_env::BufferPool::new(0);
        let mut decoder = drystone_rpc::FrameDecoder::new(pool, drystone_rpc::FrameLimits::WIRE);
        let mut frames = Vec::new();
        let pieces = bytes
            .chunks(1)
            .try_for_each(|piece| decoder.feed(piece, &mut frames));
        assert_eq!(pieces.map(|()| frames), whole, "{}", path.display());
        seeds += 1;
    }
    assert!(seeds >= 10, "only {seeds} seeds in {}", directory.display());
}
