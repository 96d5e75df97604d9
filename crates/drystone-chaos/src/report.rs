//! What was done and found: a line per round, a table at the end, and a file in which runs add up.

use anyhow::Context;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Counters by name. Each scenario says with them that its fault hit something.
pub type Counts = BTreeMap<&'static str, u64>;

/// One round of one scenario.
#[derive(Debug, Default)]
pub struct Round {
    /// The fault in words.
    pub fault: String,
    /// What was counted.
    pub counts: Counts,
    /// Whether the fault met work that was not acknowledged (or what the scenario aims at).
    pub is_hit: bool,
    /// What may interest a reader of the run.
    pub notes: Vec<String>,
    /// What is wrong with the product.
    pub faults: Vec<String>,
}

impl Round {
    /// Adds to a counter.
    pub fn count(&mut self, name: &'static str, number: u64) {
        *self.counts.entry(name).or_default() += number;
    }
}

/// All rounds of a scenario in this run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rounds that were judged.
    pub rounds: u64,
    /// Those whose fault hit.
    pub hits: u64,
    /// Sums of the counters.
    pub counts: Counts,
    /// What is wrong with the product.
    pub faults: Vec<String>,
    /// What kept rounds from being judged.
    pub errors: Vec<String>,
    /// Why the scenario did not run.
    pub skipped: Option<String>,
}

/// A fault may miss: which of the writes lay in caches is chance. One that missed in so many rounds and never hit proves
/// nothing.
const BLIND_AFTER: u64 = 5;

impl Tally {
    fn is_blind(&self) -> bool {
        self.rounds >= BLIND_AFTER && self.hits == 0
    }
}

/// The run.
#[derive(Debug, Default)]
pub struct Report {
    tallies: BTreeMap<&'static str, Tally>,
    quiet: bool,
    path: PathBuf,
    before: Value,
}

impl Report {
    /// An empty report, whose runs add up in the file `path`. `quiet`: rounds are told on stderr, because stdout is
    /// JSON.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn begin(quiet: bool, path: &Path) -> anyhow::Result<Self> {
        let before = match fs::read_to_string(path) {
            Ok(text) => {
                serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self {
            quiet,
            path: path.to_owned(),
            before,
            tallies: BTreeMap::new(),
        })
    }

