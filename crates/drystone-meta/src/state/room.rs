//! Whether the file system has room for a flush of the state store.
//!
//! The store cannot bear a write that fails, and what it writes, and merges afterwards, it cannot take back. So nothing is
//! written to it unless there is room for all of that. What a flush needs is looked at together with how fast others take
//! space: who fills the file system does not stop because a flush has begun. Once there was none, there has to be room for a
//! while, so that nobody who takes each byte that becomes free is raced for it.

use drystone_env::{Monotonic, Space};
use std::time::Duration;

/// Beyond what is written and merged: records of the store about its tables, and its journal.
const SLACK_BYTES: u64 = 1 << 20;
/// The most that a merge writes, which follows a flush: see the size of tables in `store/fjall_store.rs`. But at most one of
/// so many parts of the file system: on a small one chunk servers leave no more than twice that.
const MERGE_BYTES: u64 = 192 << 20;
const MERGE_PART: u64 = 40;
/// What may wait in memory for room, but at most one of so many parts of the file system: with more, less room than chunk
/// servers leave would not do.
const WAITING_BYTES: u64 = 16 << 20;
const WAITING_PART: u64 = 128;
/// Files that a flush and the merge behind it make at most, four times.
const FILES: u64 = 64;
/// What others take goes on for so long as it did.
const AHEAD: Duration = Duration::from_secs(1);
/// The shortest time that says how fast others take space.
const STEP: Duration = Duration::from_millis(15);
/// For how long there must have been room after there was none.
const SETTLED: Duration = Duration::from_secs(2);
/// With less free space than this it is worth a second look whether somebody is filling it.
const SCARCE_BYTES: u64 = 2 << 30;

/// See the module. It is open at the beginning.
pub(super) struct Room {
    seen: Option<(Monotonic, u64)>,
    /// Bytes that others take within [`AHEAD`] if they go on.
    falling: u64,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    /// There is none.
    Closed {
        /// Since when.
        since: Monotonic,
        /// Since when there are fewer bytes than are needed, whatever others do.
        lacking: Option<Monotonic>,
    },
    /// There is some again.
    Settling {
        closed: Monotonic,
        since: Monotonic,
    },
}

/// What the store may take with a flush of `overlay` bytes if it has `store` bytes already.
pub(super) fn needed(space: Space, overlay: u64, store: u64) -> u64 {
    overlay.saturating_mul(2) + store.min(MERGE_BYTES).min(space.total / MERGE_PART) + SLACK_BYTES
}

