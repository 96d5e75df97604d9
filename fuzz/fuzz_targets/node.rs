#![no_main]
#![allow(dead_code, reason = "the files are shared with tests")]

#[path = "../../crates/drystone/src/node/config.rs"]
mod config;
#[path = "../../crates/drystone/src/node/gateway.rs"]
mod gateway;
#[path = "../../crates/drystone/src/node/fuzzed.rs"]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::node(data));
