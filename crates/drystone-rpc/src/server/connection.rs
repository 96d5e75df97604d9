//! One connection of a server: reads, hands requests to the service, runs their futures, writes the answers.
//!
//! All of it is one task: a wake-up handles whatever came, and writes whatever is ready in one batch.

use super::admission::Admission;
use super::running::Running;
use super::shared::Server;
use crate::decode::{Frame, FrameLimits};
use crate::encode::OutFrame;
use crate::message::{Peer, Reply, Request};
use crate::wire::{Wire, WireError};
use bytes::Bytes;
use drystone_env::connections::{Busy, Place};
use drystone_env::{BoxFuture, BoxStream, Monotonic};
use drystone_proto::cluster::Hello;
use drystone_proto::frame::MAX_BODY_BYTES;
use drystone_proto::{FrameHeader, Kind, Message};
use drystone_types::{Code, HistoryId, MAX_PAYLOAD_BYTES};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Rounds of one wake-up before other tasks get their turn.
const ROUNDS: usize = 16;
/// How often deadlines, stalls and idleness are looked at: all of them are about seconds.
const SWEEP: Duration = Duration::from_secs(1);
/// A refused peer has this long to read why before the connection is cut.
const LINGER: Duration = Duration::from_secs(1);

enum Phase {
    /// Nothing but a hello is accepted, until then.
    Greeting { until: Monotonic },
    /// Requests of this peer are served.
    Serving { peer: Arc<Peer> },
    /// The last answer is written, then the stream is closed.
    Refusing { until: Option<Monotonic> },
}

pub(super) struct Connection {
    server: Arc<Server>,
    admission: Arc<Admission>,
    address: SocketAddr,
    wire: Wire,
    phase: Phase,
    history: HistoryId,
    running: FuturesUnordered<Running>,
    /// What the last read brought and was not begun yet, and when that was.
    frames: VecDeque<Frame>,
    arrived: Monotonic,
    /// Why nothing more will come.
    ended: Option<WireError>,
    sweep: BoxFuture<()>,
    /// The service wants nothing more from this peer until then.
    held_back: Option<BoxFuture<()>>,
    /// While there is something to do for this peer.
    busy: Option<Busy>,
    /// Bytes written and read when they last changed, and when that was.
    last_written: (u64, Monotonic),
    last_read: (u64, Monotonic),
}

impl Connection {
    pub(super) fn new(server: Arc<Server>, stream: BoxStream, address: SocketAddr) -> Self {
        let (clock, options) = (&server.env.clock, &server.options);
        let now = clock.now();
        let sweep = clock.sleep(SWEEP.min(options.hello_timeout));
        Self {
            admission: Arc::clone(&server.admission),
            address,
            wire: Wire::new(stream, options.pool.clone(), FrameLimits::HELLO),
            phase: Phase::Greeting {
                until: now.plus(options.hello_timeout),
            },
            history: HistoryId::default(),
            running: FuturesUnordered::new(),
            frames: VecDeque::new(),
            arrived: now,
            ended: None,
            sweep,
            held_back: None,
            busy: None,
            last_written: (0, now),
            last_read: (0, now),
            server,
        }
    }

    /// Serves until the connection ends, and says why it did. `place` hears when it is busy.
    pub(super) fn poll(&mut self, place: &Place, context: &mut Context<'_>) -> Poll<WireError> {
        let outcome = self.poll_rounds(context);
        let works = !self.running.is_empty() || !self.frames.is_empty() || !self.wire.outbox.is_empty();
        if works != self.busy.is_some() {
            self.busy = works.then(|| place.busy());
        }
        place.active(self.arrived);
        outcome
    }

