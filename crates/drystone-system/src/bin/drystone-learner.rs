//! What a metadata server that joins costs clients that create files: `drystone-learner [--files N] [--clients N]`.
//!
//! Beside N files a follower of three loses its directory, joins as a learner under a new id, takes a snapshot and the
//! log behind it, and becomes a voter again, while clients create files all the time. What is measured is the rate of
//! creates before, while it is away, while it joins, and after.

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, load, numbers, wait_for};
use serde_json::Value;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: drystone-learner [--files N] [--clients N]
  --files N    files that are there before (10000000)
  --clients N  clients that create files meanwhile (16)
DRYSTONE_BINARY names the binary.";

/// Between two looks.
const STEP: Duration = Duration::from_secs(5);
/// Looks at each phase that has no end of its own.
const STEPS: u32 = 8;
/// Looks until a learner must have caught up.
const MOST: u32 = 240;
/// A learner that lacks fewer entries may become a voter.
const LAG: u64 = 10_000;

struct Sampler<'a> {
    cluster: &'a Cluster,
    begun: Instant,
    last: (Instant, u64),
    rates: Vec<(&'static str, Vec<f64>)>,
}

impl Sampler<'_> {
    /// Waits a step, and says what was created in it; answers the members.
    fn step(&mut self, phase: &'static str) -> Value {
        std::thread::sleep(STEP);
        let (now, files) = (Instant::now(), load::files(self.cluster));
        let rate = (files - self.last.1) as f64 / (now - self.last.0).as_secs_f64();
        self.last = (now, files);
        match self.rates.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, rates)) => rates.push(rate),
            None => self.rates.push((phase, vec![rate])),
        }
        let raft = members(self.cluster);
        let lag: Vec<String> = list(&raft)
            .iter()
            .map(|member| format!("{}: {}", member["node"], lag(&raft, member)))
            .collect();
        println!(
            "{:>6.0} s  {phase:<8} {rate:>7.0} creates/s  {files} files; entries behind {}",
            self.begun.elapsed().as_secs_f64(),
            lag.join(", ")
        );
        raft
    }

    fn mean(&self, phase: &str) -> f64 {
        let found = self.rates.iter().find(|(name, _)| *name == phase);
        found.map_or(0.0, |(_, rates)| rates.iter().sum::<f64>() / rates.len() as f64)
    }
}

fn members(cluster: &Cluster) -> Value {
    cluster.cli(&["--json", "admin", "raft", "status"]).json()
}

fn list(raft: &Value) -> &[Value] {
    raft["members"].as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Entries that a member lacks; all of them if it has not answered yet.
fn lag(raft: &Value, member: &Value) -> u64 {
    number(&raft["applied"]).saturating_sub(number(&member["matched"]))
}

fn run(files: u64, clients: u64) {
    let cluster = Cluster::start(Options::processes());
    println!("3 metadata servers; {files} files are made");
    load::make_tree(&cluster, "/before", files);
    let before = load::files(&cluster);
    let mut creating = load::create(&cluster, "/meanwhile", clients, 10_000_000);
    wait_for("files are created", Duration::from_secs(600), || {
        (load::files(&cluster) > before + 10_000).then_some(())
    });
    let mut sampler = Sampler {
        cluster: &cluster,
        begun: Instant::now(),
        last: (Instant::now(), load::files(&cluster)),
        rates: Vec::new(),
    };
    let mut raft = Value::Null;
    for _ in 0..STEPS {
        raft = sampler.step("before");
    }
    let known: Vec<u64> = list(&raft).iter().map(|member| number(&member["node"])).collect();
    let lost = list(&raft)
        .iter()
        .find(|member| member["node"] != raft["leader"])
        .expect("a follower");
    let (old, name) = (
        number(&lost["node"]),
        lost["name"].as_str().expect("a name").to_owned(),
    );
    cluster.signal(&name, Signal::KILL);
    for directory in cluster.node(&name).data {
        fs::remove_dir_all(directory).expect("its directory can be removed");
    }
    println!("{name} has lost its directory");
    for _ in 0..STEPS / 2 {
        sampler.step("away");
    }
    cluster.revive();
    let is_new = |member: &&Value| !known.contains(&number(&member["node"]));
    let joined = (0..MOST).find_map(|_| {
        let raft = sampler.step("joining");
        let learner = list(&raft).iter().find(is_new)?;
        let is_there = number(&learner["matched"]) > 0 && lag(&raft, learner) < LAG;
        is_there.then(|| number(&learner["node"]))
    });
    let joined = joined.expect("the learner catches up");
    cluster
        .cli(&["admin", "raft", "replace", &old.to_string(), &joined.to_string()])
        .ok();
    println!("node {joined} is a voter");
    for _ in 0..STEPS {
        sampler.step("after");
    }
    creating.kill();
    println!("\nphase      creates/s   of before");
    for phase in ["before", "away", "joining", "after"] {
        let mean = sampler.mean(phase);
        println!("{phase:<10} {mean:>9.0}   {:>8.2}", mean / sampler.mean("before"));
    }
    println!("goal: at least 0.80 while it joins");
}

fn sizes(words: &[String]) -> Result<(u64, u64), String> {
    let (mut files, mut clients) = (10_000_000, 16);
    for (word, number) in numbers(words)? {
        match word {
            "--files" if number > 0 => files = number,
            "--clients" if (1..=1024).contains(&number) => clients = number,
            other => return Err(format!("{other} {number}: not known, or out of range")),
        }
    }
    Ok((files, clients))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match sizes(&words) {
        Ok((files, clients)) => {
            run(files, clients);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("learner: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
