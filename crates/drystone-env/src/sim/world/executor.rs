//! The executor: tasks, timers, and which of them comes next.

use super::clock::{Sleep, Until};
use super::fabric::Fabric;
use super::host::{Host, HostId};
use crate::BoxFuture;
use crate::clock::Monotonic;
use crate::rng::{Rng, SeededRng};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// What a poll takes: time never stands still, so nothing can spin for ever at one moment.
const POLL_MICROS: u64 = 1;

thread_local! {
    static CURRENT: Cell<Option<(HostId, u64)>> = const { Cell::new(None) };
}

/// The host whose task this thread polls, and the world's time: what a log line is about.
pub fn current() -> Option<(HostId, Monotonic)> {
    CURRENT.get().map(|(host, now)| (host, Monotonic(now)))
}

/// A task that panicked: what a real process would have logged before it went on without it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Panicked {
    /// The host's name.
    pub host: String,
    /// The task's name.
    pub task: String,
    /// What it said.
    pub message: String,
}

/// A seeded world. Clones are the same world.
#[derive(Clone)]
pub struct World {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) ready: Arc<Ready>,
}

pub(super) struct State {
    /// Microseconds of true time.
    pub(super) now: u64,
    pub(super) rng: SeededRng,
    pub(super) hosts: Vec<Host>,
    pub(super) timers: BTreeMap<(u64, u64), Event>,
    pub(super) fabric: Fabric,
    sequence: u64,
    polls: u64,
    /// How often tasks looked at a clock since the last poll began.
    pub(super) looks: u32,
    digest: u64,
    panics: Vec<Panicked>,
}

/// What comes to pass at a moment.
pub(super) enum Event {
    Wake(Waker),
    /// Bytes, an end or a reset of this pipe may arrive.
    Pipe(u64),
}

/// A task and its waker in one.
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) host: HostId,
    name: String,
    queued: AtomicBool,
    pub(super) future: Mutex<Option<BoxFuture<()>>>,
    ready: Weak<Ready>,
}

/// Tasks that can go on, by id: the order in which they were woken may depend on chance outside (tokio's `watch` wakes
/// its receivers in any order), the set does not.
pub(super) type Ready = Mutex<BTreeMap<u64, Arc<Task>>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed)
            && let Some(ready) = self.ready.upgrade()
        {
            lock(&ready).insert(self.id, self);
        }
    }
}

impl State {
    /// Registers an event; the key takes it back.
    pub(super) fn at(&mut self, time: u64, event: Event) -> (u64, u64) {
        self.sequence += 1;
        let key = (time, self.sequence);
        self.timers.insert(key, event);
        key
    }

    /// Mixes a decision into the digest by which two runs are compared.
    pub(super) fn note(&mut self, what: u64) {
        self.digest = (self.digest ^ what ^ self.now.rotate_left(32))
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23);
    }
}

