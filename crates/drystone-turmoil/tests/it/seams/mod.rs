//! The seams of one turmoil host: tokio's paused clock, turmoil's sockets, tasks of the host's runtime.
//!
//! Made by the host's software, inside its runtime. A host that crashes loses its runtime, and with it all of this.

mod clock;
mod net;
mod tasks;

pub(crate) use net::{Faults, TurmoilNet};
pub(crate) use tasks::Tasks;

use clock::TurmoilClock;
use drystone_env::{Env, SeededRng};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a host's software runs on.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) env: Env,
    pub(crate) faults: Faults,
    pub(crate) tasks: Arc<Tasks>,
}

impl Host {
    /// The host `name` of the world of `seed`; called by its software.
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let rng = SeededRng::new(seed).split(name);
        let faults = Faults::new(rng.clone());
        let tasks = Arc::new(Tasks::default());
        let env = Env {
            clock: Arc::new(TurmoilClock::new()),
            net: Arc::new(TurmoilNet::new(turmoil::lookup(name), faults.clone())),
            spawn: Arc::clone(&tasks) as Arc<dyn drystone_env::Spawn>,
            seed: drystone_env::Rng::next_u64(&mut rng.split("env")),
            numbers: Arc::default(),
        };
        Self { env, faults, tasks }
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, ms: u64) {
        self.env.clock.sleep(Duration::from_millis(ms)).await;
    }

    /// Lets time pass until `done`, at most `ms`. True if it came to pass.
    pub(crate) async fn wait(&self, ms: u64, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..ms {
            if done() {
                return true;
            }
            self.pass(1).await;
        }
        done()
    }

    /// Milliseconds since `start`.
    pub(crate) fn since(&self, start: drystone_env::Monotonic) -> u64 {
        self.env.clock.now().since(start).as_millis() as u64
    }
}

/// An empty world, all of whose chances come from `seed`: hosts run in random order, messages take 1 to 20 ms.
pub(crate) fn world(seed: u64) -> turmoil::Sim<'static> {
    world_in_steps(seed, 1)
}

/// The same for many hosts: all of them run once in so many milliseconds, whether they have something to do or not.
pub(crate) fn world_in_steps(seed: u64, ms: u64) -> turmoil::Sim<'static> {
    builder(seed, ms).build()
}

/// [`world_in_steps`] before it is built. A link that broke by chance is whole again after some 50 messages.
pub(crate) fn builder(seed: u64, ms: u64) -> turmoil::Builder {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(seed)
        .tick_duration(Duration::from_millis(ms))
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .repair_rate(0.02)
        .enable_random_order();
    builder
}

/// Runs `scenario` in `count` worlds, or in as many as `TURMOIL_SEEDS` says.
pub(crate) fn in_worlds(count: u64, scenario: impl Fn(u64)) {
    let asked = std::env::var("TURMOIL_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    for seed in 1..=asked.unwrap_or(count) {
        eprintln!("seed {seed}");
        scenario(seed);
    }
}

/// Runs `scenario` in a handful of worlds.
pub(crate) fn seeds(scenario: impl Fn(u64)) {
    in_worlds(5, scenario);
}
