//! Project chores, run as `cargo xtask NAME`: everything that CI or a contributor needs beside cargo itself.

mod chaos;
mod docs;
mod fuzz;
mod licences;
mod long;
mod output;
mod page;
mod schema;
mod sim;
mod steps;
mod tidy;

use anyhow::bail;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask COMMAND
  test [--allow-skips] [--only STEP]  install what is missing, build, and run every test
  tidy                                layer rule and absences (part of test)
  docs                                make docs/configuration.md from the code
  openapi                             schemathesis against a running cluster (part of test)
  fuzz [--minutes N] [--target T]     fuzz each target (or T) for N minutes, 1 if not given
  sim [--seeds N] [--seed S] [--scenario NAME] [--verbose]
                                      the whole cluster under seeded faults: N seeds (100) from S (1) on; S alone
                                      is told with its trace
  sim --exhaustive                    every order of steps of small models of the protocols for chunks
  chaos [--minutes N | --rounds N] [--only NAME] [--list] ...
                                      real processes under real faults, as root; see drystone-chaos --help
  soak [--minutes N] [--disk-gib N] [--idle N] | --fills N
                                      one cluster of real processes for N minutes (60): filled, emptied, filled with
                                      other sizes, killed, robbed; every acknowledged byte compared, as root
  failover [--rounds N] [--files N] [--writers N]
                                      kills metadata leaders beside other misfortune and measures how long clients wait
  learner [--files N] [--clients N]   what a metadata server that joins beside N files costs clients that create
  disk-use [--largest-mib N]          what files of awkward sizes take on disks
  bench [--processes] [WORDS]         drystone bench WORDS on a cluster of its own
  page NAME COMMAND...                runs the command and writes docs/benchmarks/NAME.md from what it printed
  install                             install what the tests need, by package name";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", rest @ ..] => steps::test(rest),
        ["tidy"] => tidy::run(),
        ["docs"] => docs::write(),
        ["openapi"] => schema::run(),
        ["fuzz", rest @ ..] => fuzz::fuzz(rest),
        ["sim", rest @ ..] => sim::sim(rest),
        ["chaos", rest @ ..] => chaos::run(rest),
        ["soak", rest @ ..] => long::run("soak", rest),
        ["failover", rest @ ..] => long::run("failover", rest),
        ["learner", rest @ ..] => long::run("learner", rest),
        ["disk-use", rest @ ..] => long::run("disk-use", rest),
        ["bench", rest @ ..] => long::run("measure", rest),
        ["page", rest @ ..] => page::run(rest),
        ["install"] => steps::install().map(|_| ()),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("unknown command: {}\n{USAGE}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default()
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command in the root, showing it first.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    println!("$ {program} {}", arguments.join(" "));
    let status = output::shown(Command::new(program).args(arguments).current_dir(root()))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
