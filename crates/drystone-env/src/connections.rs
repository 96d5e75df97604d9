//! The connections that a listener holds: a limit, and what becomes of the oldest idle one when it is reached.
//!
//! A connection is busy while somebody works for it and idle otherwise. When a connection arrives and there is no room,
//! the one that has been idle for longest is asked to close, if it has been idle for [`MIN_IDLE`], or for
//! [`MIN_UNUSED`] and nothing was ever done for it; otherwise the listener waits, and with it all who come later. So a
//! peer that opens connections and leaves them idle keeps nobody out for long, and one that talks all the time (a
//! voter, a chunk server) is never closed.
//!
//! Architecture invariant: closes nothing itself; a connection's task asks [`Place::asked_to_close`].

use crate::Clock;
use crate::clock::Monotonic;
use crate::sync::{Mutex, Rank};
use futures_util::task::AtomicWaker;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// A connection is closed for another only when it has been idle for so long: a request may be on its way.
pub const MIN_IDLE: Duration = Duration::from_secs(1);
/// The same for a connection for which nothing was ever done.
pub const MIN_UNUSED: Duration = Duration::from_millis(100);
/// While there is no room it is looked again after so long: connections grow old without a sign.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The connections of one listener. Clones share them.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    open: Mutex<Open>,
    /// The listener, when it waits for room.
    room: AtomicWaker,
}

#[derive(Default)]
struct Open {
    next: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
}

struct Connection {
    /// What is being done for it.
    busy: AtomicUsize,
    /// Microseconds of the clock at which it was last seen to do something.
    active: AtomicU64,
    /// Something was done for it once.
    used: AtomicBool,
    asked: AtomicBool,
    task: AtomicWaker,
}

/// The place of one connection; given back when dropped.
pub struct Place {
    shared: Arc<Shared>,
    id: u64,
    connection: Arc<Connection>,
}

/// The connection is busy until this is dropped.
pub struct Busy {
    clock: Arc<dyn Clock>,
    connection: Arc<Connection>,
}

impl Connections {
    /// None yet. `rank` is that of the lock around the list.
    pub fn new(clock: Arc<dyn Clock>, rank: Rank) -> Self {
        Self {
            shared: Arc::new(Shared {
                clock,
                open: Mutex::new(rank, Open::default()),
                room: AtomicWaker::new(),
            }),
        }
    }

    /// Connections now.
    pub fn len(&self) -> usize {
        self.shared.open.lock().connections.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes the task of every connection, to look whether it shall stop.
    pub fn wake(&self) {
        let open = self.shared.open.lock();
        open.connections
            .values()
            .for_each(|connection| connection.task.wake());
    }

    /// A place for a connection that has arrived, when there are fewer than `limit` (at least one). Only one task, the
    /// listener's, may wait here. Cancel safe.
    pub async fn admit(&self, limit: usize) -> Place {
        let limit = limit.max(1);
        loop {
            if let Some(place) = self.try_admit(limit) {
                return place;
            }
            self.close_oldest_idle();
            let mut sleep = self.shared.clock.sleep(LOOK_AGAIN);
            poll_fn(|context| {
                self.shared.room.register(context.waker());
                if self.len() < limit {
                    return Poll::Ready(());
                }
                sleep.as_mut().poll(context)
            })
            .await;
        }
    }

    fn try_admit(&self, limit: usize) -> Option<Place> {
        let mut open = self.shared.open.lock();
        if open.connections.len() >= limit {
            return None;
        }
        let connection = Arc::new(Connection {
            busy: AtomicUsize::new(0),
            active: AtomicU64::new(self.shared.clock.now().0),
            used: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Arc::clone(&connection));
        Some(Place {
            shared: Arc::clone(&self.shared),
            id,
            connection,
        })
    }

    /// Asks the connection that has been idle for longest to close; false if none has been for long enough, or if
    /// one that was asked has not closed yet.
    pub fn close_oldest_idle(&self) -> bool {
        let now = self.shared.clock.now();
        let open = self.shared.open.lock();
        let mut oldest: Option<(u64, &Arc<Connection>)> = None;
        for connection in open.connections.values() {
            if connection.is_busy() {
                continue;
            }
            if connection.asked.load(Ordering::Acquire) {
                return false;
            }
            let active = connection.active.load(Ordering::Relaxed);
            let least = if connection.used.load(Ordering::Relaxed) {
                MIN_IDLE
            } else {
                MIN_UNUSED
            };
            if now.since(Monotonic(active)) >= least && oldest.is_none_or(|(than, _)| active < than) {
                oldest = Some((active, connection));
            }
        }
        let Some((_, connection)) = oldest else {
            return false;
        };
        connection.asked.store(true, Ordering::Release);
        connection.task.wake();
        true
    }
}

impl Connection {
    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }
}

impl Place {
    /// Something is done for the connection until the answer is dropped.
    pub fn busy(&self) -> Busy {
        self.connection.used.store(true, Ordering::Relaxed);
        self.connection.busy.fetch_add(1, Ordering::AcqRel);
        Busy {
            clock: Arc::clone(&self.shared.clock),
            connection: Arc::clone(&self.connection),
        }
    }

    /// The connection did something at `now`.
    pub fn active(&self, now: Monotonic) {
        self.connection.active.fetch_max(now.0, Ordering::Relaxed);
    }

    /// True while nothing is done for the connection.
    pub fn is_idle(&self) -> bool {
        !self.connection.is_busy()
    }

    /// Ready when another connection needs this place and this one is still idle: close it. Wakes the task that polled
    /// last.
    pub fn asked_to_close(&self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.task.register(context.waker());
        if !self.connection.asked.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        if self.connection.is_busy() {
            // It went on before it heard: somebody else is asked.
            self.connection.asked.store(false, Ordering::Release);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = self.shared.open.lock().connections.remove(&self.id);
        debug_assert!(removed.is_some(), "a place is given back once");
        self.shared.room.wake();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection
            .active
            .store(self.clock.now().0, Ordering::Relaxed);
        let before = self.connection.busy.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before > 0, "busy is counted down once for each time up");
    }
}

#[cfg(test)]
mod tests;