impl World {
    /// An empty world at time 0.
    pub fn new(seed: u64) -> Self {
        let state = State {
            now: 0,
            rng: SeededRng::new(seed).split("world"),
            hosts: Vec::new(),
            timers: BTreeMap::new(),
            fabric: Fabric::default(),
            sequence: 0,
            polls: 0,
            looks: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            panics: Vec::new(),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                ready: Arc::default(),
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// The true time; hosts have clocks of their own.
    pub fn now(&self) -> Monotonic {
        Monotonic(self.state().now)
    }

    /// Polls so far.
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    /// A number that two runs share only if everything happened in the same order at the same times.
    pub fn digest(&self) -> u64 {
        self.state().digest
    }

    /// Takes the panics since the last call.
    pub fn take_panics(&self) -> Vec<Panicked> {
        std::mem::take(&mut self.state().panics)
    }

    /// Starts a task of the process on `host`; dropped if that is another one by now.
    pub(super) fn start(&self, host: HostId, process: u64, name: &str, future: BoxFuture<()>) {
        let mut state = self.state();
        state.sequence += 1;
        let id = state.sequence;
        let entry = &mut state.hosts[usize::from(host.0)];
        if !entry.alive || entry.process != process {
            drop(state);
            drop(future);
            return;
        }
        let task = Arc::new(Task {
            id,
            host,
            name: name.to_owned(),
            queued: AtomicBool::new(false),
            future: Mutex::new(Some(future)),
            ready: Arc::downgrade(&self.shared.ready),
        });
        entry.tasks.insert(id, Arc::clone(&task));
        drop(state);
        task.wake();
    }

    /// Runs for `duration` of the world's time.
    pub fn run_for(&self, duration: Duration) {
        let end = self.state().now + duration.as_micros() as u64;
        while self.step(end) {}
    }

    /// Runs until `done` holds, looking after every step, for `limit` at most. True if it held.
    pub fn run_until(&self, limit: Duration, mut done: impl FnMut() -> bool) -> bool {
        let end = self.state().now + limit.as_micros() as u64;
        loop {
            if done() {
                return true;
            }
            if !self.step(end) {
                return false;
            }
        }
    }

    /// Completes after `duration` of the world's time, whatever the hosts' clocks do.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let at = self.state().now + duration.as_micros() as u64;
        Box::pin(Sleep {
            world: self.clone(),
            until: Until::World(at),
            key: None,
        })
    }

    /// One poll, or the next events. False once the time is `end` and nothing is left to do before it.
    fn step(&self, end: u64) -> bool {
        self.fire_due();
        if let Some(task) = self.choose() {
            self.poll(&task);
            return true;
        }
        let mut state = self.state();
        let next = state.timers.keys().next().map(|key| key.0);
        match next {
            Some(time) if time <= end => {
                state.now = state.now.max(time);
                true
            }
            _ => {
                state.now = state.now.max(end);
                false
            }
        }
    }

    fn fire_due(&self) {
        let mut state = self.state();
        while let Some(entry) = state.timers.first_entry() {
            if entry.key().0 > state.now {
                return;
            }
            let (key, event) = state.timers.pop_first().expect("it was there just now");
            state.note(key.1);
            match event {
                Event::Wake(waker) => {
                    drop(state);
                    waker.wake();
                    state = self.state();
                }
                Event::Pipe(pipe) => {
                    let wakers = super::fabric::arrive(&mut state, pipe);
                    drop(state);
                    wakers.into_iter().for_each(Waker::wake);
                    state = self.state();
                }
            }
        }
    }

    /// A random one of the ready tasks whose host is not paused.
    fn choose(&self) -> Option<Arc<Task>> {
        let mut state = self.state();
        let mut ready = lock(&self.shared.ready);
        while !ready.is_empty() {
            let at = state.rng.below(ready.len() as u64) as usize;
            let id = *ready.keys().nth(at).expect("it is below their number");
            let task = ready.remove(&id).expect("it was there just now");
            let host = &mut state.hosts[usize::from(task.host.0)];
            if host.paused {
                host.parked.push(task);
            } else {
                return Some(task);
            }
        }
        None
    }

    fn poll(&self, task: &Arc<Task>) {
        let Some(mut future) = lock(&task.future).take() else {
            return;
        };
        {
            let mut state = self.state();
            state.now += POLL_MICROS;
            state.polls += 1;
            state.looks = 0;
            state.note(task.id);
            CURRENT.set(Some((task.host, state.now)));
        }
        task.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(task));
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        CURRENT.set(None);
        let ended = match polled {
            Ok(Poll::Pending) => false,
            Ok(Poll::Ready(())) => true,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned()));
                let mut state = self.state();
                let host = state.hosts[usize::from(task.host.0)].name.clone();
                state.panics.push(Panicked {
                    host,
                    task: task.name.clone(),
                    message: said.unwrap_or_default(),
                });
                true
            }
        };
        if ended {
            let removed = self.state().hosts[usize::from(task.host.0)]
                .tasks
                .remove(&task.id);
            drop(removed);
            drop(future);
            return;
        }
        // Killed by its own poll: the future must not come back.
        let alive = self.state().hosts[usize::from(task.host.0)]
            .tasks
            .contains_key(&task.id);
        if alive {
            *lock(&task.future) = Some(future);
        }
    }
}
