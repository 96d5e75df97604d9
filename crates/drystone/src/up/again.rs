//! A second `drystone up` on a directory asks the one that runs there to start what is dead.
//!
//! The request is a file in the data directory, which both can write to, whoever started them; the one that runs
//! looks for it a few times a second. While it works on a request the file stays; then comes the answer, with the
//! number of the request.

use super::write_atomically;
use crate::exit::UsageError;
use crate::output::{note, say};
use crate::up::plan::Plan;
use crate::up::{Started, UpOptions};
use anyhow::{Context, bail};
use drystone_env::Env;
use drystone_env::os::{lock_directory, random_bytes};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the one that runs looks, and the one that asked.
pub const POLL: Duration = Duration::from_millis(250);
/// A request that nobody answers for so long is given up: as long as a node may take to get ready, and some more.
const PATIENCE: Duration = Duration::from_secs(180);

const REQUEST: &str = "up.request";
const ANSWER: &str = "up.answer";

#[derive(Serialize, Deserialize)]
struct Answer {
    request: u64,
    started: Vec<String>,
    faults: Vec<String>,
    notes: Vec<String>,
}

/// Removes what an earlier `up` has left.
pub fn clear(data: &Path) {
    for file in files(data) {
        let _ = fs::remove_file(file);
    }
}

/// The files of requests and answers.
pub fn files(data: &Path) -> Vec<PathBuf> {
    [REQUEST, ANSWER].map(|file| data.join(file)).to_vec()
}

/// The request that waits, if there is one.
pub fn request(data: &Path) -> Option<u64> {
    fs::read_to_string(data.join(REQUEST)).ok()?.trim().parse().ok()
}

/// The requests that one `up` works on.
#[derive(Default)]
pub struct Answers {
    // Could not be written: the node that it tells of runs nevertheless, and the disk may get room again.
    unwritten: Option<(u64, Started)>,
}

impl Answers {
    /// The request that is to be worked on, if there is one. One whose answer could not be written is answered now.
    pub fn next(&mut self, data: &Path) -> Option<u64> {
        let number = request(data)?;
        match self.unwritten.take() {
            Some((last, started)) if last == number => {
                if answer(data, number, &started).is_err() {
                    self.unwritten = Some((number, started));
                }
                None
            }
            _ => Some(number),
        }
    }

    /// Answers a request. A failure is only told: it is tried again at the next look.
    pub fn give(&mut self, data: &Path, number: u64, started: Started) {
        if let Err(error) = answer(data, number, &started) {
            note(format_args!(
                "drystone: {error:#}; another `drystone up` waits for this answer, and it is tried again"
            ));
            self.unwritten = Some((number, started));
        }
    }
}

fn answer(data: &Path, number: u64, started: &Started) -> anyhow::Result<()> {
    let answer = Answer {
        request: number,
        started: started.names.clone(),
        faults: started.faults.clone(),
        notes: started.notes.clone(),
    };
    write_atomically(&data.join(ANSWER), serde_json::to_string(&answer)?.as_bytes())?;
    if request(data) == Some(number) {
        let _ = fs::remove_file(data.join(REQUEST));
    }
    Ok(())
}

