//! The command line.

use crate::scenario::{ALL, Scenario};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::time::SystemTime;

/// How the program is called.
pub const USAGE: &str = "usage: drystone-chaos --binary PATH [options]
  --binary PATH   the drystone to test
  --minutes N     how long, shared out over the scenarios (1 if neither is given)
  --rounds N      rounds of each scenario
  --only NAME     this scenario only (may be repeated)
  --seed N        what is drawn; shown by every run
  --work DIR      for disks, logs and configurations; default /dev/shm/drystone-chaos. It is emptied
  --report FILE   where the sums of all runs are kept; default ./drystone-chaos.json
  --json          the report on stdout
  --list          the scenarios";

/// See [`USAGE`].
#[derive(Debug)]
pub struct Options {
    /// `--binary`.
    pub binary: PathBuf,
    /// `--minutes`.
    pub minutes: Option<f64>,
    /// `--rounds`.
    pub rounds: Option<u64>,
    /// `--only`.
    pub only: Vec<String>,
    /// `--seed`.
    pub seed: u64,
    /// `--work`.
    pub work: PathBuf,
    /// `--report`.
    pub report: PathBuf,
    /// `--json`.
    pub json: bool,
}

impl Options {
    /// Reads the words; `None` if there is nothing more to do.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(words: &[String]) -> anyhow::Result<Option<Self>> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut options = Self {
            binary: PathBuf::new(),
            minutes: None,
            rounds: None,
            only: Vec::new(),
            seed: now.as_millis() as u64,
            work: PathBuf::from("/dev/shm/drystone-chaos"),
            report: std::env::current_dir()?.join("drystone-chaos.json"),
            json: false,
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--binary" => options.binary = value()?.into(),
                "--minutes" => options.minutes = Some(value()?.parse().context("--minutes")?),
                "--rounds" => options.rounds = Some(value()?.parse().context("--rounds")?),
                "--seed" => options.seed = value()?.parse().context("--seed")?,
                "--work" => options.work = value()?.into(),
                "--report" => options.report = value()?.into(),
                "--only" => options.only.push(value()?.clone()),
                "--json" => options.json = true,
                "--list" | "--help" | "-h" => {
                    println!("{USAGE}\n\nscenarios:");
                    ALL.iter()
                        .for_each(|scenario| println!("  {:<10} {}", scenario.name, scenario.about));
                    return Ok(None);
                }
                _ => bail!("unknown argument {word}"),
            }
        }
        options.check()?;
        Ok(Some(options))
    }

    fn check(&mut self) -> anyhow::Result<()> {
        if self.binary.as_os_str().is_empty() {
            bail!("--binary is missing");
        }
        for name in &self.only {
            if !ALL.iter().any(|scenario| scenario.name == name) {
                let names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
                bail!("no scenario {name}: they are {}", names.join(", "));
            }
        }
        // It is emptied: a mistake must not cost more than that.
        if !self.work.is_absolute() || !self.work.to_string_lossy().contains("drystone-chaos") {
            bail!("--work must be an absolute path with drystone-chaos in it");
        }
        if self.minutes.is_none() && self.rounds.is_none() {
            self.minutes = Some(1.0);
        }
        if self
            .minutes
            .is_some_and(|minutes| !(0.0..=100_000.0).contains(&minutes))
        {
            bail!("--minutes must be a number of minutes");
        }
        Ok(())
    }

    /// What is to be played.
    pub fn scenarios(&self) -> Vec<&'static Scenario> {
        let wanted =
            |scenario: &&Scenario| self.only.is_empty() || self.only.iter().any(|name| name == scenario.name);
        ALL.iter().filter(wanted).collect()
    }
}
