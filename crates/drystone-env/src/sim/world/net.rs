//! How a process connects and listens.

use super::clock::{Sleep, Until};
use super::end::{End, close};
use super::executor::{State, World};
use super::host::HostId;
use super::pipe::Pipe;
use crate::BoxFuture;
use crate::net::{BoxStream, Listener, Net};
use crate::rng::Rng;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Poll, Waker};

/// Attempts to connect to a host that does not answer, each twice as long: a minute, as Linux' default nearly does.
const CONNECT_ATTEMPTS: u32 = 6;
const FIRST_ATTEMPT: u64 = 1_000_000;

/// A port that a process listens on.
pub(super) struct Listening {
    process: u64,
    /// Numbers of the pipes towards the listener, and where they come from.
    queue: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
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
