#![no_main]
#![allow(dead_code, reason = "the files are shared with tests")]

#[path = "../../crates/drystone-namespace/tests/it/cluster.rs"]
mod cluster;
#[path = "../../crates/drystone-namespace/tests/it/fuzzed/mod.rs"]
mod fuzzed;
#[path = "../../crates/drystone-namespace/tests/it/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::commands(data));
