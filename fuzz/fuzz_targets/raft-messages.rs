#![no_main]
#![allow(dead_code, reason = "the files are shared with tests")]

#[path = "../../crates/drystone-raft/tests/it/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::messages(data));
