#![no_main]
#![allow(dead_code, unused_imports, reason = "the files are shared with tests and other targets")]

#[path = "../../crates/drystone-raft/tests/it/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::records(data));
