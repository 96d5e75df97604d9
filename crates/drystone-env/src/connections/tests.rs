use super::*;
use crate::sim::SimClock;
use crate::{BoxFuture, WallTime};
use std::pin::Pin;
use std::task::Waker;

struct World {
    clock: SimClock,
    connections: Connections,
}

impl World {
    fn new() -> Self {
        let clock = SimClock::new(Monotonic(5), WallTime(0));
        let connections = Connections::new(Arc::new(clock.clone()), Rank::new(1, "connections"));
        Self { clock, connections }
    }

    fn admit(&self, limit: usize) -> Admitting {
        let connections = self.connections.clone();
        Admitting(Box::pin(async move { connections.admit(limit).await }))
    }
}

struct Admitting(BoxFuture<Place>);

impl Admitting {
    fn now(&mut self) -> Option<Place> {
        match Pin::new(&mut self.0).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }
}

fn is_asked(place: &Place) -> bool {
    place
        .asked_to_close(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[test]
fn the_connection_that_was_idle_for_longest_makes_room() {
    let world = World::new();
    let first = world.admit(2).now().expect("there is room");
    world.clock.advance(Duration::from_secs(1));
    drop(first.busy());
    let second = world.admit(2).now().expect("there is room");
    world.clock.advance(Duration::from_secs(1));
    first.active(world.clock.now());
    world.clock.advance(Duration::from_secs(1));
    let mut third = world.admit(2);
    assert!(third.now().is_none());
    assert!(!is_asked(&first));
    assert!(is_asked(&second));
    // One is enough.
    assert!(!world.connections.close_oldest_idle());
    drop(second);
    assert!(third.now().is_some());
    drop(first);
    assert!(world.connections.is_empty());
}

#[test]
fn busy_and_fresh_connections_are_not_closed_and_new_ones_wait() {
    let world = World::new();
    let busy = world.admit(2).now().expect("there is room");
    let work = busy.busy();
    world.clock.advance(Duration::from_secs(60));
    let fresh = world.admit(2).now().expect("there is room");
    drop(fresh.busy());
    let mut waiting = world.admit(2);
    assert!(waiting.now().is_none());
    assert!(!is_asked(&busy) && !is_asked(&fresh));
    // The work ends: idle from now on, and not at once the oldest.
    world.clock.advance(LOOK_AGAIN);
    drop(work);
    assert!(waiting.now().is_none());
    assert!(!is_asked(&busy) && !is_asked(&fresh));
    world.clock.advance(MIN_IDLE);
    assert!(waiting.now().is_none());
    assert!(is_asked(&fresh) && !is_asked(&busy));
    drop(fresh);
    assert!(waiting.now().is_some());
}

#[test]
fn a_connection_that_goes_on_before_it_hears_stays() {
    let world = World::new();
    let one = world.admit(1).now().expect("there is room");
    world.clock.advance(MIN_IDLE);
    let mut waiting = world.admit(1);
    assert!(waiting.now().is_none());
    let work = one.busy();
    assert!(!is_asked(&one));
    drop(work);
    assert!(!is_asked(&one), "asked before it went on");
    world.clock.advance(MIN_IDLE);
    assert!(waiting.now().is_none());
    assert!(is_asked(&one));
}

#[test]
fn a_connection_for_which_nothing_was_done_goes_sooner() {
    let world = World::new();
    let used = world.admit(2).now().expect("there is room");
    drop(used.busy());
    let unused = world.admit(2).now().expect("there is room");
    let mut waiting = world.admit(2);
    assert!(waiting.now().is_none());
    assert!(!is_asked(&used) && !is_asked(&unused));
    world.clock.advance(MIN_UNUSED);
    assert!(waiting.now().is_none());
    assert!(is_asked(&unused) && !is_asked(&used));
}
