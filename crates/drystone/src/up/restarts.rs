//! When nodes that have ended by themselves are started again.
//!
//! What ended them may pass: a full disk, a device that failed once. So each is started again, after a pause that doubles
//! while it does not stay. Not one that an operator has to see to, and not a process that somebody has killed.

use crate::node::stopped;
use drystone_env::Monotonic;
use std::collections::BTreeMap;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who has run for so long has stayed: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub struct Restarts {
    nodes: BTreeMap<String, Restart>,
}

struct Restart {
    pause: Duration,
    /// When it is to be started; `None` once it has been.
    at: Option<Monotonic>,
    started: Monotonic,
}

impl Restarts {
    /// A node has ended, or could not be started: after which pause it is started again, if it is.
    pub fn ended(&mut self, name: &str, failure: &str, now: Monotonic) -> Option<Duration> {
        if stopped::needs_operator(failure) {
            self.nodes.remove(name);
            return None;
        }
        let pause = match self.nodes.get(name) {
            Some(last) if now.since(last.started) < STEADY + last.pause => {
                (last.pause * 2).min(LONGEST_PAUSE)
            }
            _ => FIRST_PAUSE,
        };
        let restart = Restart {
            pause,
            at: Some(now.plus(pause)),
            started: now.plus(pause),
        };
        self.nodes.insert(name.to_owned(), restart);
        Some(pause)
    }

    /// Whether it is one that is started again.
    pub fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Those that are to be started now; each is named once.
    pub fn due(&mut self, now: Monotonic) -> Vec<String> {
        let mut due = Vec::new();
        for (name, restart) in &mut self.nodes {
            if restart.at.take_if(|at| *at <= now).is_some() {
                restart.started = now;
                due.push(name.clone());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000)
    }

    #[test]
    fn pauses_grow_while_a_node_does_not_stay_and_begin_anew_when_it_has() {
        let mut restarts = Restarts::default();
        let mut now = 100;
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = restarts.ended("metadata-1", "no space", at(now)).unwrap();
            assert_eq!(pause, Duration::from_secs(expected));
            now += expected;
            assert!(restarts.due(at(now - 1)).is_empty());
            assert_eq!(restarts.due(at(now)), ["metadata-1"]);
            assert!(restarts.due(at(now)).is_empty(), "it is started once");
            // It ran for a moment.
            now += 5;
        }
        now += 200;
        assert_eq!(
            restarts.ended("metadata-1", "no space", at(now)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            restarts.ended("chunk-1", "no space", at(now)),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn one_that_needs_an_operator_is_left() {
        let mut restarts = Restarts::default();
        restarts.ended("chunk-1", "input/output error", at(1)).unwrap();
        assert!(restarts.has("chunk-1"));
        let stranger = "node 21 was removed: it needs a new id";
        assert_eq!(restarts.ended("chunk-1", stranger, at(1)), None);
        assert!(!restarts.has("chunk-1") && restarts.due(at(1_000)).is_empty());
    }
}
