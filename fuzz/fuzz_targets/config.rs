#![no_main]
#![allow(dead_code, reason = "the file is shared with tests and other targets")]

#[path = "../../crates/drystone-types/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::config(data));
