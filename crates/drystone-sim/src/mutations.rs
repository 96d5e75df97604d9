//! The mutation run: every planted bug must be found, within so many seeds.
//!
//! Each seed is a process of its own, so that what it says can be said again: `drystone-sim --plant BUG --scenario KIND
//! --seed N`. A bug that is not found means that a scenario is too weak, or that another defence holds; then the bug
//! belongs elsewhere.

#![expect(
    clippy::disallowed_methods,
    reason = "it runs processes and their time; no run depends on it"
)]

use crate::scenario::Kind;
use drystone_env::planted::Bug;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Seeds, if the table says nothing else.
const BUDGET: u64 = 300;
/// A seed that takes longer hangs; others take some seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bugs that are searched for at once.
const WORKERS: usize = 2;

/// Where a bug shows, and within how many seeds it must.
fn case(bug: Bug) -> (Kind, u64) {
    match bug {
        Bug::AnswersNotKept
        | Bug::RepeatedAnew
        | Bug::UnknownAsUnavailable
        | Bug::OrphanAboveFloor
        | Bug::FloorNotChecked
        | Bug::ChunkIdsAgain => (Kind::Retry, BUDGET),
        Bug::ReadsNotConfirmed | Bug::EveryProcessHeard => (Kind::Names, BUDGET),
        Bug::MovedVoterVotes => (Kind::Moves, BUDGET),
        Bug::UnverifiedRead => (Kind::Rot, BUDGET),
        Bug::UnitsBeforeDurable | Bug::UnitsWhileWritten | Bug::LastUnitGivenBack | Bug::UnitsGivenTwice => {
            (Kind::Space, BUDGET)
        }
        Bug::LogCutAtDamage | Bug::TurnLeftOut => (Kind::Lone, BUDGET),
        _ => (Kind::Mixed, BUDGET),
    }
}

/// What a search brought.
struct Search {
    bug: Bug,
    kind: Kind,
    /// Seeds that were run.
    seeds: u64,
    /// Those of them that fail without the bug.
    unclean: Vec<u64>,
    /// Seed and first words of the violation.
    found: Option<(u64, String)>,
    time: Duration,
}

/// Runs the mutation run over all bugs, or `only` some; `budget` overrides the table. True if each was found.
///
/// # Errors
/// A seed could not be run, or there is no bug of a name.
pub fn run(only: &[String], first: u64, budget: Option<u64>) -> io::Result<bool> {
    let known = |name: &str| Bug::ALL.iter().copied().find(|bug| bug.name() == name);
    let unknown = |name: &String| {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        io::Error::other(format!("there is no bug {name}; there are {names:?}"))
    };
    let named: io::Result<Vec<Bug>> = only
        .iter()
        .map(|name| known(name).ok_or_else(|| unknown(name)))
        .collect();
    let bugs = match named? {
        named if named.is_empty() => Bug::ALL.to_vec(),
        named => named,
    };
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> io::Result<()> {
        while let Some(&bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let search = search(bug, first, budget)?;
            println!("{}", search.line());
            if search.found.is_none() {
                missed
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(bug.name());
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a worker panicked")))
        })
    })?;
    let missed = missed
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    println!("{} bugs, {} not found {missed:?}", bugs.len(), missed.len());
    Ok(missed.is_empty())
}

impl Search {
    fn line(&self) -> String {
        let Self {
            bug,
            kind,
            seeds,
            unclean,
            found,
            time,
        } = self;
        let mut head = format!(
            "{:<26} {:<6} {seeds:>4} seeds {:>6.1} s",
            bug.name(),
            kind.name(),
            time.as_secs_f64()
        );
        if !unclean.is_empty() {
            head += &format!("  (seeds that fail without it: {unclean:?})");
        }
        match found {
            Some((seed, words)) => format!("{head}  seed {seed}: {words}"),
            None => format!("{head}  NOT FOUND"),
        }
    }
}

fn search(bug: Bug, first: u64, budget: Option<u64>) -> io::Result<Search> {
    let (kind, most) = case(bug);
    let most = budget.unwrap_or(most);
    let begun = Instant::now();
    let mut search = Search {
        bug,
        kind,
        seeds: 0,
        unclean: Vec::new(),
        found: None,
        time: Duration::ZERO,
    };
    for seed in first..first + most {
        search.seeds += 1;
        let Some(words) = violation(Some(bug), kind, seed)? else {
            continue;
        };
        // What is wrong without the bug, too, proves nothing.
        if violation(None, kind, seed)?.is_some() {
            search.unclean.push(seed);
            continue;
        }
        search.found = Some((seed, words));
        break;
    }
    search.time = begun.elapsed();
    Ok(search)
}

/// What a seed finds, with the bug in place: its first violation. A process that dies finds something, too; one that
/// hangs does not.
fn violation(bug: Option<Bug>, kind: Kind, seed: u64) -> io::Result<Option<String>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--part", "--seed", &seed.to_string()])
        .args(bug.iter().flat_map(|bug| ["--plant", bug.name()]))
        .args(["--scenario", kind.name()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let Some(status) = wait(&mut child)? else {
        return Ok(None);
    };
    let text = reader.join().unwrap_or_else(|_| Ok(String::new()))?;
    if status.success() {
        return Ok(None);
    }
    let mut lines = text.lines().skip_while(|line| !line.contains(" FAILED"));
    let words = lines.nth(1).map(|line| line.trim().chars().take(160).collect());
    Ok(Some(
        words.unwrap_or_else(|| format!("the process ended with {status}")),
    ))
}

fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