/// Asks the `up` that runs on `data`, and says what it did.
///
/// # Errors
/// The options are others than those that it runs with, it does not answer, or a node does not start.
pub async fn ask(env: &Env, options: &UpOptions, data: &Path) -> anyhow::Result<()> {
    if let Some(plan) = Plan::load(data)? {
        check_options(options, &plan, data)?;
    }
    let mut drawn = [0; 8];
    random_bytes(&mut drawn);
    let number = u64::from_le_bytes(drawn);
    let deadline = env.clock.now().plus(PATIENCE);
    let answer = loop {
        match read_answer(data) {
            Some(answer) if answer.request == number => break answer,
            // Not asked yet, or another one asked at the same time.
            _ if request(data).is_none() => {
                write_atomically(&data.join(REQUEST), number.to_string().as_bytes())?;
            }
            _ => {}
        }
        if env.clock.now() >= deadline {
            let _ = fs::remove_file(data.join(REQUEST));
            bail!(
                "another process uses {} and does not answer: a `drystone up` that does not get ready, or `drystone \
                 admin recover`",
                data.display()
            );
        }
        match lock_directory(data) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => {
                clear(data);
                bail!(
                    "the `drystone up` that ran on {} has ended: run the command again",
                    data.display()
                );
            }
        }
        env.clock.sleep(POLL).await;
    };
    let plan = Plan::load(data)?.context("the plan of the cluster is gone")?;
    say(format_args!(
        "drystone is up already: http://{}",
        plan.gateway.wire
    ));
    match answer.started.as_slice() {
        [] if answer.faults.is_empty() => say("  every node runs, nothing was to be started"),
        [] => {}
        started => say(format_args!("  started again: {}", started.join(", "))),
    }
    for line in &answer.notes {
        say(format_args!("  {line}"));
    }
    if !answer.faults.is_empty() {
        bail!("{}", answer.faults.join("; "));
    }
    Ok(())
}

fn read_answer(data: &Path) -> Option<Answer> {
    serde_json::from_str(&fs::read_to_string(data.join(ANSWER)).ok()?).ok()
}

fn check_options(options: &UpOptions, plan: &Plan, data: &Path) -> anyhow::Result<()> {
    if options.replace_lost {
        bail!(UsageError(format!(
            "another `drystone up` runs on {}: --replace-lost is for a start, so end that one first (Ctrl-C)",
            data.display()
        )));
    }
    let differs =
        |wanted: Option<u32>, present: usize| wanted.is_some_and(|wanted| wanted as usize != present);
    let flag = if differs(options.metadata, plan.metadata.len()) {
        "--metadata"
    } else if differs(options.chunk_servers, plan.chunk.len()) {
        "--chunk-servers"
    } else if options
        .listen
        .is_some_and(|listen| listen.port() != 0 && listen != plan.gateway.wire)
    {
        "--listen"
    } else {
        return Ok(());
    };
    bail!(UsageError(format!(
        "another `drystone up` runs on {} with another {flag}: end it (Ctrl-C) before you change that, or name another \
         --data",
        data.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_for_its_request() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        assert_eq!(request(data), None);
        fs::write(data.join(REQUEST), "7").unwrap();
        assert_eq!(request(data), Some(7));
        let mut started = Started::default();
        answer(data, 6, &started).unwrap();
        assert_eq!(
            request(data),
            Some(7),
            "a request that came meanwhile is not lost"
        );
        started.faults.push("no".to_owned());
        answer(data, 7, &started).unwrap();
        assert_eq!(request(data), None);
        let last = read_answer(data).unwrap();
        assert_eq!((last.request, last.faults), (7, vec!["no".to_owned()]));
        clear(data);
        assert!(read_answer(data).is_none());
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_tried_again_and_the_work_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let mut answers = Answers::default();
        assert_eq!(answers.next(data), None);
        fs::write(data.join(REQUEST), "7").unwrap();
        assert_eq!(answers.next(data), Some(7));
        fs::create_dir(data.join(ANSWER)).unwrap();
        let started = Started {
            names: vec!["chunk-1".to_owned()],
            ..Started::default()
        };
        answers.give(data, 7, started);
        assert_eq!(answers.next(data), None);
        assert_eq!(request(data), Some(7));
        fs::remove_dir(data.join(ANSWER)).unwrap();
        assert_eq!(answers.next(data), None);
        assert_eq!(request(data), None);
        assert_eq!(read_answer(data).unwrap().started, ["chunk-1"]);
        fs::write(data.join(REQUEST), "8").unwrap();
        assert_eq!(answers.next(data), Some(8));
    }
}
