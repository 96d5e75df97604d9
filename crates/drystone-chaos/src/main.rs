//! Real processes under real faults.
//!
//! `drystone-chaos` runs the release binary as a cluster whose nodes each have a network namespace and a disk of their
//! own, lets clients write files that say what they are, and does to the nodes what happens to machines: power cuts,
//! kills, partitions, pauses, full and failing disks, rot, wrong clocks, bad networks. After each fault every
//! acknowledged byte must be there and right, and what was not acknowledged must be old or new, never mixed.
//!
//! Read [`slot`] (what may be there), [`scenario`] (a round), [`cluster`], [`volume`] and [`network`] (the machines).
//! A fault must prove that it hit: each round counts what it met, and one that met nothing counts as missed. What the
//! machine cannot do is skipped by name, never passed. Everything that a run makes on the machine has a name by which
//! the next start finds and removes it.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes live in real time; nothing here is replayed from a seed"
)]

mod cluster;
mod command;
mod content;
mod network;
mod options;
mod probe;
mod proxy;
mod report;
mod scenario;
mod slot;
mod volume;
mod writer;

use anyhow::{Context, bail};
use options::Options;
use probe::Lacks;
use report::Report;
use scenario::Limits;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Which of the three lives of this program it is.
const LIFE: &str = "DRYSTONE_CHAOS_LIFE";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&words) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let life = std::env::var(LIFE).unwrap_or_default();
    let done = match life.as_str() {
        "inside" => inside(&options),
        "guard" => guard(&options, &words),
        _ => Err(begin(&words)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The first life becomes one that Ctrl-C does not end, so that it can clean up when the one inside ends.
fn begin(words: &[String]) -> anyhow::Error {
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(error) => return error.into(),
    };
    Command::new("env")
        .arg("--ignore-signal=INT")
        .arg(this)
        .args(words)
        .env(LIFE, "guard")
        .exec()
        .into()
}

/// Makes the network, runs the third life in it, and removes everything.
fn guard(options: &Options, words: &[String]) -> anyhow::Result<bool> {
    let lock = File::create("/tmp/drystone-chaos.lock")?;
    lock.try_lock()
        .context("another run is under way: they would use the same addresses")?;
    let is_root = command::run("id", &["-u"])?.trim() == "0";
    if !is_root {
        let mut report = Report::begin(options.json, &options.report)?;
        for scenario in options.scenarios() {
            report.skip(scenario.name, "only root can make namespaces and loop devices");
        }
        return finish(options, &report);
    }
    clean(options);
    fs::create_dir_all(&options.work)?;
    let outcome = match network::make() {
        Ok(()) => live(options, words),
        Err(error) => {
            let mut report = Report::begin(options.json, &options.report)?;
            for scenario in options.scenarios() {
                report.skip(scenario.name, &format!("no network namespaces: {error:#}"));
            }
            finish(options, &report)
        }
    };
    clean(options);
    outcome
}

fn live(options: &Options, words: &[String]) -> anyhow::Result<bool> {
    let space = network::namespace(network::CLIENT);
    let mut command = Command::new("env");
    command
        .arg("--default-signal=INT")
        .arg("nsenter")
        .arg(format!("--net={}", space.display()));
    if command::exists("setpriv") {
        // It does not outlive this process.
        command.args(["setpriv", "--pdeathsig", "KILL"]);
    }
    let status = command
        .arg(std::env::current_exe()?)
        .args(words)
        // A seed that was drawn is the same in all lives.
        .args(["--seed", &options.seed.to_string()])
        .env(LIFE, "inside")
        .status()?;
    if status.code().is_none() {
        bail!("ended by a signal: {status}");
    }
    Ok(status.success())
}

/// Ends processes that were started on the run's directory, and removes mounts, loop devices and namespaces.
fn clean(options: &Options) {
    // With a slash at its end: whoever started this run may have named the directory itself.
    for pid in drystone_system::process::started_on(&options.work.join("")) {
        drystone_system::process::signal(pid, drystone_system::process::Signal::KILL);
    }
    volume::remove_all(&options.work);
    network::remove();
    match fs::remove_dir_all(&options.work) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            eprintln!("chaos: {}: {error}", options.work.display());
        }
        _ => {}
    }
}

/// Plays the scenarios, from inside the network.
fn inside(options: &Options) -> anyhow::Result<bool> {
    let binary: PathBuf = options
        .binary
        .canonicalize()
        .with_context(|| options.binary.display().to_string())?;
    eprintln!("chaos: seed {}, binary {}", options.seed, binary.display());
    let mut report = Report::begin(options.json, &options.report)?;
    let scenarios = options.scenarios();
    let programs: BTreeSet<&str> = scenarios
        .iter()
        .flat_map(|scenario| scenario.programs)
        .copied()
        .collect();
    let lacks = Lacks::probe(&Vec::from_iter(programs), &options.work);
    let start = Instant::now();
    for (number, scenario) in (1..).zip(&scenarios) {
        if let Some(why) = lacks.reason(scenario.programs) {
            report.skip(scenario.name, &why);
            continue;
        }
        // The time is shared out evenly.
        let share = options
            .minutes
            .map(|minutes| Duration::from_secs_f64(minutes * 60.0) * number / scenarios.len() as u32);
        let limits = Limits {
            rounds: options.rounds,
            deadline: share.map(|share| start + share),
        };
        scenario::run(
            scenario,
            &binary,
            &options.work,
            options.seed,
            limits,
            &mut report,
        );
    }
    finish(options, &report)
}

fn finish(options: &Options, report: &Report) -> anyhow::Result<bool> {
    report.summary();
    let sums = report.save()?;
    if options.json {
        let all = serde_json::json!({ "seed": options.seed, "run": report.json(), "all-runs": sums });
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    eprintln!("chaos: the sums of all runs are in {}", options.report.display());
    Ok(report.is_good())
}
