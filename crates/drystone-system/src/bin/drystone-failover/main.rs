//! How long clients wait when the metadata leader dies, while other things are bad too.
//!
//! A cluster of real processes: three metadata servers, as many chunk servers as files have replicas. A large tree was
//! deleted and is being reclaimed, writers keep the leader busy, and in each round one chunk server is dead before the
//! leader is killed; in every fifth round a follower was stopped for a while and has just continued. Reads, small
//! writes (in the metadata) and large writes (chunks) are tried one after another, each kind by a client of its own;
//! what is measured is the time from the kill to the end of the first success that began after it. An operation that was
//! under way at the kill delays the next one, as it does for a user.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod probe;
mod report;
mod round;

use drystone_system::{Cluster, Options, numbers};
use std::process::ExitCode;

const USAGE: &str = "usage: drystone-failover [--rounds N] [--files N] [--writers N]
  --rounds N   leaders killed (100)
  --files N    files of the tree that is reclaimed meanwhile (1000000)
  --writers N  clients that create files all the time (4)
DRYSTONE_BINARY names the binary. Every figure is from the kill to the first success that began after it.";

/// How a run is asked for.
#[derive(Clone, Copy)]
struct Plan {
    rounds: u64,
    files: u64,
    writers: u64,
}

fn plan(words: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        rounds: 100,
        files: 1_000_000,
        writers: 4,
    };
    for (word, number) in numbers(words)? {
        match word {
            "--rounds" if number >= 1 => plan.rounds = number,
            "--files" if (1..=10_000_000).contains(&number) => plan.files = number,
            "--writers" if number <= 256 => plan.writers = number,
            other => return Err(format!("{other} {number}: not known, or out of range")),
        }
    }
    Ok(plan)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let plan = match plan(&words) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("failover: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let options = Options {
        chunk_servers: Some(3),
        ..Options::processes()
    };
    let cluster = Cluster::start(options);
    println!(
        "3 metadata servers, 3 chunk servers; {} files reclaimed, {} writers",
        plan.files, plan.writers
    );
    let rounds = round::run(&cluster, plan.rounds, plan.files, plan.writers);
    print!("{}", report::table(&rounds));
    ExitCode::SUCCESS
}
