//! How slow a peer may be: a token bucket of patience.
//!
//! Waiting for a peer uses patience up, and every byte that moves gives some back, as much as the least rate pays for.
//! What a peer is seen to take comes in steps: its system makes room when a good part of a buffer of megabytes is
//! free, and a program may read or send in lumps. So what moved beyond the least rate is kept and pays for later
//! silence, up to a bound; a peer that moved nothing yet has one window, and one byte now and then buys next to
//! nothing. Time in which nobody waits for the peer does not count: a slow cluster is not its fault.

use drystone_env::{BoxFuture, Clock, Monotonic};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The least that is asked of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes each second that it must send or take while it is waited for. 0: any byte ends a silence, and none may be
    /// longer than `window`.
    pub bytes_per_second: u64,
    /// How long it may be silent at first.
    pub window: Duration,
    /// Bytes beyond that rate which pay for later silence at most: as large may be the steps in which a peer of just
    /// that rate goes on, and those of a faster one in proportion.
    pub credit_bytes: u64,
}

impl Default for Pace {
    /// 1 KiB/s, a tenth of what a modem did, over 30 s and with steps of up to 1 MiB. So a peer that was fast and then
    /// vanishes is given up after 18 minutes at the latest; TCP gives up after about 15 if there is something to send
    /// again, and after one minute if there is not.
    fn default() -> Self {
        Self {
            bytes_per_second: 1024,
            window: Duration::from_secs(30),
            credit_bytes: 1 << 20,
        }
    }
}

/// Credit of a peer that sends. What it sent is seen at once, so that its steps are those of its program; and what it
/// began holds memory here and chunks elsewhere, so that one that vanished is given up after a minute, not after many.
const SENDER_CREDIT: u64 = 32 << 10;

impl Pace {
    /// For a peer that sends.
    pub(crate) fn of_sender(self) -> Self {
        Self {
            credit_bytes: self.credit_bytes.min(SENDER_CREDIT),
            ..self
        }
    }

    /// The time that so many bytes pay for; `None`: any byte will do.
    fn pays(&self, bytes: u64) -> Option<Duration> {
        let micros = bytes.saturating_mul(1_000_000).checked_div(self.bytes_per_second);
        micros.map(Duration::from_micros)
    }

    /// Most patience with a peer.
    fn most(&self) -> Duration {
        let credit = self.pays(self.credit_bytes).unwrap_or_default();
        self.window.saturating_add(credit)
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
        let earned = match self.pace.pays(bytes as u64) {
            Some(time) => time,
            None if bytes > 0 => self.pace.window,
            None => Duration::ZERO,
        };
        self.left = self.left.saturating_add(earned).min(self.pace.most());
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
                ..Pace::default()
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
    }

    /// A program that takes 20 KB each second of buffers of megabytes is seen to take nothing for minutes; two of six
    /// such readers were once cut off.
    #[test]
    fn large_steps_at_a_sufficient_rate_are_enough_for_ever() {
        for (step, rate) in [
            (384 << 10, 20_000),
            (3 << 20, 20_000),
            (6 << 20, 20_000),
            (1 << 20, 1024),
        ] {
            let mut peer = Peer::new(1024);
            // What it makes room for at the beginning.
            peer.patience.moved(step);
            for _ in 0..100 {
                assert!(peer.pauses((step / rate) as u64), "{step} bytes at {rate}");
                peer.patience.moved(step);
            }
        }
    }

    #[test]
    fn less_than_the_least_rate_is_not_enough_in_any_steps() {
        for step in [1 << 10, 64 << 10, 1 << 20] {
            let mut peer = Peer::new(1024);
            peer.patience.moved(step);
            // Half of the rate: it lives on its window, and on what it had saved.
            let seconds = (step as u64 >> 10) * 2;
            let ended = (0..100_000).find(|_| {
                let goes_on = peer.pauses(seconds);
                peer.patience.moved(step);
                !goes_on
            });
            assert!(ended.is_some(), "{step} bytes in {seconds} s");
        }
    }

    #[test]
    fn what_is_saved_has_a_bound() {
        let most = Pace::default().most();
        assert_eq!(most, Duration::from_secs(30 + 1024));
        for (silence, is_enough) in [(most.as_secs() - 1, true), (most.as_secs(), false)] {
            let mut peer = Peer::new(1024);
            peer.patience.moved(1 << 30);
            peer.patience.moved(1 << 30);
            assert_eq!(peer.pauses(silence), is_enough);
        }
    }

    #[test]
    fn one_that_sent_fast_and_vanished_is_given_up_after_a_minute() {
        let most = Pace::default().of_sender().most();
        assert_eq!(most, Duration::from_secs(30 + 32));
    }

    #[test]
    fn one_that_moved_nothing_has_one_window() {
        assert!(Peer::new(1024).pauses(29));
        assert!(!Peer::new(1024).pauses(30));
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
