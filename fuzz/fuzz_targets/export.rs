#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_meta::fuzzed::export(data));
