#![no_main]

#[path = "../../crates/drystone-rest/tests/fuzzed/cluster.rs"]
mod cluster;

use drystone_env::Env;
use drystone_rest::fuzzed::Subject;
use std::sync::LazyLock;

/// Connected once; the runtime stays, for the client ends with it.
static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let runtime = Box::leak(Box::new(runtime));
    let guard = runtime.enter();
    let env = Env::os();
    let (client, server) = runtime.block_on(cluster::client(&env));
    std::mem::forget((guard, server));
    Subject::new(env, client)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| SUBJECT.rest(data));
