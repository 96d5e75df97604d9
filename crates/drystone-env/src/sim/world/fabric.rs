//! Links and connections between hosts, with what TCP promises and no more.
//!
//! A connection's bytes arrive in order or not at all. A cut link loses nothing: what was sent waits, as TCP sends
//! it again, and arrives when the link heals, however late; nobody is told. A connection whose other process died is
//! reset once something reaches its host; a host without power says nothing.

use super::executor::{Event, State, World};
use super::host::HostId;
use super::net::Listening;
use super::pipe::{Pipe, Segment};
use crate::rng::Rng;
use std::collections::BTreeMap;
use std::task::Waker;

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
    pub(super) pipes: BTreeMap<u64, Pipe>,
    pub(super) listeners: BTreeMap<(HostId, u16), Listening>,
    pub(super) next_pipe: u64,
    pub(super) next_port: u16,
    pub(super) stats: NetStats,
}

impl Fabric {
    pub(super) fn link(&self, from: HostId, to: HostId) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Both ends are gone: nobody can see what is left.
    pub(super) fn forget(&mut self, pipe: u64) {
        let gone = |pipe: &Pipe| pipe.writer_gone && pipe.reader_gone;
        if self.pipes.get(&pipe).is_none_or(gone) && self.pipes.get(&(pipe ^ 1)).is_none_or(gone) {
            self.pipes.remove(&pipe);
            self.pipes.remove(&(pipe ^ 1));
        }
    }
}

/// Puts a segment on its way.
pub(super) fn send(state: &mut State, number: u64, segment: Segment) {
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

/// What waited for this host's power goes on.
pub(super) fn power_is_back(state: &mut State, host: HostId) {
    let wakers = heal(state, |pipe| pipe.to == host, |_| false);
    debug_assert!(wakers.is_empty(), "nothing is acknowledged by it");
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

    /// What the network has done.
    pub fn net_stats(&self) -> NetStats {
        self.state().fabric.stats
    }
}
