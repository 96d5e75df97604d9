//! The task behind a channel: makes one connection, greets, writes what is queued, hands out answers, ends.
//!
//! A driver lives as long as its connection. The next call after its end starts another one.

use super::shared::Shared;
use super::state::Progress;
use crate::decode::{Frame, FrameLimits};
use crate::encode::OutFrame;
use crate::error::NotSent;
use crate::message::encode;
use crate::wire::{Wire, WireError};
use bytes::Bytes;
use drystone_env::{BoxFuture, BoxStream, Monotonic};
use drystone_proto::cluster::{ErrorReply, Hello, HelloReply};
use drystone_proto::{FrameHeader, Kind, Message, Priority};
use drystone_types::{HistoryId, NodeId};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Frames are handed to the connection up to this many bytes at a time: enough for one write, little enough that
/// a control frame never waits behind more.
const OUTBOX_BYTES: usize = 2 << 20;
/// Rounds of one wake-up before other tasks get their turn.
const ROUNDS: usize = 16;

pub(super) fn start(shared: Arc<Shared>) {
    let spawn = Arc::clone(&shared.common.env.spawn);
    let mut driver = Driver {
        ending: NotSent::Closed,
        progress: Progress::default(),
        greeted: false,
        released: false,
        alarm: None,
        shared,
    };
    spawn.spawn(
        "rpc channel",
        Box::pin(async move {
            driver.ending = driver.run().await;
            drop(driver);
        }),
    );
}

/// Ends every call when it is dropped, so that nobody waits for a task that was torn down.
struct Driver {
    shared: Arc<Shared>,
    ending: NotSent,
    progress: Progress,
    greeted: bool,
    /// The channel was left idle and may have another driver already.
    released: bool,
    alarm: Option<(Monotonic, BoxFuture<()>)>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let now = self.shared.common.env.clock.now();
        let mut state = self.shared.lock();
        state.driven = false;
        if self.greeted {
            state.refused = None;
        } else {
            let delay = state.backoff.next_delay();
            state.refused = Some((now.plus(delay), self.ending.clone()));
        }
        state.fail_all(self.progress, &self.shared.address, &self.ending);
    }
}

/// A connection and what was agreed on it.
struct Link {
    wire: Wire,
    history: Option<HistoryId>,
    window: usize,
    frames: Vec<Frame>,
    out: Vec<OutFrame>,
    idle_since: Monotonic,
}

impl Driver {
    fn unreachable(&self, reason: impl ToString) -> NotSent {
        NotSent::Unreachable {
            address: self.shared.address.clone(),
            reason: reason.to_string(),
        }
    }

    fn now(&self) -> Monotonic {
        self.shared.common.env.clock.now()
    }

    async fn run(&mut self) -> NotSent {
        let give_up = self.now().plus(self.shared.common.options.connect_timeout);
        let stream = match self.connect(give_up).await {
            Ok(stream) => stream,
            Err(error) => return self.unreachable(error),
        };
        let pool = self.shared.common.options.pool.clone();
        let mut link = Link {
            wire: Wire::new(stream, pool, FrameLimits::WIRE),
            history: None,
            window: 0,
            frames: Vec::new(),
            out: Vec::new(),
            idle_since: self.now(),
        };
        link.wire.outbox.push(self.hello());
        poll_fn(|context| {
            let ended = self.poll(context, &mut link, give_up);
            self.progress = Progress {
                written: link.wire.written,
                read: link.wire.read,
            };
            ended
        })
        .await
    }

    /// Runs the alarm: true when `at` has come. Only ever armed for the earliest time asked for.
    fn poll_alarm(&mut self, context: &mut Context<'_>, at: Monotonic) -> bool {
        loop {
            if self.now() >= at {
                return true;
            }
            match &mut self.alarm {
                Some((armed, alarm)) if *armed <= at => {
                    if alarm.as_mut().poll(context).is_pending() {
                        return false;
                    }
                    self.alarm = None;
                }
                _ => self.alarm = Some((at, self.shared.common.env.clock.sleep_until(at))),
            }
        }
    }

