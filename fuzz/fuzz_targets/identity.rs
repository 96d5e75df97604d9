#![no_main]
#![allow(dead_code, reason = "the file is shared with tests")]

#[path = "../../crates/drystone-identity/tests/fuzzed/mod.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::identity_file(data));