/// Bytes of changes that may wait for room before commands are refused, where memory holds `overlay` at most.
pub(super) fn waiting(space: Space, overlay: u64) -> u64 {
    (overlay / 2).min(WAITING_BYTES).min(space.total / WAITING_PART)
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            seen: None,
            falling: 0,
            state: State::Open,
        }
    }

    /// Takes a look at the file system, where `needed` bytes are needed.
    pub(super) fn look(&mut self, now: Monotonic, space: Space, needed: u64) {
        match self.seen {
            Some((then, free)) if now.since(then) >= STEP => {
                let taken = u128::from(free.saturating_sub(space.free));
                let ahead = taken * AHEAD.as_micros() / now.since(then).as_micros().max(1);
                self.falling = u64::try_from(ahead).unwrap_or(u64::MAX);
                self.seen = Some((now, space.free));
            }
            Some(_) => {}
            None => self.seen = Some((now, space.free)),
        }
        let lacks = space.free < needed;
        let enough = space.free.saturating_sub(self.falling) >= needed && space.free_files >= FILES;
        self.state = match (self.state, enough) {
            (State::Open, true) => State::Open,
            (State::Open, false) => State::Closed {
                since: now,
                lacking: lacks.then_some(now),
            },
            (State::Closed { since, lacking }, false) => State::Closed {
                since,
                lacking: lacks.then_some(lacking.unwrap_or(now)),
            },
            (State::Closed { since, .. }, true) => State::Settling {
                closed: since,
                since: now,
            },
            (State::Settling { closed, .. }, false) => State::Closed {
                since: closed,
                lacking: lacks.then_some(now),
            },
            (State::Settling { since, .. }, true) if now.since(since) >= SETTLED => State::Open,
            (settling, true) => settling,
        };
    }

    /// Whether a flush may begin.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether so little is left that somebody could have filled it since the last look.
    pub(super) fn is_scarce(&self) -> bool {
        self.seen.is_some_and(|(_, free)| free < SCARCE_BYTES)
    }

    /// For how long no flush could begin.
    pub(super) fn closed_for(&self, now: Monotonic) -> Duration {
        match self.state {
            State::Open => Duration::ZERO,
            State::Closed { since, .. } | State::Settling { closed: since, .. } => now.since(since),
        }
    }

    /// For how long there have been fewer bytes than are needed.
    pub(super) fn lacking_for(&self, now: Monotonic) -> Duration {
        match self.state {
            State::Closed {
                lacking: Some(since), ..
            } => now.since(since),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space(free: u64) -> Space {
        Space {
            total: 1 << 30,
            free,
            free_files: 1000,
            device: 1,
        }
    }

    fn at(ms: u64) -> Monotonic {
        Monotonic(ms * 1000)
    }

    #[test]
    fn it_closes_at_once_and_opens_when_there_has_been_room_for_a_while() {
        let mut room = Room::new();
        room.look(at(0), space(100 * MIB), 10 * MIB);
        assert!(room.is_open());
        room.look(at(10_000), space(9 * MIB), 10 * MIB);
        assert!(!room.is_open());
        // Somebody takes each byte that becomes free.
        for second in 11..60 {
            let free = if second % 2 == 0 { 0 } else { 50 * MIB };
            room.look(at(second * 1000), space(free), 10 * MIB);
            room.look(at(second * 1000 + 500), space(free), 10 * MIB);
            assert!(!room.is_open(), "{second}");
        }
        assert_eq!(room.closed_for(at(60_000)), Duration::from_secs(50));
        // They have stopped at 59 s.
        room.look(at(60_900), space(50 * MIB), 10 * MIB);
        assert!(!room.is_open());
        room.look(at(61_000), space(50 * MIB), 10 * MIB);
        assert!(room.is_open() && room.closed_for(at(61_000)).is_zero());
    }

    #[test]
    fn it_closes_before_others_have_taken_what_is_left() {
        let mut room = Room::new();
        room.look(at(0), space(700 * MIB), 10 * MIB);
        room.look(at(100), space(650 * MIB), 10 * MIB);
        assert!(room.is_open(), "500 MiB in a second leave enough");
        room.look(at(200), space(500 * MIB), 10 * MIB);
        assert!(!room.is_open(), "they take all of it within a second");
        assert!(room.lacking_for(at(900)).is_zero(), "nothing lacks yet");
        // They have stopped.
        for step in 3..30 {
            room.look(at(step * 100), space(500 * MIB), 10 * MIB);
        }
        assert!(room.is_open());
    }

    #[test]
    fn what_chunk_servers_leave_is_enough_for_what_may_wait() {
        for total in [1 << 30, 4 << 30, 64 << 30, 1 << 40] {
            let space = Space { total, ..space(0) };
            let left = (1 << 30).min(total / 20);
            let most = needed(space, waiting(space, 1 << 30), u64::MAX);
            assert!(most < left, "{most} of {left}, of {total}");
        }
    }

    #[test]
    fn without_files_there_is_no_room() {
        let mut room = Room::new();
        let none = Space {
            free_files: 3,
            ..space(700 * MIB)
        };
        room.look(at(0), none, 10 * MIB);
        room.look(at(4_000), none, 10 * MIB);
        assert!(!room.is_open());
        assert!(room.lacking_for(at(5_000)).is_zero(), "there are bytes");
        room.look(at(6_000), space(5 * MIB), 10 * MIB);
        assert_eq!(room.lacking_for(at(9_000)), Duration::from_secs(3));
    }
}
