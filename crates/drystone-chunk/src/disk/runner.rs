//! The thread of one disk: it owns the store, takes requests and disk completions from one inbox, and hands disk
//! work to a few threads that may block.
//!
//! Never blocks but on its inbox, so a slow disk holds up its own requests alone. Requests are bounded and refused
//! beyond that (`busy`), each class of work by itself; completions are bounded by what the store has asked for. Classes
//! share the threads, see [`class_queue`](super::class_queue): repair and scrub take no more than their part of a busy
//! disk, of its queue of requests and of its memory. When the store thread ends, by
//! closing or by a programmer's error, everything queued is dropped and every waiting request learns it.

use crate::disk::class_queue::ClassQueue;
use crate::disk::load::Load;
use crate::locks;
use crate::memory::budget::{Budget, ReadBudget, ReadPermit};
use bytes::Bytes;
use drystone_env::sync::Mutex;
use drystone_env::{BufferPool, Clock, Env, IoCompletion, IoOp, IoRequest, Monotonic};
use drystone_store::{IoClass, RequestId, Store, StoreError, StoreInput, StoreOutput, StoreReply};
use drystone_types::{DiskRef, MAX_PAYLOAD_BYTES};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Requests of clients and of the leader that wait for one disk. Their payloads are bounded elsewhere; this bounds a
/// flood of small ones to some tens of milliseconds of work. Repair and scrub have a place in the queue that clients
/// cannot take from them, and the other way round.
const MOST_REQUESTS: [usize; 3] = [8192, 1024, 256];
/// What repair and scrub may each hold in memory, appends or answers to reads: a quarter of what clients may.
const BACKGROUND_SHARE: u64 = 4;
/// What a sync or the making of a file counts for in the queue of disk work: about as long as writing so many bytes.
const SYNC_COST: u64 = 256 << 10;
/// What any piece of disk work counts for at least: a small read keeps the device as busy as one of this size.
const LEAST_COST: u64 = 16 << 10;
/// Without a wake-up of the store the thread looks up this often, so that a clock that jumps delays it no longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long a closing disk waits for work under way: what is acknowledged is durable already.
pub(crate) const CLOSING: Duration = Duration::from_secs(10);

/// Makes the store's input for the request with this id.
pub(crate) type MakeInput = Box<dyn FnOnce(RequestId) -> StoreInput + Send>;

/// The answer to a request; dropped without one when the disk's thread has ended.
pub(crate) type Answer = oneshot::Receiver<Result<StoreReply, StoreError>>;

/// Why a request was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("too many requests wait for this disk")]
    Full,
    #[error("this disk is not served any more")]
    Closed,
}

/// What the heartbeat asks of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Usage(pub(crate) drystone_store::Status);

/// Who is told of a request's end, and what is given back then.
struct WaitingRequest {
    sender: oneshot::Sender<Result<StoreReply, StoreError>>,
    _permit: Option<ReadPermit>,
}

enum DiskMessage {
    Request(MakeInput, WaitingRequest),
    Usage(oneshot::Sender<Usage>),
}

#[derive(Default)]
struct DiskInbox {
    messages: VecDeque<DiskMessage>,
    /// Of these, by class.
    counts: [usize; 3],
    completions: VecDeque<IoCompletion>,
    closed: bool,
}

impl DiskInbox {
    /// Queues a message; true if the store's thread has to be woken.
    fn push(&mut self, class: IoClass, message: DiskMessage) -> Result<bool, NotTaken> {
        if self.closed {
            return Err(NotTaken::Closed);
        }
        if self.counts[class.number()] >= MOST_REQUESTS[class.number()] {
            return Err(NotTaken::Full);
        }
        let wake = self.messages.is_empty() && self.completions.is_empty();
        self.counts[class.number()] += 1;
        self.messages.push_back(message);
        Ok(wake)
    }

    /// Takes all messages, in the order in which they came.
    fn take(&mut self, messages: &mut VecDeque<DiskMessage>, completions: &mut VecDeque<IoCompletion>) {
        self.counts = [0; 3];
        std::mem::swap(&mut self.messages, messages);
        std::mem::swap(&mut self.completions, completions);
    }
}

#[derive(Default)]
struct WorkQueue {
    queue: ClassQueue<IoRequest>,
    closed: bool,
}

