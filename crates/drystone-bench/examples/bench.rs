//! `drystone bench` without the servers' code: `cargo run --release -p drystone-bench --example bench -- limits`.

use drystone_env::Env;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    drystone_bench::run(Env::os(), std::env::args().collect(), "(named by --metadata)").await
}
