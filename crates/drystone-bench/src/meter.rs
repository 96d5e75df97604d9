//! Time and CPU time of a measurement, of this process, its children and the cluster's local nodes.

use drystone_env::{Clock, Env, Monotonic};
use std::sync::Arc;
use std::time::Duration;

/// USER_HZ, in which /proc counts CPU time: 100 on every architecture that we run on.
const TICK: Duration = Duration::from_millis(10);
/// Fields of /proc/PID/stat after the name: user and system time of the process, and of its ended children.
const OWN_FIELDS: [usize; 2] = [11, 12];
const CHILD_FIELDS: [usize; 2] = [13, 14];

/// Starts and stops measurements.
#[derive(Clone)]
pub struct Stopwatch {
    clock: Arc<dyn Clock>,
    pids: Arc<[u32]>,
}

/// A measurement under way.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    started: Monotonic,
    own: Duration,
    cluster: Option<Duration>,
}

/// What a measurement took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// By the clock.
    pub elapsed: Duration,
    /// CPU time of this process and of the children that ended.
    pub own: Duration,
    /// CPU time of the cluster's local nodes, where they are known.
    pub cluster: Option<Duration>,
}

impl Stopwatch {
    /// For work of this process and of the processes `pids`.
    pub fn new(env: &Env, pids: &[u32]) -> Self {
        Self {
            clock: Arc::clone(&env.clock),
            pids: pids.into(),
        }
    }

    /// The same clock, without the cluster's nodes: limit programs run beside them, not in them.
    pub fn without_cluster(&self) -> Self {
        Self {
            clock: Arc::clone(&self.clock),
            pids: Arc::from([]),
        }
    }

    /// Microseconds since `earlier`.
    pub fn micros_since(&self, earlier: Monotonic) -> u64 {
        self.clock.now().since(earlier).as_micros() as u64
    }

    /// The moment.
    pub fn now(&self) -> Monotonic {
        self.clock.now()
    }

    /// Begins a measurement.
    pub fn start(&self) -> Running {
        let (cluster, own) = (self.cluster_cpu(), own_cpu());
        Running {
            started: self.clock.now(),
            own,
            cluster,
        }
    }

    /// Ends it.
    pub fn stop(&self, running: Running) -> Spent {
        let elapsed = self.clock.now().since(running.started);
        let own = own_cpu().saturating_sub(running.own);
        let cluster = running
            .cluster
            .and_then(|before| Some(self.cluster_cpu()?.saturating_sub(before)));
        Spent {
            elapsed,
            own,
            cluster,
        }
    }

    /// `None` if no process is named or one of them is gone: half a sum would mislead.
    fn cluster_cpu(&self) -> Option<Duration> {
        if self.pids.is_empty() {
            return None;
        }
        self.pids
            .iter()
            .map(|pid| cpu_of(&pid.to_string(), OWN_FIELDS))
            .sum()
    }
}

/// This process by its nanosecond clock, its ended children in ticks.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let own = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32);
    own + cpu_of("self", CHILD_FIELDS).unwrap_or_default()
}

fn cpu_of(process: &str, fields: [usize; 2]) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks_in(&stat, fields).map(|ticks| TICK * ticks)
}

/// The sum of two fields; the name before them is in parentheses and may itself hold spaces and parentheses.
fn ticks_in(stat: &str, fields: [usize; 2]) -> Option<u32> {
    let after_name = stat.rsplit_once(')')?.1;
    let field = |position: usize| {
        after_name
            .split_ascii_whitespace()
            .nth(position)?
            .parse::<u32>()
            .ok()
    };
    field(fields[0])?.checked_add(field(fields[1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a ) name) S 1 42 42 0 -1 4194560 100 0 0 0 70 30 5 6 20 0 9 0 12345 1 2 3\n";

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        assert_eq!(ticks_in(STAT, OWN_FIELDS), Some(100));
        assert_eq!(ticks_in(STAT, CHILD_FIELDS), Some(11));
        assert_eq!(ticks_in("42 (cut", OWN_FIELDS), None);
        assert_eq!(ticks_in("42 (cut) S 1", OWN_FIELDS), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(own_cpu() > Duration::ZERO);
        assert!(cpu_of("self", OWN_FIELDS).is_some());
        assert_eq!(cpu_of("0", OWN_FIELDS), None);
    }
}