struct DiskShared {
    clock: Arc<dyn Clock>,
    pool: BufferPool,
    inbox: Mutex<DiskInbox>,
    inbox_changed: Notify,
    work: Mutex<WorkQueue>,
    work_changed: Notify,
    load: Load,
    /// Bytes of appends that the store still has in memory, by class.
    backlog: [Budget; 3],
}

/// Keeps others out of the directory of a disk. Each thread that works on the disk holds it, so that it ends with the last
/// of them, however long that hangs: whoever opened the directory earlier would meet writes that are under way.
pub(crate) struct DirectoryLock {
    // In this order: who learns that all have ended finds it unlocked.
    _lock: Option<Box<dyn Send + Sync>>,
    _ended: oneshot::Sender<()>,
}

/// A disk in service. Dropping it closes it.
pub(crate) struct DiskRunner {
    pub(crate) me: DiskRef,
    pub(crate) path: String,
    shared: Arc<DiskShared>,
    /// By class.
    reads: [ReadBudget; 3],
    lock: Weak<DirectoryLock>,
    /// Its sender is dropped when every thread of the disk has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl DiskRunner {
    /// Starts the threads of an opened store; they hold `lock`. `backlog` is how many bytes may wait to be written before those
    /// who send more wait too, `reads` how many the answers to reads may hold: of clients. Repair and scrub have a
    /// quarter of it each, beside it, and one whole answer at least.
    pub(crate) fn start(
        env: &Env,
        path: String,
        me: DiskRef,
        (store, lock): (Store, Option<Box<dyn Send + Sync>>),
        pool: BufferPool,
        (io_threads, backlog, reads): (usize, u64, u64),
    ) -> Self {
        let (sender, ended) = oneshot::channel();
        let lock = Arc::new(DirectoryLock {
            _lock: lock,
            _ended: sender,
        });
        let shared = Arc::new(DiskShared {
            clock: Arc::clone(&env.clock),
            pool,
            inbox: Mutex::new(locks::DISK_INBOX, DiskInbox::default()),
            inbox_changed: Notify::new(),
            work: Mutex::new(locks::DISK_WORK, WorkQueue::default()),
            work_changed: Notify::new(),
            load: Load::default(),
            backlog: limits(backlog).map(Budget::new),
        });
        for number in 0..io_threads {
            let (shared, lock) = (Arc::clone(&shared), Arc::clone(&lock));
            let body = async move {
                run_io(&shared).await;
                drop(lock);
            };
            env.spawn
                .thread(&format!("io-{}-{number}", me.disk), Box::pin(body));
        }
        let weak = Arc::downgrade(&lock);
        let core = StoreThread {
            shared: Arc::clone(&shared),
            store,
            waiting: BTreeMap::new(),
            next_request: 1,
            wake: None,
            under_way: 0,
        };
        let body = async move {
            let guard = CloseAtEnd(Arc::clone(&core.shared));
            core.run().await;
            drop(guard);
            drop(lock);
        };
        env.spawn.thread(&format!("disk-{}", me.disk), Box::pin(body));
        Self {
            me,
            path,
            shared,
            reads: limits(reads).map(ReadBudget::new),
            lock: weak,
            ended: Mutex::new(locks::DISK_END, Some(ended)),
        }
    }

    /// To be held by other work on the disk's files than the store's; none when its threads have ended.
    pub(crate) fn lock(&self) -> Option<Arc<DirectoryLock>> {
        self.lock.upgrade()
    }

    /// Queues a request, in the order of its class. Never blocks. `permit` is held until it is answered.
    ///
    /// # Errors
    /// [`NotTaken`]: nothing was done.
    pub(crate) fn submit(
        &self,
        class: IoClass,
        permit: Option<ReadPermit>,
        input: MakeInput,
    ) -> Result<Answer, NotTaken> {
        let (sender, receiver) = oneshot::channel();
        let waiting = WaitingRequest {
            sender,
            _permit: permit,
        };
        self.push(class, DiskMessage::Request(input, waiting))?;
        Ok(receiver)
    }

    /// Asks what the disk holds now, before this returns. The answer is dropped if the disk ends; it may come
    /// late, or never from a disk that hangs.
    pub(crate) fn usage(&self) -> Result<oneshot::Receiver<Usage>, NotTaken> {
        let (sender, receiver) = oneshot::channel();
        self.push(IoClass::Foreground, DiskMessage::Usage(sender))?;
        Ok(receiver)
    }