    fn poll_rounds(&mut self, context: &mut Context<'_>) -> Poll<WireError> {
        if let Err(error) = self.poll_sweep(context) {
            return Poll::Ready(error);
        }
        for _ in 0..ROUNDS {
            match self.round(context) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(error) => return Poll::Ready(error),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// True if anything was done, so that it is worth while to look again.
    fn round(&mut self, context: &mut Context<'_>) -> Result<bool, WireError> {
        let mut progress = false;
        let queue_bytes = self.server.options.queue_bytes;
        while self.wire.outbox.bytes() < queue_bytes {
            let Poll::Ready(Some((header, reply))) = self.running.poll_next_unpin(context) else {
                break;
            };
            self.answer(header, reply);
            progress = true;
        }
        let full = self.wire.outbox.bytes() >= queue_bytes;
        if self.frames.is_empty()
            && self.has_room()
            && !self.is_held_back(context)
            && let Poll::Ready(read) = self.wire.poll_read(context, &mut self.frames)
        {
            self.arrived = self.server.env.clock.now();
            self.ended = read.err();
            progress = true;
        }
        // One by one: a read may bring a thousand requests, each with a large answer.
        while self.has_room()
            && let Some(frame) = self.frames.pop_front()
        {
            self.on_frame(frame, context)?;
            progress = true;
        }
        // What came whole before the fault was served as far as there was room: it may be what the peer waits for.
        if let Some(ended) = self.ended.take() {
            return Err(ended);
        }
        if self.wire.poll_write(context)?.is_ready() {
            progress |= full;
            if let Phase::Refusing { until } = &mut self.phase {
                until.get_or_insert(self.server.env.clock.now().plus(LINGER));
                return self.linger(context);
            }
        }
        Ok(progress)
    }

    /// True if another request of this peer may be begun.
    fn has_room(&self) -> bool {
        let options = &self.server.options;
        self.wire.outbox.bytes() < options.queue_bytes
            && self.running.len() < options.window as usize
            && !matches!(self.phase, Phase::Refusing { .. })
    }

    /// True while the service wants this peer to wait. A peer with nothing under way is always read.
    fn is_held_back(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            if self.running.is_empty() {
                self.held_back = None;
                return false;
            }
            if let Some(held_back) = &mut self.held_back {
                if held_back.as_mut().poll(context).is_pending() {
                    return true;
                }
                self.held_back = None;
            }
            let Phase::Serving { peer } = &self.phase else {
                return false;
            };
            self.held_back = self.server.service.hold_back(peer);
            if self.held_back.is_none() {
                return false;
            }
        }
    }

    /// The peer has been told; it is given time to read it, because closing with unread bytes would reset the
    /// connection and could destroy the answer.
    fn linger(&mut self, context: &mut Context<'_>) -> Result<bool, WireError> {
        let _ = self.wire.poll_close(context);
        match self.wire.poll_discard(context) {
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(_)) => Err(WireError::Protocol("refused")),
            Poll::Pending => Ok(false),
        }
    }

    fn on_frame(&mut self, frame: Frame, context: &mut Context<'_>) -> Result<(), WireError> {
        match &self.phase {
            Phase::Greeting { .. } => self.on_hello(frame),
            Phase::Serving { peer } => {
                let peer = Arc::clone(peer);
                self.on_request(frame, peer, context)
            }
            Phase::Refusing { .. } => Ok(()),
        }
    }

