//! Tells a person what a command waits for: one that is silent for half a minute looks like one that hangs.

use super::progress::Screen;
use drystone_client::{Wait, Waits};
use drystone_env::{Env, Monotonic};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a wait may be before anybody is told of it: a failover is over by then.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Tells of what stands in `waits`, until what is returned is dropped. Does nothing unless a person watches.
pub fn tell(env: &Env, waits: &Waits, screen: &Screen) -> JoinSet<()> {
    let mut task = JoinSet::new();
    if screen.is_watched() {
        let (clock, waits, screen) = (env.clock.clone(), waits.clone(), screen.clone());
        task.spawn(async move {
            let mut told = Told::default();
            loop {
                clock.sleep(LOOK_EVERY).await;
                for line in told.lines(&waits.now(), clock.now()) {
                    screen.note(&line);
                }
            }
        });
    }
    task
}

/// What was told and still goes on: many reads that wait for the same are one line.
#[derive(Default)]
struct Told(BTreeSet<&'static str>);

impl Told {
    /// The lines to be told `now`.
    fn lines(&mut self, waits: &[Wait], now: Monotonic) -> Vec<String> {
        let is_long = |wait: &&Wait| now.since(wait.began) >= TELL_AFTER;
        let long: Vec<&Wait> = waits.iter().filter(is_long).collect();
        self.0.retain(|what| long.iter().any(|wait| wait.what == *what));
        let new = long.into_iter().filter(|wait| self.0.insert(wait.what));
        new.map(|wait| line(wait, now)).collect()
    }
}

fn line(wait: &Wait, now: Monotonic) -> String {
    let tried = match wait.tried.is_empty() {
        true => String::new(),
        false => format!(" ({})", wait.tried),
    };
    let left = wait.until.since(now).as_secs_f64().ceil();
    format!("drystone: waiting for {}{tried}; gives up in {left} s", wait.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_client::Tried;

    const SECOND: u64 = 1_000_000;

    fn wait(what: &'static str, began: u64, until: u64) -> Wait {
        let mut tried = Tried::default();
        tried.note("127.0.0.1:9710", "does not answer");
        Wait {
            what,
            began: Monotonic(began * SECOND),
            until: Monotonic(until * SECOND),
            tried,
        }
    }

    #[test]
    fn a_wait_is_told_of_once_when_it_is_long() {
        let mut told = Told::default();
        let leader = wait("a metadata leader", 10, 40);
        let mut lines = |waits: &[Wait], at: u64| told.lines(waits, Monotonic(at * SECOND));
        assert_eq!(lines(std::slice::from_ref(&leader), 12), [""; 0]);
        let many = [leader.clone(), leader.clone(), wait("a replica", 11, 41)];
        assert_eq!(
            lines(&many, 13),
            ["drystone: waiting for a metadata leader (127.0.0.1:9710 does not answer); gives up in 27 s"]
        );
        assert_eq!(
            lines(&many, 14),
            ["drystone: waiting for a replica (127.0.0.1:9710 does not answer); gives up in 27 s"]
        );
        assert_eq!(lines(&many, 20), [""; 0]);
        assert_eq!(lines(&[], 21), [""; 0]);
        assert_eq!(lines(&[leader], 22).len(), 1, "another wait");
    }
}
