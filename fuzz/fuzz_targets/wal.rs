#![no_main]
#![allow(dead_code, reason = "the files are shared with tests")]

#[path = "../../crates/drystone-wal/tests/it/fuzzed.rs"]
mod fuzzed;
#[path = "../../crates/drystone-wal/tests/it/support.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::wal(data));
