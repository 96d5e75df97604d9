//! How slow a peer may be: a token bucket of patience.
//!
//! Waiting for a peer uses patience up, and every byte that moves gives some back, never more than the window. So a
//! peer may be silent for one window, and over longer times must move bytes at the least rate; one byte now and then
//! buys next to nothing. Time in which nobody waits for the peer does not count: a slow cluster is not its fault.

use drystone_env::{BoxFuture, Clock, Monotonic};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The least that is asked of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes each second that it must send or take while it is waited for, over the window.
    pub bytes_per_second: u64,
    /// How long it may be silent.
    pub window: Duration,
}

impl Default for Pace {
    /// 1 KiB/s over 30 s: a tenth of what a modem did. What a peer takes is seen in steps, of some 32 KiB that wait
    /// unsent here and of what it makes room for at once over there (more over the loopback than over a network).
    fn default() -> Self {
        Self {
            bytes_per_second: 1024,
            window: Duration::from_secs(30),
        }
    }
}

/// What is left of the patience with one peer.
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    pace: Pace,
    left: Duration,
    waiting: Option<(Monotonic, BoxFuture<()>)>,
}

impl Patience {
    pub(crate) fn new(clock: Arc<dyn Clock>, pace: Pace) -> Self {
        Self {
            clock,
            pace,
            left: pace.window,
            waiting: None,
        }
    }

    /// The peer moves nothing now: ready when the patience is used up.
    pub(crate) fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (_, alarm) = self
            .waiting
            .get_or_insert_with(|| (self.clock.now(), self.clock.sleep(self.left)));
        ready!(alarm.as_mut().poll(context));
        self.waiting = None;
        self.left = Duration::ZERO;
        Poll::Ready(())
    }

    /// The peer has moved so many bytes.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(self.clock.now().since(since));
        }
        let rate = self.pace.bytes_per_second;
        let earned = match (bytes as u64).saturating_mul(1_000_000).checked_div(rate) {
            Some(micros) => Duration::from_micros(micros),
            // Any byte will do.
            None if bytes > 0 => self.pace.window,
            None => Duration::ZERO,
        };
        self.left = self.left.saturating_add(earned).min(self.pace.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::WallTime;
    use drystone_env::sim::SimClock;
    use std::task::Waker;

    struct Peer {
        clock: SimClock,
        patience: Patience,
    }

    impl Peer {
        fn new(bytes_per_second: u64) -> Self {
            let clock = SimClock::new(Monotonic(1), WallTime(0));
            let pace = Pace {
                bytes_per_second,
                window: Duration::from_secs(30),
            };
            let patience = Patience::new(Arc::new(clock.clone()), pace);
            Self { clock, patience }
        }

        /// True if it was waited for that long; false if the patience ended before.
        fn pauses(&mut self, seconds: u64) -> bool {
            let context = &mut Context::from_waker(Waker::noop());
            if self.patience.poll_wait(context).is_ready() {
                return false;
            }
            self.clock.advance(Duration::from_secs(seconds));
            self.patience.poll_wait(context).is_pending()
        }
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        let mut peer = Peer::new(1024);
        assert!(peer.pauses(20));
        peer.patience.moved(1);
        assert!(!peer.pauses(20));
    }

    #[test]
    fn the_least_rate_is_enough_for_ever() {
        let mut peer = Peer::new(1024);
        for _ in 0..1000 {
            assert!(peer.pauses(20));
            peer.patience.moved(20 << 10);
        }
        // No credit is saved beyond the window.
        peer.patience.moved(1 << 30);
        assert!(!peer.pauses(30));
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let mut peer = Peer::new(1024);
        assert!(peer.pauses(20));
        peer.patience.moved(1);
        peer.clock.advance(Duration::from_secs(3600));
        assert!(peer.pauses(9));
    }

    #[test]
    fn without_a_rate_any_byte_will_do() {
        let mut peer = Peer::new(0);
        for _ in 0..10 {
            assert!(peer.pauses(29));
            peer.patience.moved(1);
        }
        assert!(!peer.pauses(30));
    }
}
