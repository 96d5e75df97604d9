//! Time: a monotonic clock for durations, a wall clock for what people read.

use crate::BoxFuture;
use std::time::Duration;

/// Microseconds of a clock that never goes back and counts suspend. Comparable on one node only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Monotonic(pub u64);

/// Microseconds since 1970-01-01 UTC by a clock that may be wrong and may step. No safety rests on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WallTime(pub u64);

impl Monotonic {
    /// This moment and `duration` more.
    pub const fn plus(self, duration: Duration) -> Self {
        Monotonic(self.0.saturating_add(duration.as_micros() as u64))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The clock seam.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic time.
    fn now(&self) -> Monotonic;
    /// The wall time.
    fn wall(&self) -> WallTime;
    /// Completes at `deadline` or soon after; at once if it has passed. Dropping it cancels it.
    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<()>;
}

impl dyn Clock {
    /// Completes after `duration`.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.sleep_until(self.now().plus(duration))
    }

    /// Runs `future` until it completes or `deadline` passes: `None` then, and the future is dropped.
    pub async fn until<F: Future>(&self, deadline: Monotonic, future: F) -> Option<F::Output> {
        let mut sleep = self.sleep_until(deadline);
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(move |context| {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                return std::task::Poll::Ready(Some(output));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }
}