    fn push(&self, class: IoClass, message: DiskMessage) -> Result<(), NotTaken> {
        let wake = self.shared.inbox.lock().push(class, message)?;
        self.shared.load.queue.fetch_add(1, Relaxed);
        if wake {
            self.shared.inbox_changed.notify_one();
        }
        Ok(())
    }

    /// What it has done.
    pub(crate) fn load(&self) -> &Load {
        &self.shared.load
    }

    /// Bytes of appends of a class that are still in memory.
    pub(crate) fn backlog(&self, class: IoClass) -> &Budget {
        &self.shared.backlog[class.number()]
    }

    /// Room for the answers to reads of a class.
    pub(crate) fn reads(&self, class: IoClass) -> &ReadBudget {
        &self.reads[class.number()]
    }

    /// True once its thread has ended, wished or not.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.inbox.lock().closed
    }

    /// Takes no more requests, and completes when what was under way is done and the directory is unlocked. False if that did
    /// not come to pass within [`CLOSING`]: then the disk may still be written to, and it is unlocked after that.
    pub(crate) async fn close(&self) -> bool {
        close_inbox(&self.shared);
        let ended = self.ended.lock().take();
        let clock = &self.shared.clock;
        // The store's thread gives up first, and wakes to do so.
        let deadline = clock.now().plus(CLOSING + LONGEST_SLEEP);
        match ended {
            Some(ended) => clock.until(deadline, ended).await.is_some(),
            None => true,
        }
    }
}

impl Drop for DiskRunner {
    fn drop(&mut self) {
        close_inbox(&self.shared);
    }
}

fn close_inbox(shared: &DiskShared) {
    shared.inbox.lock().closed = true;
    shared.inbox_changed.notify_one();
}

/// Runs when the store's thread ends, also by a panic: nobody may wait for it then.
struct CloseAtEnd(Arc<DiskShared>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        let dropped = {
            let mut inbox = self.0.inbox.lock();
            inbox.closed = true;
            inbox.completions.clear();
            std::mem::take(&mut inbox.messages)
        };
        drop(dropped);
        self.0.work.lock().closed = true;
        // The one that wakes tells the next.
        self.0.work_changed.notify_one();
    }
}

/// What the store's thread owns.
struct StoreThread {
    shared: Arc<DiskShared>,
    store: Store,
    waiting: BTreeMap<RequestId, WaitingRequest>,
    next_request: u64,
    wake: Option<Monotonic>,
    /// Disk work that has not come back.
    under_way: usize,
}

impl StoreThread {
    /// Until the disk is closed, and all disk work is done or hangs.
    async fn run(mut self) {
        let (mut messages, mut completions, mut out) = (VecDeque::new(), VecDeque::new(), Vec::new());
        let mut give_up = None;
        loop {
            let closed = self.take_inbox(&mut messages, &mut completions).await;
            let now = self.shared.clock.now();
            for completion in completions.drain(..) {
                assert!(self.under_way > 0, "work comes back that was not handed out");
                self.under_way -= 1;
                self.store.on(now, StoreInput::Io(completion), &mut out);
            }
            for message in messages.drain(..) {
                self.shared.load.queue.fetch_sub(1, Relaxed);
                self.on_message(now, message, &mut out);
            }
            if self.wake.is_some_and(|at| at <= now) {
                self.wake = None;
                self.store.on(now, StoreInput::Tick, &mut out);
            }
            self.dispatch(&mut out);
            for class in IoClass::ALL {
                self.shared.backlog[class.number()].set(self.store.memory_bytes(class));
            }
            if closed {
                let until = *give_up.get_or_insert(now.plus(CLOSING));
                if self.under_way == 0 || now >= until {
                    return;
                }
            }
        }
    }

