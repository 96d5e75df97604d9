//! Links and connections between hosts, with what TCP promises and no more.
//!
//! A connection's bytes arrive in order or not at all. A cut link loses nothing: what was sent waits, as TCP sends
//! it again, and arrives when the link heals, however late; nobody is told. A connection whose other process died is
//! reset once something reaches its host; a host without power says nothing.

use super::clock::{Sleep, Until};
use super::executor::{Event, State, World};
use super::host::HostId;
use super::pipe::{Pipe, Segment, WINDOW};
use crate::BoxFuture;
use crate::net::{BoxStream, Listener, Net};
use crate::rng::Rng;
use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Attempts to connect to a host that does not answer, each twice as long: a minute, as Linux' default nearly does.
const CONNECT_ATTEMPTS: u32 = 6;
const FIRST_ATTEMPT: u64 = 1_000_000;
/// What was lost is sent again after this long.
const RETRANSMIT: u64 = 200_000;

/// One direction between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// False: nothing passes.
    pub open: bool,
    /// Shortest and longest time that a segment travels, in microseconds.
    pub delay: (u64, u64),
    /// Bytes per second.
    pub rate: u64,
    /// Of a thousand segments so many are lost and sent again.
    pub loss: u64,
}

impl Default for Link {
    /// A local network: 50 to 300 us, 1 GB/s, nothing lost.
    fn default() -> Self {
        Self {
            open: true,
            delay: (50, 300),
            rate: 1_000_000_000,
            loss: 0,
        }
    }
}

/// What the network has done, to prove that a fault hit something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetStats {
    /// Connections made.
    pub connections: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Times that bytes under way met a cut link or a host without power.
    pub stalls: u64,
    /// Segments lost and sent again.
    pub losses: u64,
    /// Resets that arrived.
    pub resets: u64,
    /// Attempts to connect that got no answer.
    pub unanswered: u64,
}

#[derive(Default)]
pub(super) struct Fabric {
    links: BTreeMap<(HostId, HostId), Link>,
    pipes: BTreeMap<u64, Pipe>,
    listeners: BTreeMap<(HostId, u16), Listening>,
    next_pipe: u64,
    next_port: u16,
    stats: NetStats,
}

