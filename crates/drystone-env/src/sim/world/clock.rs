//! Sleeping on a host's clock.

use super::executor::World;
use super::host::HostId;
use crate::BoxFuture;
use crate::clock::{Clock, Monotonic, WallTime};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Looks at the clock in one poll, during which no time goes by: more than any work needs.
const MOST_LOOKS: u32 = 100_000;

/// The clocks of one host.
pub(super) struct HostClock {
    pub(super) world: World,
    pub(super) host: HostId,
}

impl Clock for HostClock {
    fn now(&self) -> Monotonic {
        let mut state = self.world.state();
        state.looks += 1;
        let looks = state.looks;
        let now = state.hosts[usize::from(self.host.0)].monotonic(state.now);
        drop(state);
        assert!(
            looks < MOST_LOOKS,
            "a task looks at the clock again and again and does not wait"
        );
        now
    }

    fn wall(&self) -> WallTime {
        let state = self.world.state();
        state.hosts[usize::from(self.host.0)].wall(state.now)
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<()> {
        Box::pin(Sleep {
            world: self.world.clone(),
            until: Until::Local(self.host, deadline),
            key: None,
        })
    }
}

pub(super) enum Until {
    Local(HostId, Monotonic),
    World(u64),
}

/// Completes at a moment.
pub(super) struct Sleep {
    pub(super) world: World,
    pub(super) until: Until,
    pub(super) key: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let world = self.world.clone();
        let mut state = world.state();
        let (due, at) = match self.until {
            Until::Local(host, deadline) => {
                let host = &state.hosts[usize::from(host.0)];
                let due = host.monotonic(state.now) >= deadline;
                (due, if due { 0 } else { host.world_time(deadline) })
            }
            Until::World(at) => (state.now >= at, at),
        };
        let before = self.key.take();
        let replaced = before.and_then(|key| state.timers.remove(&key));
        if !due {
            // A drift that changed meanwhile has moved the moment.
            let at = at.max(state.now + 1);
            self.key = Some(state.at(at, super::executor::Event::Wake(context.waker().clone())));
        }
        drop(state);
        drop(replaced);
        if due { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let removed = self.world.state().timers.remove(&key);
            drop(removed);
        }
    }
}
