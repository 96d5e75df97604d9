//! `drystone bench` on a cluster of its own, in a temporary directory: `drystone-measure [--processes] WORDS...`, the words
//! as after `drystone bench`.

use drystone_system::{Cluster, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let processes = words.iter().any(|word| word == "--processes");
    words.retain(|word| word != "--processes");
    let options = if processes {
        Options::processes()
    } else {
        Options::single()
    };
    let cluster = Cluster::start(options);
    let data = cluster.data();
    let mut all = vec![
        "bench",
        "--data",
        data.to_str().expect("a temporary path is text"),
    ];
    all.extend(words.iter().map(String::as_str));
    let status = cluster.command(&all).status().expect("the binary can be started");
    if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
