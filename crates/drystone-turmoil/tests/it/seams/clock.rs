use drystone_env::{BoxFuture, Clock, Monotonic, WallTime};
use tokio::time::{Duration, Instant};

/// Where every host's clock begins: a clock at zero would hide what subtracts from it.
const START: Monotonic = Monotonic(1_000_000_000);
/// The wall time then.
const WALL: u64 = 1_800_000_000_000_000;

/// The paused clock of the runtime in which it was made.
pub(super) struct TurmoilClock {
    start: Instant,
}

impl TurmoilClock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for TurmoilClock {
    fn now(&self) -> Monotonic {
        START.plus(Instant::now().saturating_duration_since(self.start))
    }

    fn wall(&self) -> WallTime {
        WallTime(WALL + self.now().since(START).as_micros() as u64)
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<()> {
        // Nobody sleeps for longer than a day here, and tokio cannot count much further.
        let wait = deadline
            .since(START)
            .min(self.now().since(START) + Duration::from_secs(86_400));
        Box::pin(tokio::time::sleep_until(self.start + wait))
    }
}
