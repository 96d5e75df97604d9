use crate::BoxFuture;
use crate::clock::{Clock, Monotonic, WallTime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// CLOCK_BOOTTIME (it counts suspend) and the system's wall clock.
#[derive(Debug, Default)]
pub struct OsClock(());

impl OsClock {
    /// The system's clocks.
    pub fn new() -> Self {
        Self(())
    }
}

impl Clock for OsClock {
    fn now(&self) -> Monotonic {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Monotonic(time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the real clock")]
    fn wall(&self) -> WallTime {
        WallTime(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO)
                .as_micros() as u64,
        )
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<()> {
        let wait = deadline.since(self.now());
        // After a suspend tokio's timer is late by the time asleep: whoever must not act late asks `now`.
        #[allow(clippy::disallowed_methods, reason = "this is the real clock")]
        Box::pin(tokio::time::sleep(wait))
    }
}
