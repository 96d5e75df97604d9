#![no_main]
#![allow(dead_code, unused_imports, reason = "the files are shared with tests and other targets")]

#[path = "../../crates/drystone-namespace/tests/it/cluster.rs"]
mod cluster;
#[path = "../../crates/drystone-namespace/tests/it/fuzzed/mod.rs"]
mod fuzzed;
#[path = "../../crates/drystone-namespace/tests/it/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::snapshot(data));