    /// Waits for something to do and takes all of it. True once closed.
    async fn take_inbox(
        &self,
        messages: &mut VecDeque<DiskMessage>,
        completions: &mut VecDeque<IoCompletion>,
    ) -> bool {
        loop {
            let now = self.shared.clock.now();
            let closed = {
                let mut inbox = self.shared.inbox.lock();
                let idle = inbox.messages.is_empty() && inbox.completions.is_empty();
                let due = self.wake.is_some_and(|at| at <= now);
                if !idle || due || (inbox.closed && self.under_way == 0) {
                    inbox.take(messages, completions);
                    return inbox.closed;
                }
                inbox.closed
            };
            let latest = now.plus(LONGEST_SLEEP);
            let until = self.wake.map_or(latest, |at| at.min(latest));
            let changed = self.shared.inbox_changed.notified();
            if self.shared.clock.until(until, changed).await.is_none() && closed {
                return true;
            }
        }
    }

    fn on_message(&mut self, now: Monotonic, message: DiskMessage, out: &mut Vec<StoreOutput>) {
        match message {
            DiskMessage::Request(make, waiting) => {
                // Nobody waits: an append must be done all the same, because the frames behind it build on it.
                let request = RequestId(self.next_request);
                self.next_request += 1;
                self.waiting.insert(request, waiting);
                self.store.on(now, make(request), out);
            }
            DiskMessage::Usage(sender) => {
                self.store.refresh_space();
                let _ = sender.send(Usage(self.store.status()));
            }
        }
    }

    fn dispatch(&mut self, out: &mut Vec<StoreOutput>) {
        let mut work = Vec::new();
        for output in out.drain(..) {
            match output {
                StoreOutput::Io { class, request } => work.push((class, request)),
                StoreOutput::StoreReply { request, result } => {
                    if let Some(waiting) = self.waiting.remove(&request) {
                        let _ = waiting.sender.send(result);
                    }
                }
                StoreOutput::Wake(at) => self.wake = Some(self.wake.map_or(at, |before| before.min(at))),
            }
        }
        if work.is_empty() {
            return;
        }
        self.under_way += work.len();
        self.shared.load.queue.fetch_add(work.len() as u32, Relaxed);
        let mut queued = self.shared.work.lock();
        for (class, request) in work {
            queued.queue.push(class, cost(&request), request);
        }
        drop(queued);
        // The one that wakes wakes the next if more is left.
        self.shared.work_changed.notify_one();
    }
}

/// The limit of each class where clients have `limit`.
fn limits(limit: u64) -> [u64; 3] {
    let background = (limit / BACKGROUND_SHARE).max(MAX_PAYLOAD_BYTES as u64);
    [limit, background, background]
}

/// What a piece of disk work counts for in the queue: the bytes that it moves, or how long it takes in bytes.
fn cost(request: &IoRequest) -> u64 {
    let bytes = match &request.op {
        IoOp::Write { .. } => write_bytes(request).unwrap_or(0),
        IoOp::Read { length, .. } => u64::from(*length),
        _ => SYNC_COST,
    };
    bytes.max(LEAST_COST)
}

fn write_bytes(request: &IoRequest) -> Option<u64> {
    match &request.op {
        IoOp::Write { parts, .. } => Some(parts.iter().map(Bytes::len).sum::<usize>() as u64),
        _ => None,
    }
}

/// A thread that does disk work, one piece at a time.
async fn run_io(shared: &DiskShared) {
    loop {
        let (request, more) = {
            let mut work = shared.work.lock();
            let request = work.queue.pop();
            (request, work.closed || !work.queue.is_empty())
        };
        if more {
            shared.work_changed.notify_one();
        }
        let Some(request) = request else {
            if more {
                return;
            }
            shared.work_changed.notified().await;
            continue;
        };
        let begun = shared.clock.now();
        let timed = matches!(request.op, IoOp::Write { .. } | IoOp::Sync { .. });
        match &request.op {
            IoOp::Write { .. } => {
                shared
                    .load
                    .written
                    .fetch_add(write_bytes(&request).unwrap_or(0), Relaxed);
            }
            IoOp::Read { length, .. } => {
                shared.load.read.fetch_add(u64::from(*length), Relaxed);
            }
            _ => {}
        }
        let completion = request.carry_out(&shared.pool).await;
        if timed {
            let now = shared.clock.now();
            shared.load.writes.record(now, now.since(begun));
        }
        shared.load.queue.fetch_sub(1, Relaxed);
        let mut inbox = shared.inbox.lock();
        let wake = inbox.messages.is_empty() && inbox.completions.is_empty();
        inbox.completions.push_back(completion);
        drop(inbox);
        if wake {
            shared.inbox_changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