struct Listening {
    process: u64,
    /// Numbers of the pipes towards the listener, and where they come from.
    queue: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

impl Fabric {
    fn link(&self, from: HostId, to: HostId) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Both ends are gone: nobody can see what is left.
    fn forget(&mut self, pipe: u64) {
        let gone = |pipe: &Pipe| pipe.writer_gone && pipe.reader_gone;
        if self.pipes.get(&pipe).is_none_or(gone) && self.pipes.get(&(pipe ^ 1)).is_none_or(gone) {
            self.pipes.remove(&pipe);
            self.pipes.remove(&(pipe ^ 1));
        }
    }
}

/// Puts a segment on its way.
fn send(state: &mut State, number: u64, segment: Segment) {
    let Some(pipe) = state.fabric.pipes.get(&number) else {
        return;
    };
    let link = state.fabric.link(pipe.from, pipe.to);
    let bytes = match &segment {
        Segment::Data(data) => data.len() as u64,
        Segment::Fin | Segment::Reset => 0,
    };
    let (low, high) = link.delay;
    let mut delay =
        low + state.rng.below(high.saturating_sub(low) + 1) + bytes * 1_000_000 / link.rate.max(1);
    if link.loss > 0 && state.rng.chance(link.loss, 1000) {
        delay += RETRANSMIT;
        state.fabric.stats.losses += 1;
    }
    let now = state.now;
    let pipe = state
        .fabric
        .pipes
        .get_mut(&number)
        .expect("it was there just now");
    let arrival = pipe.last_arrival.max(now + delay);
    pipe.last_arrival = arrival;
    pipe.flight.push_back((arrival, segment));
    if !pipe.stalled {
        state.at(arrival, Event::Pipe(number));
    }
}

/// What was to arrive on a pipe by now arrives. Returns whom to wake.
pub(super) fn arrive(state: &mut State, number: u64) -> Vec<Waker> {
    let mut wakers = Vec::new();
    let now = state.now;
    let Some(pipe) = state.fabric.pipes.get(&number) else {
        return wakers;
    };
    let (from, to) = (pipe.from, pipe.to);
    let powered = state.hosts[usize::from(to.0)].power;
    let passes = powered && state.fabric.link(from, to).open;
    let back = state.fabric.link(to, from).open;
    let Fabric { pipes, stats, .. } = &mut state.fabric;
    let pipe = pipes.get_mut(&number).expect("it was there just now");
    if !passes {
        if !pipe.flight.is_empty() && !pipe.stalled {
            pipe.stalled = true;
            stats.stalls += 1;
        }
        return wakers;
    }
    let (mut refuse, mut reset) = (false, false);
    while pipe.flight.front().is_some_and(|(at, _)| *at <= now) {
        match pipe.flight.pop_front() {
            Some((_, Segment::Data(data))) if pipe.reader_gone => {
                drop(data);
                refuse = true;
            }
            Some((_, Segment::Data(data))) => pipe.arrived.push_back(data),
            Some((_, Segment::Fin)) => pipe.ended = true,
            Some((_, Segment::Reset)) => reset = true,
            None => break,
        }
    }
    if reset {
        pipe.reset = true;
        stats.resets += 1;
    }
    wakers.extend(pipe.reader.take());
    if reset && let Some(other) = pipes.get_mut(&(number ^ 1)) {
        other.reset = true;
        wakers.extend(other.writer.take());
        wakers.extend(other.reader.take());
    }
    if refuse && back {
        send(state, number ^ 1, Segment::Reset);
    }
    wakers
}

/// The process on `host` has ended; with `silent` the power has gone with it.
pub(super) fn process_ended(state: &mut State, host: HostId, silent: bool) {
    state.fabric.listeners.retain(|(of, _), _| *of != host);
    let numbers: Vec<u64> = state.fabric.pipes.keys().copied().collect();
    for number in numbers {
        let Some(pipe) = state.fabric.pipes.get_mut(&number) else {
            continue;
        };
        if pipe.to == host && !pipe.reader_gone {
            pipe.reader_gone = true;
            pipe.arrived.clear();
            pipe.reader = None;
        }
        if pipe.from == host && !pipe.writer_gone {
            pipe.writer_gone = true;
            pipe.writer = None;
            if silent {
                pipe.flight.clear();
            } else if state.rng.chance(1, 2) {
                send(state, number, Segment::Fin);
            } else {
                send(state, number, Segment::Reset);
            }
        }
        state.fabric.forget(number);
    }
}

/// What waited for this link (or this host's power) goes on.
fn heal(state: &mut State, matches: impl Fn(&Pipe) -> bool, back: impl Fn(&Pipe) -> bool) -> Vec<Waker> {
    let mut wakers = Vec::new();
    let numbers: Vec<u64> = state.fabric.pipes.keys().copied().collect();
    for number in numbers {
        let late = state.now + 1 + state.rng.below(2 * RETRANSMIT);
        let Some(pipe) = state.fabric.pipes.get_mut(&number) else {
            continue;
        };
        if matches(pipe) && pipe.stalled {
            pipe.stalled = false;
            pipe.last_arrival = pipe.last_arrival.max(late);
            for (at, _) in &mut pipe.flight {
                *at = (*at).max(late);
            }
            let times: Vec<u64> = pipe.flight.iter().map(|(at, _)| *at).collect();
            for at in times {
                state.at(at, Event::Pipe(number));
            }
        } else if back(pipe) && pipe.unacknowledged > 0 {
            let bytes = std::mem::take(&mut pipe.unacknowledged);
            wakers.extend(pipe.acknowledge(bytes));
        }
    }
    wakers
}

impl World {
    /// Sets the link from one host to another.
    pub fn set_link(&self, from: HostId, to: HostId, link: Link) {
        let mut state = self.state();
        state.note(u64::from(from.0) << 20 | u64::from(to.0) << 2 | u64::from(link.open));
        state.fabric.links.insert((from, to), link);
        let wakers = if link.open {
            heal(
                &mut state,
                |pipe| (pipe.from, pipe.to) == (from, to),
                |pipe| (pipe.to, pipe.from) == (from, to),
            )
        } else {
            Vec::new()
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The link from one host to another.
    pub fn link(&self, from: HostId, to: HostId) -> Link {
        self.state().fabric.link(from, to)
    }

    /// Nothing passes from one host to the other, until [`World::heal`].
    pub fn cut(&self, from: HostId, to: HostId) {
        let link = self.link(from, to);
        self.set_link(from, to, Link { open: false, ..link });
    }

    /// The link is as at the beginning.
    pub fn heal(&self, from: HostId, to: HostId) {
        self.set_link(from, to, Link::default());
    }

    /// What waited for the host's power goes on: call it after [`World::power_on`].
    pub fn reconnect(&self, host: HostId) {
        let mut state = self.state();
        let wakers = heal(&mut state, |pipe| pipe.to == host, |_| false);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What the network has done.
    pub fn net_stats(&self) -> NetStats {
        self.state().fabric.stats
    }
}

/// The network as one process sees it.
pub(super) struct HostNet {
    pub(super) world: World,
    pub(super) host: HostId,
    pub(super) process: u64,
}

enum Knock {
    /// No answer: a link is cut or there is no power.
    Silence,
    /// The time to the answer.
    Travel(u64),
}

fn knock(state: &mut State, from: HostId, to: HostId) -> Knock {
    let Some(host) = state.hosts.get(usize::from(to.0)) else {
        return Knock::Silence;
    };
    let power = host.power;
    let (there, back) = (state.fabric.link(from, to), state.fabric.link(to, from));
    if !power || !there.open || !back.open {
        state.fabric.stats.unanswered += 1;
        return Knock::Silence;
    }
    let mut delay = 0;
    for link in [there, back] {
        let (low, high) = link.delay;
        delay += low + state.rng.below(high.saturating_sub(low) + 1);
    }
    Knock::Travel(delay)
}

/// Makes the connection; the answer is the pipe towards the listener.
fn open(
    state: &mut State,
    from: HostId,
    process: u64,
    to: HostId,
    port: u16,
) -> io::Result<(u64, Option<Waker>)> {
    let caller = &state.hosts[usize::from(from.0)];
    if !caller.alive || caller.process != process {
        return Err(io::ErrorKind::NotConnected.into());
    }
    let Some(listening) = state.fabric.listeners.get_mut(&(to, port)) else {
        return Err(io::ErrorKind::ConnectionRefused.into());
    };
    let number = state.fabric.next_pipe;
    state.fabric.next_pipe += 2;
    let peer = SocketAddr::new(from.ip(), 1024 + (number / 2 % 60_000) as u16);
    listening.queue.push_back((number, peer));
    let waker = listening.waker.take();
    state.fabric.pipes.insert(number, Pipe::new(from, to));
    state.fabric.pipes.insert(number ^ 1, Pipe::new(to, from));
    state.fabric.stats.connections += 1;
    Ok((number, waker))
}

impl Net for HostNet {
    fn connect(&self, address: &str) -> BoxFuture<io::Result<BoxStream>> {
        let (world, from, process) = (self.world.clone(), self.host, self.process);
        let address: Result<SocketAddr, _> = address.parse();
        Box::pin(async move {
            let address = address.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            let to = HostId::of(address.ip()).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let sleep = |micros: u64| {
                let at = world.state().now + micros;
                Sleep {
                    world: world.clone(),
                    until: Until::World(at),
                    key: None,
                }
            };
            for attempt in 0..CONNECT_ATTEMPTS {
                let answer = knock(&mut world.state(), from, to);
                match answer {
                    Knock::Silence => sleep(FIRST_ATTEMPT << attempt).await,
                    Knock::Travel(time) => {
                        sleep(time).await;
                        let (number, waker) = open(&mut world.state(), from, process, to, address.port())?;
                        waker.into_iter().for_each(Waker::wake);
                        let end = End {
                            world: world.clone(),
                            incoming: number ^ 1,
                        };
                        return Ok(Box::new(end) as BoxStream);
                    }
                }
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    fn bind(&self, address: SocketAddr) -> BoxFuture<io::Result<Box<dyn Listener>>> {
        let listener = self.listen(address);
        Box::pin(std::future::ready(listener))
    }
}

impl HostNet {
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let mut state = self.world.state();
        let mut port = address.port();
        while port == 0 {
            state.fabric.next_port = (state.fabric.next_port + 1) % 10_000;
            let candidate = 40_000 + state.fabric.next_port;
            if !state.fabric.listeners.contains_key(&(self.host, candidate)) {
                port = candidate;
            }
        }
        if state.fabric.listeners.contains_key(&(self.host, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listening = Listening {
            process: self.process,
            queue: VecDeque::new(),
            waker: None,
        };
        state.fabric.listeners.insert((self.host, port), listening);
        Ok(Box::new(HostListener {
            world: self.world.clone(),
            host: self.host,
            process: self.process,
            port,
        }))
    }
}

struct HostListener {
    world: World,
    host: HostId,
    process: u64,
    port: u16,
}

impl Listener for HostListener {
    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.ip(), self.port)
    }

    fn accept(&mut self) -> Pin<Box<dyn Future<Output = io::Result<(BoxStream, SocketAddr)>> + Send + '_>> {
        Box::pin(poll_fn(|context| {
            let mut state = self.world.state();
            let Some(listening) = state.fabric.listeners.get_mut(&(self.host, self.port)) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            match listening.queue.pop_front() {
                Some((number, peer)) => {
                    let end = End {
                        world: self.world.clone(),
                        incoming: number,
                    };
                    Poll::Ready(Ok((Box::new(end) as BoxStream, peer)))
                }
                None => {
                    listening.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

impl Drop for HostListener {
    fn drop(&mut self) {
        let mut state = self.world.state();
        let key = (self.host, self.port);
        let ours = |listening: &Listening| listening.process == self.process;
        if state.fabric.listeners.get(&key).is_some_and(ours) {
            let listening = state.fabric.listeners.remove(&key);
            for (number, _) in listening.into_iter().flat_map(|listening| listening.queue) {
                close(&mut state, number);
            }
        }
    }
}

/// One end of a connection.
struct End {
    world: World,
    /// The pipe that is read here; the other direction is written.
    incoming: u64,
}

/// The end that reads `incoming` goes away.
fn close(state: &mut State, incoming: u64) {
    let Some(pipe) = state.fabric.pipes.get_mut(&incoming) else {
        return;
    };
    if pipe.reader_gone {
        return;
    }
    pipe.reader_gone = true;
    pipe.reader = None;
    let unread = !pipe.arrived.is_empty();
    pipe.arrived.clear();
    let Some(outgoing) = state.fabric.pipes.get_mut(&(incoming ^ 1)) else {
        return;
    };
    if !outgoing.writer_gone {
        outgoing.writer_gone = true;
        outgoing.writer = None;
        send(
            state,
            incoming ^ 1,
            if unread { Segment::Reset } else { Segment::Fin },
        );
    }
    state.fabric.forget(incoming);
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        let Some(pipe) = state.fabric.pipes.get(&self.incoming) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let back = state.fabric.link(pipe.to, pipe.from).open;
        let pipe = state
            .fabric
            .pipes
            .get_mut(&self.incoming)
            .expect("it was there just now");
        let Some(data) = pipe.arrived.front_mut() else {
            if pipe.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if pipe.ended {
                return Poll::Ready(Ok(0));
            }
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let count = data.len().min(out.len());
        out[..count].copy_from_slice(&data[..count]);
        data.advance(count);
        if data.is_empty() {
            pipe.arrived.pop_front();
        }
        let waker = if back {
            pipe.acknowledge(count)
        } else {
            pipe.unacknowledged += count;
            None
        };
        drop(guard);
        waker.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut guard = self.world.state();
        let state = &mut *guard;
        let number = self.incoming ^ 1;
        let Some(pipe) = state.fabric.pipes.get_mut(&number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.reset || pipe.writer_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut count = data.len().min(WINDOW.saturating_sub(pipe.held));
        if count == 0 && !data.is_empty() {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        // A write may be cut short anywhere.
        if count > 1 && state.rng.chance(1, 16) {
            count = 1 + state.rng.below(count as u64 - 1) as usize;
        }
        pipe.held += count;
        state.fabric.stats.bytes += count as u64;
        send(
            state,
            number,
            Segment::Data(Bytes::copy_from_slice(&data[..count])),
        );
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = self.world.state();
        let number = self.incoming ^ 1;
        if let Some(pipe) = guard.fabric.pipes.get_mut(&number)
            && !pipe.writer_gone
        {
            pipe.writer_gone = true;
            pipe.writer = None;
            send(&mut guard, number, Segment::Fin);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        close(&mut self.world.state(), self.incoming);
    }
}