    async fn connect(&mut self, give_up: Monotonic) -> io::Result<BoxStream> {
        let shared = Arc::clone(&self.shared);
        let mut connecting = shared.common.env.net.connect(&shared.address);
        poll_fn(|context| {
            shared.driver.register(context.waker());
            if let Poll::Ready(stream) = connecting.as_mut().poll(context) {
                return Poll::Ready(stream);
            }
            loop {
                let now = self.now();
                let next = {
                    let mut state = shared.lock();
                    state.expire(now, Progress::default());
                    if state.closed {
                        return Poll::Ready(Err(io::Error::other("closed")));
                    }
                    state.next_deadline()
                };
                if now >= give_up {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                if !self.poll_alarm(context, next.map_or(give_up, |next| next.min(give_up))) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn hello(&self) -> OutFrame {
        let (common, options) = (&self.shared.common, &self.shared.common.options);
        let bytes = |id: Option<[u8; 16]>| id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id));
        let hello = Hello {
            cluster: bytes(common.cluster().map(|id| id.0)),
            history: bytes(common.history().map(|id| id.0)),
            node: options.node.0,
            incarnation: options.incarnation.0,
            to_node: self.shared.node.0,
            software: options.software.clone(),
            roles: options.roles,
        };
        let header = FrameHeader {
            kind: Kind::Hello,
            reply: false,
            one_way: false,
            error: false,
            priority: Priority::Control,
            deadline_ms: options.connect_timeout.as_millis() as u32,
            request_id: 0,
            history: HistoryId::default(),
            client: options.client,
            body_len: 0,
            payload_len: 0,
            body_crc: 0,
        };
        OutFrame::new(header, encode(&hello), Bytes::new(), Vec::new())
    }

    /// Serves the connection until it ends, and says why it did.
    fn poll(&mut self, context: &mut Context<'_>, link: &mut Link, give_up: Monotonic) -> Poll<NotSent> {
        let shared = Arc::clone(&self.shared);
        shared.driver.register(context.waker());
        for _ in 0..ROUNDS {
            match self.round(context, link) {
                Ok(true) => {}
                Ok(false) => return self.poll_timers(context, link, give_up),
                Err(ending) => return Poll::Ready(ending),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// True if anything was done, so that it is worth while to look again.
    fn round(&mut self, context: &mut Context<'_>, link: &mut Link) -> Result<bool, NotSent> {
        let mut progress = false;
        if let Some(history) = link.history {
            let waiting = link.wire.outbox.bytes();
            if waiting < OUTBOX_BYTES {
                let place = (link.wire.written + waiting as u64, link.wire.read);
                let room = (OUTBOX_BYTES - waiting, link.window);
                self.shared
                    .lock()
                    .take_frames(self.now(), room, place, history, &mut link.out);
                progress |= !link.out.is_empty();
                link.out.drain(..).for_each(|frame| link.wire.outbox.push(frame));
            }
        }
        let full = link.wire.outbox.bytes() >= OUTBOX_BYTES;
        if let Poll::Ready(written) = link.wire.poll_write(context) {
            written.map_err(|error| self.unreachable(error))?;
            progress |= full;
        }
        if let Poll::Ready(read) = link.wire.poll_read(context, &mut link.frames) {
            // Answers that came whole before the end are answers.
            self.on_frames(link)
                .and_then(|()| read.map(|_| ()).map_err(|error| self.unreachable(error)))?;
            progress = true;
        }
        Ok(progress)
    }

    fn on_frames(&mut self, link: &mut Link) -> Result<(), NotSent> {
        let mut frames = std::mem::take(&mut link.frames);
        let mut coming = frames.drain(..);
        if link.history.is_none() {
            let Some(first) = coming.next() else {
                drop(coming);
                link.frames = frames;
                return Ok(());
            };
            self.on_hello(link, first)?;
        }
        let mut answers = Vec::with_capacity(coming.len());
        {
            let mut state = self.shared.lock();
            for frame in coming {
                if !frame.header.reply || Some(frame.header.history) != link.history {
                    let fault = WireError::Protocol("not an answer, or one of another history");
                    return Err(self.unreachable(fault));
                }
                // Nobody may wait for it any more.
                if let Some(answer) = state.answered(frame.header.request_id) {
                    answers.push((answer, frame));
                }
            }
        }
        for (answer, frame) in answers {
            let _ = answer.send(Ok(frame));
        }
        link.frames = frames;
        Ok(())
    }

    fn on_hello(&mut self, link: &mut Link, frame: Frame) -> Result<(), NotSent> {
        let header = &frame.header;
        if !header.reply || header.kind != Kind::Hello {
            return Err(self.unreachable("the first answer is not one to hello"));
        }
        if header.error {
            let refusal = ErrorReply::decode(frame.body).map_err(|error| self.unreachable(error))?;
            return Err(NotSent::Hello(refusal));
        }
        let reply = HelloReply::decode(frame.body).map_err(|error| self.unreachable(error))?;
        let history = self.shared.common.learn(&reply).map_err(NotSent::Hello)?;
        if self.shared.node.0 != 0 && reply.node != self.shared.node.0 {
            let message = format!(
                "node {} answers where node {} was expected",
                reply.node, self.shared.node
            );
            return Err(NotSent::Hello(crate::error::refusal(
                drystone_types::Code::Stranger,
                message,
            )));
        }
        link.history = Some(history);
        link.window = (reply.window as usize).max(1);
        self.greeted = true;
        self.shared.lock().greeted(NodeId(reply.node));
        Ok(())
    }

    fn poll_timers(
        &mut self,
        context: &mut Context<'_>,
        link: &mut Link,
        give_up: Monotonic,
    ) -> Poll<NotSent> {
        loop {
            let now = self.now();
            let mut at = link.idle_since.plus(self.shared.common.options.idle_timeout);
            let next = {
                let mut state = self.shared.lock();
                if state.closed {
                    return Poll::Ready(NotSent::Closed);
                }
                let progress = Progress {
                    written: link.wire.written,
                    read: link.wire.read,
                };
                if state.expire(now, progress) {
                    drop(state);
                    return Poll::Ready(self.unreachable("the peer is silent"));
                }
                if !state.idle() {
                    link.idle_since = now;
                } else if now >= at {
                    // Under the lock: a call that comes now starts another driver.
                    state.driven = false;
                    self.released = true;
                    return Poll::Ready(self.unreachable("idle"));
                }
                at = at.max(now.plus(Duration::from_millis(1)));
                state.next_deadline()
            };
            if link.history.is_none() {
                if now >= give_up {
                    return Poll::Ready(self.unreachable("no answer to hello"));
                }
                at = at.min(give_up);
            }
            if !self.poll_alarm(context, next.map_or(at, |next| next.min(at))) {
                return Poll::Pending;
            }
        }
    }
}