    fn on_hello(&mut self, frame: Frame) -> Result<(), WireError> {
        if frame.header.kind != Kind::Hello || frame.header.reply || frame.header.one_way {
            return Err(WireError::Protocol("the first frame is not a hello"));
        }
        let hello = Hello::decode(frame.body).map_err(|_| WireError::Protocol("malformed hello"))?;
        match self.server.service.hello(&hello) {
            Ok(mut reply) => {
                self.history = HistoryId::from_slice(&reply.history).unwrap_or_default();
                reply.window = self.server.options.window;
                self.answer(frame.header, Some(Reply::ok(&reply)));
                self.wire.set_limits(FrameLimits::WIRE);
                self.phase = Phase::Serving {
                    peer: Arc::new(Peer {
                        hello,
                        address: self.address,
                    }),
                };
            }
            Err(error) => {
                tracing::info!(peer = %self.address, reason = error.message, "connection refused");
                self.refuse(frame.header, Reply::error(error));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, header: FrameHeader, reply: Reply) {
        self.answer(header, Some(reply));
        self.phase = Phase::Refusing { until: None };
    }

    fn on_request(
        &mut self,
        frame: Frame,
        peer: Arc<Peer>,
        context: &mut Context<'_>,
    ) -> Result<(), WireError> {
        let Frame {
            header,
            body,
            payload,
            checksums,
        } = frame;
        if header.reply || header.kind == Kind::Hello {
            return Err(WireError::Protocol("a reply or a second hello from a client"));
        }
        if header.history != self.history {
            let message = format!(
                "this node lives in history {}, the frame in {}",
                self.history, header.history
            );
            self.refuse(header, Reply::refuse(Code::Stranger, message));
            return Ok(());
        }
        if !header.kind.may_be_sent_by(peer.hello.sender_classes()) {
            tracing::info!(peer = %self.address, kind = ?header.kind, "a message of a kind that the peer may not send");
            if !header.one_way {
                let message = format!("this peer may not send {:?}", header.kind);
                self.answer(header, Some(Reply::refuse(Code::Denied, message)));
            }
            return Ok(());
        }
        let deadline = self.deadline(&header);
        if deadline <= self.server.env.clock.now() {
            return Ok(());
        }
        let permit = match self
            .admission
            .admit(header.priority, (body.len() + payload.len()) as u64)
        {
            Ok(permit) => permit,
            Err(busy) => {
                self.answer(header, Some(Reply::error(busy)));
                return Ok(());
            }
        };
        let request = Request {
            kind: header.kind,
            one_way: header.one_way,
            client: header.client,
            priority: header.priority,
            deadline,
            peer,
            body,
            payload,
            checksums,
        };
        let future = self.server.service.handle(request);
        let mut running = Running::new(future, header, deadline, permit);
        // Many are ready at once and need no place among the others.
        match Pin::new(&mut running).poll(context) {
            Poll::Ready((header, reply)) => self.answer(header, reply),
            Poll::Pending => self.running.push(running),
        }
        Ok(())
    }

    /// When the sender of a request that came with the last read stops waiting.
    fn deadline(&self, header: &FrameHeader) -> Monotonic {
        let longest = self.server.options.max_deadline;
        let asked = match Duration::from_millis(header.deadline_ms.into()) {
            Duration::ZERO => longest,
            asked => asked.min(longest),
        };
        self.arrived.plus(asked)
    }

    fn answer(&mut self, request: FrameHeader, reply: Option<Reply>) {
        let Some(reply) = reply.filter(|_| !request.one_way) else {
            return;
        };
        let reply = if reply.body.len() > MAX_BODY_BYTES || reply.payload.len() > MAX_PAYLOAD_BYTES {
            Reply::refuse(Code::TooLarge, "the answer exceeds what a frame may carry")
        } else {
            reply
        };
        let header = FrameHeader {
            reply: true,
            error: reply.error,
            deadline_ms: 0,
            history: self.history,
            body_len: 0,
            payload_len: 0,
            body_crc: 0,
            ..request
        };
        let payload: Bytes = reply.payload;
        self.wire
            .outbox
            .push(OutFrame::new(header, reply.body, payload, reply.checksums));
    }

    /// Once a second: whatever has been waited for too long.
    fn poll_sweep(&mut self, context: &mut Context<'_>) -> Result<(), WireError> {
        while self.sweep.as_mut().poll(context).is_ready() {
            let (clock, options) = (&self.server.env.clock, &self.server.options);
            let now = clock.now();
            if self.last_written.0 != self.wire.written || self.wire.outbox.is_empty() {
                self.last_written = (self.wire.written, now);
            }
            if self.last_read.0 != self.wire.read || !self.running.is_empty() {
                self.last_read = (self.wire.read, now);
            }
            match &self.phase {
                Phase::Greeting { until } if now >= *until => {
                    return Err(WireError::Protocol("no hello in time"));
                }
                Phase::Refusing { until: Some(until) } if now >= *until => {
                    return Err(WireError::Protocol("refused"));
                }
                _ => {}
            }
            if now.since(self.last_written.1) >= options.write_stall {
                return Err(WireError::Protocol("the peer does not read its answers"));
            }
            if now.since(self.last_read.1) >= options.idle_timeout && self.wire.outbox.is_empty() {
                return Err(WireError::Protocol("idle"));
            }
            self.running
                .iter_mut()
                .filter(|running| running.deadline <= now)
                .for_each(Running::expire);
            self.sweep = clock.sleep(SWEEP.min(options.hello_timeout).min(options.write_stall));
        }
        Ok(())
    }
}
