//! `cargo xtask sim`: the whole cluster under seeded faults, many seeds on every processor.
//!
//! A seed is one thread, so the seeds are dealt to several processes of `drystone-sim`; what they counted is summed.

use crate::{output, root, run, target};
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

/// Processes at once: each holds a cluster in memory.
const PROCESSES: u64 = 2;
/// Seeds, if none are asked for.
const SEEDS: u64 = 100;
/// From so many seeds on everything that the scenario is to bring about must have happened.
const ENOUGH_SEEDS: u64 = 500;

/// What the processes have counted, by name.
#[derive(Default)]
struct Counts {
    sometimes: BTreeMap<String, u64>,
    totals: BTreeMap<String, f64>,
    failed: Vec<u64>,
}

impl Counts {
    /// Takes a line of `drystone-sim --part`; what counts nothing is answered.
    fn take<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if let Some((what, count)) = line
            .strip_prefix("  sometimes ")
            .and_then(|rest| rest.rsplit_once(": "))
        {
            *self.sometimes.entry(what.to_owned()).or_default() += count.parse().unwrap_or(0);
            return None;
        }
        let Some(totals) = line.strip_prefix("totals ") else {
            return Some(line);
        };
        for (name, value) in totals.split(' ').filter_map(|pair| pair.split_once('=')) {
            *self.totals.entry(name.to_owned()).or_default() += value.parse().unwrap_or(0.0);
        }
        None
    }

    fn add(&mut self, other: Counts) {
        for (what, count) in other.sometimes {
            *self.sometimes.entry(what).or_default() += count;
        }
        for (what, value) in other.totals {
            *self.totals.entry(what).or_default() += value;
        }
        self.failed.extend(other.failed);
    }

    fn total(&self, name: &str) -> f64 {
        self.totals.get(name).copied().unwrap_or(0.0)
    }

    fn lines(&self) -> String {
        let lines = self.sometimes.iter();
        lines
            .map(|(what, count)| format!("  sometimes {what}: {count}\n"))
            .collect()
    }

    fn print(&self) {
        print!("{}", self.lines());
        let cpu = self.total("cpu_seconds").max(0.001);
        println!(
            "{} seeds, {} failed; {:.0} simulated seconds, {} polls, {} operations; per CPU second {:.2} seeds, {:.0} \
             simulated seconds, {:.0} polls",
            self.total("seeds"),
            self.total("failed"),
            self.total("simulated_seconds"),
            self.total("polls"),
            self.total("operations"),
            self.total("seeds") / cpu,
            self.total("simulated_seconds") / cpu,
            self.total("polls") / cpu,
        );
    }
}

/// How many seeds all processes have ended.
struct Progress {
    seeds: u64,
    done: AtomicU64,
    /// Seconds since `begun` when it was told last.
    told: AtomicU64,
    begun: Instant,
}

impl Progress {
    fn new(seeds: u64) -> Self {
        Self {
            seeds,
            done: AtomicU64::new(0),
            told: AtomicU64::new(0),
            begun: output::now(),
        }
    }

    /// Counts one, and tells how far it is every 15 s.
    fn seed_done(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let elapsed = self.begun.elapsed();
        let told = self.told.load(Ordering::Relaxed);
        if elapsed.as_secs() >= told + 15
            && self
                .told
                .compare_exchange(told, elapsed.as_secs(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            println!("   {done} of {} seeds in {}", self.seeds, output::time(elapsed));
            output::printed();
        }
    }
}

fn number(name: &str, value: Option<&&str>) -> anyhow::Result<u64> {
    let value = value.with_context(|| format!("{name} needs a number"))?;
    value
        .parse()
        .with_context(|| format!("{name} takes a number, not {value}"))
}

/// Builds the simulator and runs seeds.
pub fn sim(arguments: &[&str]) -> anyhow::Result<()> {
    run("cargo", &["build", "--locked", "--package", "drystone-sim"])?;
    seeds(arguments)
}

/// Runs seeds with the simulator that was built last; one seed that is asked for alone is told with its trace.
pub fn seeds(arguments: &[&str]) -> anyhow::Result<()> {
    // As the tests are built: a little optimised, with assertions, and hardly slower than a release.
    let binary = target().join("debug/drystone-sim");
    let (mut first, mut count, mut scenario, mut more) = (None, None, "mixed", Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--seed" => first = Some(number(argument, rest.next())?),
            "--seeds" => count = Some(number(argument, rest.next())?.max(1)),
            "--scenario" => scenario = rest.next().context("--scenario needs a name")?,
            "--verbose" => more.push("--verbose"),
            "--exhaustive" => return run(&binary.to_string_lossy(), &[argument]),
            other => bail!("unknown argument {other}"),
        }
    }
    if let (Some(seed), None) = (first, count) {
        let seed = seed.to_string();
        let mut arguments = vec!["--scenario", scenario, "--seed", seed.as_str()];
        arguments.extend(more);
        return run(&binary.to_string_lossy(), &arguments);
    }
    let (first, count) = (first.unwrap_or(1), count.unwrap_or(SEEDS));
    let part = |number: u64| {
        let (from, to) = (count * number / PROCESSES, count * (number + 1) / PROCESSES);
        let mut command = Command::new(&binary);
        command.args([
            "--part",
            "--scenario",
            scenario,
            "--seed",
            &(first + from).to_string(),
            "--seeds",
            &(to - from).to_string(),
        ]);
        (to > from).then_some(command)
    };
    let commands: Vec<Command> = (0..PROCESSES).filter_map(part).collect();
    let mut all = Counts::default();
    let progress = Progress::new(count);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let parts: Vec<ScopedJoinHandle<'_, anyhow::Result<Counts>>> = commands
            .into_iter()
            .map(|command| scope.spawn(|| counted(command, &progress)))
            .collect();
        for part in parts {
            all.add(
                part.join()
                    .unwrap_or_else(|_| bail!("the thread of a process panicked"))?,
            );
        }
        Ok(())
    })?;
    all.print();
    if all.total("failed") > 0.0 {
        bail!("seeds failed: {:?}", all.failed);
    }
    if count >= ENOUGH_SEEDS {
        check(Command::new(&binary).args(["--scenario", scenario]), &all.lines())?;
    }
    Ok(())
}

/// Lets the simulator judge the counts: a fault that never hit anything proves nothing.
fn check(command: &mut Command, counts: &str) -> anyhow::Result<()> {
    let mut child = command
        .arg("--counts")
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start the simulator")?;
    let input = child.stdin.take().context("its input is not piped")?;
    { input }
        .write_all(counts.as_bytes())
        .context("cannot hand over the counts")?;
    let status = child.wait().context("cannot wait for the simulator")?;
    if !status.success() {
        bail!("the seeds have not tested what they should");
    }
    Ok(())
}

/// Runs one process; what it says of failures is shown as it comes.
fn counted(mut command: Command, progress: &Progress) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    let mut child = command
        .stdout(Stdio::piped())
        .current_dir(root())
        .spawn()
        .context("cannot start the simulator")?;
    let output = child.stdout.take().context("its output is not piped")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the simulator says")?;
        if line == "seed done" {
            progress.seed_done();
            continue;
        }
        if let Some(seed) = line
            .strip_prefix("seed ")
            .and_then(|rest| rest.split_once(" FAILED"))
        {
            counts.failed.extend(seed.0.parse::<u64>());
        }
        if let Some(line) = counts.take(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for the simulator")?;
    if counts.totals.is_empty() {
        bail!("a process of the simulator ended with {status} before its seeds were done");
    }
    Ok(counts)
}
