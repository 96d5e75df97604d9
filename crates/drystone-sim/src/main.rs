//! `drystone-sim`: runs seeds and says which of them fail, and why.

use clap::Parser;
use drystone_sim::scenario::{self, Kind, Report};
use drystone_sim::sometimes;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Runs the whole cluster under seeded faults")]
struct Args {
    /// Seeds to run [default: 100, or the one given].
    #[arg(long)]
    seeds: Option<u64>,
    /// First seed; alone it is run by itself, with its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every line as it comes, debug lines too.
    #[arg(long)]
    verbose: bool,
    /// Print the trace's digest of each seed.
    #[arg(long)]
    digest: bool,
    /// For who runs several of these: the totals in one line of numbers.
    #[arg(long, hide = true)]
    part: bool,
    /// Tries every order of steps of the small models instead.
    #[arg(long)]
    exhaustive: bool,
    /// Only checks counts that come on standard input, one `  sometimes NAME: COUNT` to a line.
    #[arg(long, hide = true)]
    counts: bool,
    /// What the runs are about.
    #[arg(long, value_enum, default_value_t)]
    scenario: Kind,
    /// Bug to plant.
    #[cfg(feature = "planted")]
    #[arg(long)]
    plant: Option<String>,
    #[cfg(feature = "planted")]
    #[command(subcommand)]
    command: Option<Command>,
}

#[cfg(feature = "planted")]
#[derive(clap::Subcommand)]
enum Command {
    /// Plants every known bug and runs seeds until it is found.
    Mutations {
        /// Only these bugs.
        #[arg(long)]
        only: Vec<String>,
        /// Seeds for each bug.
        #[arg(long)]
        budget: Option<u64>,
        /// First seed of each.
        #[arg(long, default_value_t = 1)]
        first: u64,
    },
}

/// Does what concerns planted bugs; an answer ends the program.
#[cfg(feature = "planted")]
fn bugs(args: &Args) -> Option<ExitCode> {
    use drystone_env::planted::{Bug, plant};
    if let Some(Command::Mutations { only, budget, first }) = &args.command {
        return Some(match drystone_sim::mutations::run(only, *first, *budget) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        });
    }
    let name = args.plant.as_ref()?;
    let Some(bug) = Bug::ALL.iter().find(|bug| bug.name() == name) else {
        eprintln!("there is no bug {name}");
        return Some(ExitCode::from(2));
    };
    plant(Some(*bug));
    None
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.verbose {
        std::panic::set_hook(Box::new(|_| {}));
    }
    #[cfg(feature = "planted")]
    if let Some(code) = bugs(&args) {
        return code;
    }
    if args.exhaustive {
        return exhaustive();
    }
    if args.counts {
        return judged(args.scenario, &counts_on_input());
    }
    let (first, count) = match args.seed {
        Some(seed) => (seed, args.seeds.unwrap_or(1)),
        None => (1, args.seeds.unwrap_or(100)),
    };
    let begun = cpu_seconds();
    let (mut failed, mut micros, mut polls, mut operations) = (Vec::new(), 0, 0, 0);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in first..first + count {
        let report = scenario::run(args.scenario, seed, args.verbose);
        micros += report.micros;
        polls += report.polls;
        operations += report.operations;
        for (what, times) in &report.sometimes {
            *seen.entry(what.clone()).or_default() += times;
        }
        if args.digest {
            println!("seed {seed} digest {}", report.digest);
        }
        if args.part {
            // Counted by who started this process.
            println!("seed done");
        }
        if !report.violations.is_empty() {
            failed.push(seed);
            print(args.scenario, &report, count == 1 && !args.verbose && !args.part);
        }
    }
    let seconds = (cpu_seconds() - begun).max(0.001);
    for (what, times) in &seen {
        println!("  sometimes {what}: {times}");
    }
    let simulated = micros as f64 / 1e6;
    if args.part {
        println!(
            "totals seeds={count} failed={} simulated_seconds={simulated} polls={polls} operations={operations} cpu_seconds={seconds}",
            failed.len(),
        );
    } else {
        println!(
            "{count} seeds, {} failed; {simulated:.0} simulated seconds, {polls} polls, {operations} operations; \
             per CPU second {:.2} seeds, {:.0} simulated seconds, {:.0} polls",
            failed.len(),
            count as f64 / seconds,
            simulated / seconds,
            polls as f64 / seconds,
        );
    }
    if !failed.is_empty() {
        println!("failed seeds: {failed:?}");
        return ExitCode::FAILURE;
    }
    match count >= sometimes::ENOUGH_SEEDS && !args.part {
        true => judged(args.scenario, &seen),
        false => ExitCode::SUCCESS,
    }
}

fn exhaustive() -> ExitCode {
    match drystone_sim::exhaustive::run() {
        Ok(found) => {
            for (what, states) in found {
                println!("{what}: {states} states, no fault");
            }
            ExitCode::SUCCESS
        }
        Err(fault) => {
            println!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn counts_on_input() -> BTreeMap<String, u64> {
    let lines = std::io::stdin().lines().map_while(Result::ok);
    let counts = lines.filter_map(|line| {
        let (name, count) = line.trim().strip_prefix("sometimes ")?.rsplit_once(": ")?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    counts.collect()
}

/// Says what is wrong with the counts.
fn judged(kind: Kind, seen: &BTreeMap<String, u64>) -> ExitCode {
    println!("rare, and not seen: {:?}", sometimes::missed(seen));
    let faults = sometimes::faults(kind, seen);
    for fault in &faults {
        println!("counts: {fault}");
    }
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn print(kind: Kind, report: &Report, whole: bool) {
    let keep = if whole { usize::MAX } else { 0 };
    for line in report
        .lines
        .iter()
        .rev()
        .take(keep)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        println!("{line}");
    }
    println!(
        "seed {} FAILED (replay: cargo xtask sim --scenario {} --seed {})",
        report.seed,
        kind.name(),
        report.seed
    );
    for violation in &report.violations {
        println!("  {violation}");
    }
}

/// Processor time of this process: the harness may share its machine.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1e9
}
