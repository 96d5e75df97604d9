use crate::BoxFuture;
use crate::spawn::Spawn;
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// A tenth of the weight that a thread of the default niceness has: enough to end some time on a busy machine.
const BACKGROUND_NICE: i32 = 10;

/// A step that waited for a processor for more than this part of the time that it ran was on a busy machine.
const BUSY_PART: u64 = 4;
/// On a busy machine background work rests so many times as long as it ran. Niceness alone is not enough: where two
/// threads share a core, work of the lowest weight in the gaps of one still slows the other down.
const REST: u64 = 1;
const MOST_REST: Duration = Duration::from_millis(200);

/// Nanoseconds that a thread ran, and that it was ready to run but waited for a processor.
#[derive(Clone, Copy, Default)]
struct Scheduled {
    ran: u64,
    waited: u64,
}

thread_local! {
    /// Of this thread, when its last step had ended and it had rested, if it had to.
    static RESTED: Cell<Option<Scheduled>> = const { Cell::new(None) };
}

/// What Linux counts of this thread (Documentation/scheduler/sched-stats.rst); elsewhere nothing is known.
fn scheduled() -> Option<Scheduled> {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    parse_scheduled(&counted)
}

fn parse_scheduled(counted: &str) -> Option<Scheduled> {
    let mut numbers = counted.split_ascii_whitespace().map(str::parse);
    let (ran, waited) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some(Scheduled { ran, waited })
}

/// How long to rest after a step that took so much.
fn rest_after(step: Scheduled) -> Duration {
    if step.waited > step.ran / BUSY_PART {
        Duration::from_nanos(step.ran.saturating_mul(REST)).min(MOST_REST)
    } else {
        Duration::ZERO
    }
}

/// Tasks on the tokio runtime in which it was made; they are aborted when it is dropped or stopped.
pub struct OsSpawn {
    runtime: tokio::runtime::Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl OsSpawn {
    /// Spawns on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> Self {
        Self {
            runtime: tokio::runtime::Handle::current(),
            tasks: Mutex::default(),
        }
    }

    /// Aborts every task.
    pub fn stop(&self) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

impl Default for OsSpawn {
    fn default() -> Self {
        Self::new()
    }
}

impl Spawn for OsSpawn {
    fn spawn(&self, _name: &str, task: BoxFuture<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn_on(task, &self.runtime);
        // Finished tasks leave the set here, so that it holds no more than what runs.
        while tasks.try_join_next().is_some() {}
    }

    #[allow(clippy::disallowed_methods, reason = "this is the real thread")]
    fn thread(&self, name: &str, body: BoxFuture<()>) {
        let builder = std::thread::Builder::new().name(name.chars().take(15).collect());
        let runtime = self.runtime.clone();
        builder
            .spawn(move || runtime.block_on(body))
            .expect("the system refused a thread");
    }

    #[allow(clippy::disallowed_methods, reason = "this is the real thread")]
    fn background(&self, name: &str, body: BoxFuture<()>) {
        let builder = std::thread::Builder::new().name(name.chars().take(15).collect());
        let runtime = self.runtime.clone();
        let run = move || {
            // On Linux this is of the calling thread alone. Where it is refused the work goes on as any other.
            let _ = rustix::process::nice(BACKGROUND_NICE);
            runtime.block_on(body);
        };
        builder.spawn(run).expect("the system refused a thread");
    }

    #[allow(clippy::disallowed_methods, reason = "this is the real thread")]
    fn rest(&self) {
        let Some(now) = scheduled() else {
            return;
        };
        // The first step of a thread has no beginning.
        let last = RESTED.replace(Some(now)).unwrap_or(now);
        let step = Scheduled {
            ran: now.ran.saturating_sub(last.ran),
            waited: now.waited.saturating_sub(last.waited),
        };
        let rest = rest_after(step);
        if !rest.is_zero() {
            std::thread::sleep(rest);
            RESTED.set(scheduled());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ran: u64, waited: u64) -> Scheduled {
        Scheduled { ran, waited }
    }

    #[test]
    fn background_work_rests_only_where_it_has_to_wait_for_a_processor() {
        let millis = 1_000_000;
        assert_eq!(rest_after(step(10 * millis, 0)), Duration::ZERO);
        assert_eq!(rest_after(step(10 * millis, 2 * millis)), Duration::ZERO);
        assert_eq!(
            rest_after(step(10 * millis, 3 * millis)),
            Duration::from_millis(10)
        );
        assert_eq!(rest_after(step(u64::MAX, u64::MAX)), MOST_REST);
    }

    #[test]
    fn what_the_system_counts_is_read() {
        let found = parse_scheduled("599576 803577 10\n").unwrap();
        assert_eq!((found.ran, found.waited), (599_576, 803_577));
        for odd in ["", "1", "a b c", "-1 2 3"] {
            assert!(parse_scheduled(odd).is_none(), "{odd:?}");
        }
        if cfg!(target_os = "linux") {
            assert!(scheduled().is_some());
        }
    }
}
