//! Benchmarks and the limit programs beside which every figure is printed.
//!
//! Owns `drystone bench`: `limits` (the smallest programs that do only the unavoidable work), `cluster` (the
//! same promises kept by a cluster, through the client library) and `rules` (what is held against what).
//! Machines differ by several times from one minute to the next, so a figure means nothing alone: limit and
//! cluster are measured alternately in one run. Architecture invariant: knows nothing of the servers but what the
//! client library shows, and leaves nothing behind.
//!
//! Read `plan` for what runs, then `session` for how.

mod args;
mod cluster;
mod limits;
mod local;
mod meter;
mod plan;
mod report;
mod rules;
mod sample;
mod session;
mod statistics;
mod table;

use args::Arguments;
use clap::Parser;
use drystone_env::Env;
use std::process::ExitCode;

/// Exit code for a command line that cannot be understood.
const USAGE: u8 = 2;

/// True if `words` ask for measurements of a cluster without saying where its metadata servers are: whoever knows
/// adds `--metadata HOST:PORT,...`. False for words that cannot be understood, of which [`run`] complains.
pub fn wants_metadata(words: &[String]) -> bool {
    Arguments::try_parse_from(words)
        .is_ok_and(|arguments| arguments.measures_cluster() && arguments.metadata.is_empty())
}

/// Measures the cluster whose REST door is at `cluster` (for the report alone: the metadata servers come in
/// `words` as `--metadata`) and prints a table, or with `--json` a document, on standard output. `words` begins
/// with the name of the program. Must be called inside a tokio runtime with several threads.
///
/// # Errors
/// When the cluster refuses an operation, or a limit program cannot work in its directory. What was created is
/// deleted in that case too, as far as the cluster answers.
pub async fn run(env: Env, words: Vec<String>, cluster: &str) -> anyhow::Result<ExitCode> {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            error.print()?;
            return Ok(if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            });
        }
    };
    let faults = arguments.faults();
    if !faults.is_empty() {
        eprintln!("{}", faults.join("\n"));
        return Ok(ExitCode::from(USAGE));
    }
    let report = session::run(&env, &arguments, cluster).await?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table::render(&report));
    }
    Ok(if arguments.check && !report.required_is_met() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
