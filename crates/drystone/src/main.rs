//! The one binary: flags, configuration, roles and commands.
//!
//! Owns what a person types and what a process is made of: [`node`] runs any set of roles from a configuration
//! file, [`up`] a whole cluster on this machine, [`format`] makes data directories, [`commands`] work on files
//! through the client library, [`recover`] brings what is left of a damaged metadata server into a new history.
//! Architecture invariant: no protocol lives here.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod address;
mod args;
mod atomic;
mod commands;
mod connect;
mod exit;
mod format;
mod known;
mod lock;
mod mode;
mod node;
mod output;
mod recover;
mod up;

use args::{Arguments, Task};
use clap::Parser;
use exit::Exit;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout and are no fault.
            let is_fault = error.use_stderr();
            let _ = error.print();
            return if is_fault {
                Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    start_logging(&arguments);
    // Before anything is opened. Without it connections are fewer, and that is all.
    if let Err(error) = drystone_env::os::descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::report(&anyhow::anyhow!(error).context("cannot start the runtime"), false);
        }
    };
    let json = arguments.json;
    let outcome = runtime.block_on(run(arguments));
    // Threads that block on a disk must not hold the process back, and those of nodes that were still starting would panic
    // without its timers: it ends with the process.
    std::mem::forget(runtime);
    match outcome {
        Ok(code) => code,
        Err(error) => exit::report(&error, json),
    }
}

fn start_logging(arguments: &Arguments) {
    let level = match arguments.task {
        Task::Up(_) => "warn",
        Task::Node(_) => "info",
        _ => "error",
    };
    let filter = EnvFilter::try_from_env("DRYSTONE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say on stderr that stderr is closed, and panic.
        .log_internal_errors(false);
    builder
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.task {
        Task::Up(options) => up::run(options).await?,
        Task::Node(options) => node::run(&options.config).await?,
        Task::Format(options) => format::run(&drystone_env::Env::os(), &options).await?,
        Task::Completions { shell } => args::print_completions(shell)?,
        Task::Client(ref command) => return commands::run(&arguments, command.clone()).await,
    }
    Ok(ExitCode::SUCCESS)
}
