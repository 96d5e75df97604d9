//! How much of a server orphan orders may take away within an hour: a fault that makes the namespace forget chunks
//! must not empty the disks before somebody looks.

use super::orphan::Orphan;
use drystone_env::Monotonic;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After this long a server's count begins anew.
const WINDOW: Duration = Duration::from_secs(3600);
/// Orphans may be one part in as many of the bytes that the server holds.
const SHARE: u64 = 100;
/// As much may always go, so that a small cluster gets back what writers left behind.
const FREE: u64 = 1 << 30;
/// Orders remembered per server and window, so that a repeated one counts once; beyond it each counts.
const REMEMBERED: usize = 16_384;

struct Window {
    began: Monotonic,
    bytes: u64,
    ordered: BTreeSet<(u64, u64, u64)>,
    stopped: bool,
    /// An operator has looked: all may go in this window.
    released: bool,
}

/// The counts by node: bounded by the nodes that the namespace knows.
#[derive(Default)]
pub(crate) struct DeletionLimit {
    windows: BTreeMap<u64, Window>,
}

impl DeletionLimit {
    /// True if this orphan on `node`, which holds `used` bytes, may be ordered away now; it is counted then.
    pub(crate) fn admit(&mut self, node: u64, used: u64, now: Monotonic, orphan: &Orphan) -> bool {
        let fresh = || Window {
            began: now,
            bytes: 0,
            ordered: BTreeSet::new(),
            stopped: false,
            released: false,
        };
        let window = self.windows.entry(node).or_insert_with(fresh);
        if now.since(window.began) >= WINDOW {
            *window = fresh();
        }
        let name = (orphan.chunk, orphan.replica.disk, orphan.replica.placement);
        if window.ordered.contains(&name) {
            return true;
        }
        let bytes = window.bytes.saturating_add(orphan.bytes);
        if bytes > (used / SHARE).max(FREE) && !window.released {
            if !std::mem::replace(&mut window.stopped, true) {
                let ordered = window.bytes;
                tracing::warn!(
                    server = node,
                    ordered,
                    used,
                    "too many orphans: their deletion stops"
                );
            }
            return false;
        }
        window.bytes = bytes;
        if window.ordered.len() < REMEMBERED {
            window.ordered.insert(name);
        }
        true
    }

    /// Lets everything on `node` go for as long as a window lasts; false if nothing was stopped there.
    pub(crate) fn release(&mut self, node: u64, now: Monotonic) -> bool {
        if !self.stops(node, now) {
            return false;
        }
        if let Some(window) = self.windows.get_mut(&node) {
            (window.began, window.stopped, window.released) = (now, false, true);
        }
        true
    }

    /// The nodes on which everything may go now, and the bytes that did.
    pub(crate) fn released(&self, now: Monotonic) -> impl Iterator<Item = (u64, u64)> {
        let released = move |window: &Window| window.released && now.since(window.began) < WINDOW;
        self.windows
            .iter()
            .filter(move |(_, window)| released(window))
            .map(|(node, window)| (*node, window.bytes))
    }

    /// True while nothing more is ordered from `node`.
    pub(crate) fn stops(&self, node: u64, now: Monotonic) -> bool {
        self.stopped(now).any(|(stopped, _)| stopped == node)
    }

    /// The nodes from which nothing more is ordered now, and the bytes that were.
    pub(crate) fn stopped(&self, now: Monotonic) -> impl Iterator<Item = (u64, u64)> {
        let stopped = move |window: &Window| window.stopped && now.since(window.began) < WINDOW;
        self.windows
            .iter()
            .filter(move |(_, window)| stopped(window))
            .map(|(node, window)| (*node, window.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_proto::record::ReplicaRecord;

    fn orphan(chunk: u64) -> Orphan {
        Orphan {
            chunk,
            replica: ReplicaRecord::default(),
            bytes: 64 << 20,
        }
    }

    #[test]
    fn orphans_of_a_small_server_go_up_to_a_bound_and_the_rest_waits_an_hour() {
        let (mut limit, now) = (DeletionLimit::default(), Monotonic(7));
        let admitted = |limit: &mut DeletionLimit, used: u64, now: Monotonic| {
            (0..1000)
                .filter(|chunk| limit.admit(1, used, now, &orphan(*chunk)))
                .count()
        };
        assert_eq!(admitted(&mut limit, 0, now), 16);
        assert!(limit.stops(1, now) && !limit.stops(2, now));
        assert!(
            limit.admit(2, 0, now, &orphan(1)),
            "each server has its own count"
        );
        assert_eq!(admitted(&mut limit, 0, now), 16, "the same ones again");
        assert_eq!(admitted(&mut limit, 200 << 30, now), 32, "a hundredth");
        assert_eq!(limit.stopped(now).collect::<Vec<_>>(), [(1, 2 << 30)]);
        assert!(!limit.release(2, now), "nothing is stopped there");
        assert!(limit.release(1, now.plus(WINDOW / 2)) && !limit.stops(1, now.plus(WINDOW / 2)));
        assert_eq!(
            admitted(&mut limit, 0, now.plus(WINDOW)),
            1000,
            "an operator looked"
        );
        let all = [(1, 1000 * (64 << 20))];
        assert_eq!(limit.released(now.plus(WINDOW)).collect::<Vec<_>>(), all);
        let later = now.plus(WINDOW * 2);
        assert_eq!(admitted(&mut limit, 0, later), 16, "and it holds again");
        let later = later.plus(WINDOW);
        assert!(!limit.stops(1, later));
        assert!(limit.admit(1, 0, later, &orphan(999)));
    }
}
