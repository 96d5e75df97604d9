//! What callers and the driver of one channel share: queues, calls under way, their deadlines. Synchronous.

use super::ChannelOptions;
use crate::decode::Frame;
use crate::encode::OutFrame;
use crate::error::{CallError, NotSent, Uncertain};
use crate::retry::Backoff;
use drystone_env::Monotonic;
use drystone_proto::Priority;
use drystone_types::{HistoryId, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::oneshot;

/// A connection on which nothing arrived for this long before a call's deadline passed, or before its caller left, is
/// taken for half open. One shorter wait says nothing about the connection; those that follow each other count together.
const SILENCE: Duration = Duration::from_secs(1);

/// How a call ended.
pub(super) type Outcome = Result<Frame, CallError>;

/// A call that has not been answered.
struct Call {
    deadline: Monotonic,
    priority: Priority,
    sent: Option<Sent>,
    answer: oneshot::Sender<Outcome>,
}

/// Where in the connection's byte stream a call begins, and what had been read when it was handed over.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    start: u64,
    read: u64,
    at: Monotonic,
}

/// A frame that waits. `deadline` is `None` for one-way messages.
struct Queued {
    frame: OutFrame,
    deadline: Option<Monotonic>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    /// Bytes written.
    pub(super) written: u64,
    /// Bytes read.
    pub(super) read: u64,
}

pub(super) struct State {
    /// By class, then id: ids grow, so the first is the oldest.
    queues: [BTreeMap<u64, Queued>; 3],
    queued_bytes: usize,
    one_way: (usize, usize),
    calls: BTreeMap<u64, Call>,
    /// Calls that have been handed to the connection.
    unanswered: usize,
    deadlines: BTreeSet<(Monotonic, u64)>,
    next_id: u64,
    waiting: BTreeMap<u64, (usize, Waker)>,
    /// A driver task is alive.
    pub(super) driven: bool,
    pub(super) closed: bool,
    pub(super) peer_node: Option<NodeId>,
    /// Until then calls are refused with this reason.
    pub(super) refused: Option<(Monotonic, NotSent)>,
    pub(super) backoff: Backoff,
    /// When the first of the calls was sent that expired or were left in a row, and the bytes read by then.
    quiet: Option<(u64, Monotonic)>,
    /// Of the calls that were left since the driver last looked: the one that says most.
    left: Option<Sent>,
}

fn class(priority: Priority) -> usize {
    match priority {
        Priority::Control => 0,
        Priority::Foreground => 1,
        Priority::Repair => 2,
    }
}

