#![no_main]
#![allow(dead_code, reason = "the files are shared with tests")]

#[path = "../../crates/drystone-store/tests/it/fuzzed.rs"]
mod fuzzed;
#[path = "../../crates/drystone-store/tests/it/harness.rs"]
mod harness;
#[path = "../../crates/drystone-store/tests/it/image.rs"]
mod image;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::store(data));