    fn say(&self, line: &str) {
        if self.quiet {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    }

    /// A scenario that this machine cannot run.
    pub fn skip(&mut self, scenario: &'static str, why: &str) {
        self.say(&format!("{scenario:<10} SKIPPED: {why}"));
        self.tallies.entry(scenario).or_default().skipped = Some(why.to_owned());
    }

    /// A round that ended.
    pub fn add(&mut self, scenario: &'static str, seed: u64, took: Duration, round: Round) {
        let hit = match (round.faults.is_empty(), round.is_hit) {
            (false, _) => "FAULT",
            (true, true) => "ok",
            (true, false) => "missed",
        };
        let counts: Vec<String> = round
            .counts
            .iter()
            .map(|(name, number)| format!("{name} {number}"))
            .collect();
        let number = self.tallies.get(scenario).map_or(1, |tally| tally.rounds + 1);
        self.say(&format!(
            "{scenario:<10} {number:>4} {hit:<6} {:>5.1}s seed {seed:016x} {}: {}",
            took.as_secs_f64(),
            round.fault,
            counts.join(", ")
        ));
        for note in &round.notes {
            self.say(&format!("    {note}"));
        }
        for fault in &round.faults {
            self.say(&format!("    !! {fault}"));
        }
        let tally = self.tallies.entry(scenario).or_default();
        tally.rounds += 1;
        tally.hits += u64::from(round.is_hit);
        for (name, number) in round.counts {
            *tally.counts.entry(name).or_default() += number;
        }
        let place = |fault: String| format!("seed {seed:016x}, {}: {fault}", round.fault);
        tally.faults.extend(round.faults.into_iter().map(place));
    }

    /// A round that could not be judged.
    pub fn error(&mut self, scenario: &'static str, seed: u64, error: &anyhow::Error) {
        self.say(&format!("{scenario:<10}      ERROR  seed {seed:016x}: {error:#}"));
        let tally = self.tallies.entry(scenario).or_default();
        tally.errors.push(format!("seed {seed:016x}: {error:#}"));
    }

    /// Rounds of a scenario so far, judged or not.
    pub fn rounds(&self, scenario: &str) -> u64 {
        self.tallies
            .get(scenario)
            .map_or(0, |tally| tally.rounds + tally.errors.len() as u64)
    }

    /// True if everything that ran was right, and hit something.
    pub fn is_good(&self) -> bool {
        self.tallies
            .values()
            .all(|tally| tally.faults.is_empty() && tally.errors.is_empty() && !tally.is_blind())
    }

    /// The table at the end.
    pub fn summary(&self) {
        self.say("\nscenario   rounds   hit  faults errors  counted");
        for (name, tally) in &self.tallies {
            if let Some(why) = &tally.skipped {
                self.say(&format!("{name:<10} SKIPPED: {why}"));
                continue;
            }
            let counts: Vec<String> = tally
                .counts
                .iter()
                .map(|(name, number)| format!("{name} {number}"))
                .collect();
            self.say(&format!(
                "{name:<10} {:>6} {:>5} {:>7} {:>6}  {}",
                tally.rounds,
                tally.hits,
                tally.faults.len(),
                tally.errors.len(),
                counts.join(", ")
            ));
            if tally.is_blind() {
                self.say(&format!(
                    "{name:<10} never hit anything: what it says of the product is worth nothing"
                ));
            }
        }
    }

    /// This run as JSON.
    pub fn json(&self) -> Value {
        let scenario = |tally: &Tally| {
            json!({
                "rounds": tally.rounds,
                "hits": tally.hits,
                "counts": tally.counts,
                "faults": tally.faults,
                "errors": tally.errors,
                "skipped": tally.skipped,
            })
        };
        let all: serde_json::Map<String, Value> = self
            .tallies
            .iter()
            .map(|(name, tally)| ((*name).to_owned(), scenario(tally)))
            .collect();
        Value::Object(all)
    }

    /// Adds this run, as far as it is, to what the file said before it; the sums.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> anyhow::Result<Value> {
        let mut sums = self.before.clone();
        for (name, tally) in self.tallies.iter().filter(|(_, tally)| tally.skipped.is_none()) {
            let sum = &mut sums[*name];
            add(sum, "rounds", tally.rounds);
            add(sum, "hits", tally.hits);
            for (counter, number) in &tally.counts {
                add(&mut sum["counts"], counter, *number);
            }
            for (list, new) in [("faults", &tally.faults), ("errors", &tally.errors)] {
                let mut all = sum[list].as_array().cloned().unwrap_or_default();
                all.extend(new.iter().map(|text| Value::from(text.as_str())));
                sum[list] = all.into();
            }
        }
        let temporary = self.path.with_extension("new");
        fs::write(&temporary, serde_json::to_string_pretty(&sums)?)?;
        fs::rename(&temporary, &self.path)?;
        Ok(sums)
    }
}

fn add(object: &mut Value, name: &str, number: u64) {
    let before = object[name].as_u64().unwrap_or_default();
    object[name] = (before + number).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up() {
        let path = std::env::temp_dir().join(format!("drystone-chaos-report-{}", std::process::id()));
        for _ in 0..2 {
            let mut report = Report::begin(true, &path).unwrap();
            for _ in 0..2 {
                let mut round = Round::default();
                round.count("cuts", 2);
                report.add("power", 1, Duration::ZERO, round);
                report.save().unwrap();
            }
        }
        let sums = Report::begin(true, &path).unwrap().save().unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(sums["power"]["rounds"], 4);
        assert_eq!(sums["power"]["counts"]["cuts"], 8);
    }

    #[test]
    fn a_scenario_that_never_hits_anything_is_no_success() {
        let path = std::env::temp_dir().join(format!("drystone-chaos-blind-{}", std::process::id()));
        let mut report = Report::begin(true, &path).unwrap();
        let mut round = |is_hit| {
            let round = Round {
                is_hit,
                ..Round::default()
            };
            report.add("liar", 1, Duration::ZERO, round);
            report.is_good()
        };
        assert!((1..BLIND_AFTER).all(|_| round(false)), "it may have missed");
        assert!(!round(false));
        assert!(round(true));
    }
}
