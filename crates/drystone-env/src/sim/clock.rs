use crate::BoxFuture;
use crate::clock::{Clock, Monotonic, WallTime};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A clock that stands still until it is moved. Clones share it.
#[derive(Clone, Default)]
pub struct SimClock {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    now: Monotonic,
    wall: WallTime,
    next_sleeper: u64,
    // By deadline, then by order of arrival: woken in this order.
    sleepers: BTreeMap<(Monotonic, u64), Waker>,
}

impl SimClock {
    /// A clock at `now` and `wall`.
    pub fn new(now: Monotonic, wall: WallTime) -> Self {
        Self {
            shared: Arc::new(Mutex::new(State {
                now,
                wall,
                ..State::default()
            })),
        }
    }

    /// Lets time pass on both clocks and wakes who slept until then, earliest first.
    pub fn advance(&self, by: Duration) {
        let due = {
            let mut state = self.state();
            state.now = state.now.plus(by);
            state.wall = WallTime(state.wall.0.saturating_add(by.as_micros() as u64));
            let after = (Monotonic(state.now.0.saturating_add(1)), 0);
            let later = state.sleepers.split_off(&after);
            std::mem::replace(&mut state.sleepers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Moves to the earliest deadline that somebody sleeps for; false if nobody does.
    pub fn advance_to_next(&self) -> bool {
        let Some(wait) = self.next_deadline().map(|deadline| deadline.since(self.now())) else {
            return false;
        };
        self.advance(wait);
        true
    }

    /// The earliest deadline that somebody sleeps for.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.state().sleepers.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Steps the wall clock, and it alone.
    pub fn set_wall(&self, wall: WallTime) {
        self.state().wall = wall;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SimClock {
    fn now(&self) -> Monotonic {
        self.state().now
    }

    fn wall(&self) -> WallTime {
        self.state().wall
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<()> {
        Box::pin(Sleep {
            clock: self.clone(),
            deadline,
            key: None,
        })
    }
}

struct Sleep {
    clock: SimClock,
    deadline: Monotonic,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            state.next_sleeper += 1;
            state.next_sleeper
        });
        state
            .sleepers
            .insert((self.deadline, key), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.state().sleepers.remove(&(self.deadline, key));
        }
    }
}