impl State {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self {
            queues: Default::default(),
            queued_bytes: 0,
            one_way: (0, 0),
            calls: BTreeMap::new(),
            unanswered: 0,
            deadlines: BTreeSet::new(),
            next_id: 1,
            waiting: BTreeMap::new(),
            driven: false,
            closed: false,
            peer_node: None,
            refused: None,
            backoff,
            quiet: None,
            left: None,
        }
    }

    /// Ids of calls, one-way messages and waiters.
    pub(super) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn queued_frames(&self) -> usize {
        self.queues.iter().map(BTreeMap::len).sum()
    }

    fn full(&self) -> NotSent {
        NotSent::QueueFull {
            frames: self.queued_frames(),
            bytes: self.queued_bytes,
        }
    }

    /// Why nothing is taken now.
    pub(super) fn obstacle(&self, now: Monotonic) -> Option<NotSent> {
        if self.closed {
            return Some(NotSent::Closed);
        }
        self.refused
            .as_ref()
            .filter(|(until, _)| !self.driven && now < *until)
            .map(|(_, reason)| reason.clone())
    }

    /// Queues a call and gives its id.
    pub(super) fn push_call(
        &mut self,
        now: Monotonic,
        mut frame: OutFrame,
        deadline: Monotonic,
        options: &ChannelOptions,
    ) -> Result<(u64, oneshot::Receiver<Outcome>), NotSent> {
        if deadline <= now {
            return Err(NotSent::Deadline);
        }
        if self.calls.len() >= options.calls || self.queued_bytes + frame.bytes() > options.queue_bytes {
            return Err(self.full());
        }
        let id = self.take_id();
        frame.header.request_id = id;
        let priority = frame.header.priority;
        let (answer, receiver) = oneshot::channel();
        self.queued_bytes += frame.bytes();
        self.queues[class(priority)].insert(
            id,
            Queued {
                frame,
                deadline: Some(deadline),
            },
        );
        self.calls.insert(
            id,
            Call {
                deadline,
                priority,
                sent: None,
                answer,
            },
        );
        self.deadlines.insert((deadline, id));
        Ok((id, receiver))
    }

    /// Queues a one-way message.
    pub(super) fn push_one_way(
        &mut self,
        mut frame: OutFrame,
        options: &ChannelOptions,
    ) -> Result<(), NotSent> {
        let (frames, bytes) = (self.one_way.0 + 1, self.one_way.1 + frame.bytes());
        if frames > options.one_way_frames || bytes > options.one_way_bytes {
            return Err(self.full());
        }
        self.one_way = (frames, bytes);
        self.queued_bytes += frame.bytes();
        let id = self.take_id();
        frame.header.request_id = id;
        self.queues[class(frame.header.priority)].insert(
            id,
            Queued {
                frame,
                deadline: None,
            },
        );
        Ok(())
    }

    fn dequeued(&mut self, queued: &Queued) {
        let bytes = queued.frame.bytes();
        self.queued_bytes -= bytes;
        if queued.deadline.is_none() {
            self.one_way = (self.one_way.0 - 1, self.one_way.1 - bytes);
        }
    }

    /// Takes frames for the connection, the highest class first, up to `bytes` and as long as fewer than `window`
    /// calls are unanswered. `start` is where in the byte stream the first will lie.
    pub(super) fn take_frames(
        &mut self,
        now: Monotonic,
        (mut bytes, window): (usize, usize),
        (mut start, read): (u64, u64),
        history: HistoryId,
        out: &mut Vec<OutFrame>,
    ) {
        for class in 0..self.queues.len() {
            while bytes > 0 {
                let Some(first) = self.queues[class].first_entry() else {
                    break;
                };
                if first.get().deadline.is_some() && self.unanswered >= window {
                    break;
                }
                let (id, mut queued) = first.remove_entry();
                self.dequeued(&queued);
                if let Some(deadline) = queued.deadline {
                    if deadline <= now {
                        self.end(id, CallError::NotSent(NotSent::Deadline));
                        continue;
                    }
                    let Some(call) = self.calls.get_mut(&id) else {
                        continue;
                    };
                    call.sent = Some(Sent { start, read, at: now });
                    self.unanswered += 1;
                    let left = deadline.since(now).as_micros().div_ceil(1_000);
                    queued.frame.header.deadline_ms = u32::try_from(left).unwrap_or(u32::MAX);
                }
                queued.frame.header.history = history;
                bytes = bytes.saturating_sub(queued.frame.bytes());
                start += queued.frame.bytes() as u64;
                out.push(queued.frame);
            }
        }
        self.wake_waiting();
    }

    /// Removes a call from everywhere.
    fn remove(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        self.deadlines.remove(&(call.deadline, id));
        if call.sent.is_some() {
            self.unanswered -= 1;
        } else if let Some(queued) = self.queues[class(call.priority)].remove(&id) {
            self.dequeued(&queued);
        }
        Some(call)
    }

    fn end(&mut self, id: u64, error: CallError) {
        if let Some(call) = self.remove(id) {
            // The caller may be gone.
            let _ = call.answer.send(Err(error));
        }
    }

    /// Nobody waits for this call any more. True if there was one.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        let Some(call) = self.remove(id) else {
            return false;
        };
        // A later mark of what had been read, or the same one for longer.
        let says_more = |sent: &Sent| {
            self.left
                .is_none_or(|left| (left.read, sent.at) < (sent.read, left.at))
        };
        self.left = call.sent.filter(says_more).or(self.left);
        self.wake_waiting();
        true
    }

    /// The one who waits for this answer, if somebody does.
    pub(super) fn answered(&mut self, id: u64) -> Option<oneshot::Sender<Outcome>> {
        // An answer to what was never sent is none.
        self.calls.get(&id).filter(|call| call.sent.is_some())?;
        self.remove(id).map(|call| call.answer)
    }

    /// Ends every call whose deadline has passed. True if the connection looks half open to them or to who left.
    pub(super) fn expire(&mut self, now: Monotonic, progress: Progress) -> bool {
        let left = self.left.take();
        let mut silent = left.is_some_and(|sent| self.heard_nothing(sent, now, progress));
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            let sent = self.calls.get(&id).and_then(|call| call.sent);
            let error = match sent {
                Some(sent) => {
                    silent |= self.heard_nothing(sent, now, progress);
                    CallError::Unknown(Uncertain::Deadline)
                }
                None => CallError::NotSent(NotSent::Deadline),
            };
            self.end(id, error);
        }
        silent
    }

    /// Nobody waits for a call any more: true if nothing has arrived for too long.
    fn heard_nothing(&mut self, sent: Sent, now: Monotonic, progress: Progress) -> bool {
        if sent.read != progress.read {
            return false;
        }
        let since = match self.quiet {
            Some((read, since)) if read == progress.read => since.min(sent.at),
            _ => sent.at,
        };
        self.quiet = Some((progress.read, since));
        now.since(since) >= SILENCE
    }

    /// A server has answered the hello of a new connection.
    pub(super) fn greeted(&mut self, node: NodeId) {
        self.peer_node = Some(node);
        self.backoff.reset();
        (self.quiet, self.left) = (None, None);
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// True if nothing waits and nothing is under way.
    pub(super) fn idle(&self) -> bool {
        self.calls.is_empty() && self.queues.iter().all(BTreeMap::is_empty)
    }

    /// The connection is gone: ends every call, and forgets one-way messages. What began beyond the bytes
    /// written was certainly not sent.
    pub(super) fn fail_all(&mut self, progress: Progress, address: &str, reason: &NotSent) {
        for queue in &mut self.queues {
            queue.clear();
        }
        (self.queued_bytes, self.one_way, self.unanswered) = (0, (0, 0), 0);
        self.deadlines.clear();
        for (_, call) in std::mem::take(&mut self.calls) {
            let error = match call.sent {
                Some(sent) if sent.start < progress.written => CallError::Unknown(Uncertain::Lost {
                    address: address.to_owned(),
                    reason: match reason {
                        NotSent::Unreachable { reason, .. } => reason.clone(),
                        other => other.to_string(),
                    },
                }),
                _ => CallError::NotSent(reason.clone()),
            };
            let _ = call.answer.send(Err(error));
        }
        self.wake_waiting();
    }

    /// True if less than `bytes` wait; otherwise the waiter `id` is woken when that is so.
    pub(super) fn wait(&mut self, id: u64, bytes: usize, waker: &Waker) -> bool {
        let ready = self.queued_bytes < bytes;
        if !ready {
            self.waiting.insert(id, (bytes, waker.clone()));
        }
        ready
    }

    pub(super) fn stop_waiting(&mut self, id: u64) {
        self.waiting.remove(&id);
    }

    fn wake_waiting(&mut self) {
        let queued = self.queued_bytes;
        self.waiting.retain(|_, (bytes, waker)| {
            let ready = queued < *bytes;
            if ready {
                waker.wake_by_ref();
            }
            !ready
        });
    }
}
