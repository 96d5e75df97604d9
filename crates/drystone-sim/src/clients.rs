//! Client processes: each place has one at a time, which may be killed in the middle of what it does.

use crate::sometimes::sometimes;
use crate::trace;
use crate::workload::{self, Work};
use drystone_env::sim::World;
use drystone_env::sim::world::HostId;
use drystone_env::{Env, Rng, SeededRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How much a client does and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Operations of one place.
    pub operations: u32,
    /// Longest pause between two.
    pub pause: Duration,
    /// Deadline of each.
    pub deadline: Duration,
    /// Every second client only looks.
    pub readers: bool,
}

/// How far a place has come, whoever works there.
#[derive(Clone)]
struct Progress {
    left: Arc<AtomicU32>,
    /// All was done.
    done: Arc<AtomicBool>,
    /// A change has begun and has no answer.
    changing: Arc<AtomicBool>,
}

impl Progress {
    /// Nothing of so many operations is done.
    fn new(operations: u32) -> Self {
        Self {
            left: Arc::new(AtomicU32::new(operations)),
            done: Arc::default(),
            changing: Arc::default(),
        }
    }
}

struct Place {
    host: HostId,
    progress: Progress,
}

/// See the module. A killed client never learns how its last operation ended; another one, with another number, does
/// the operations that are left.
pub struct Clients {
    world: World,
    work: Work,
    places: Vec<Place>,
    pace: Pace,
    /// Number of the client that begins next; 0 is who looks at the end.
    next: u32,
    rng: SeededRng,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.places
            .iter()
            .for_each(|place| self.world.power_off(place.host));
    }
}

impl Clients {
    /// `count` places; nobody works yet.
    pub fn new(work: &Work, count: u32, pace: Pace, rng: &mut SeededRng) -> Self {
        let place = |number| {
            let name = format!("client-{number}");
            trace::name_host(&name);
            Place {
                host: work.world.add_host(&name),
                progress: Progress::new(pace.operations),
            }
        };
        Self {
            world: work.world.clone(),
            work: work.clone(),
            places: (1..=count).map(place).collect(),
            pace,
            next: 1,
            rng: SeededRng::new(rng.next_u64()),
        }
    }

    /// Places.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if the one at this place has begun a change that has no answer.
    pub fn is_changing(&self, at: usize) -> bool {
        self.places[at].progress.changing.load(Ordering::Relaxed)
    }

    /// Where they run.
    pub fn hosts(&self) -> Vec<HostId> {
        self.places.iter().map(|place| place.host).collect()
    }

    /// True if there is no place.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Everybody begins.
    pub fn start(&mut self) {
        (0..self.places.len()).for_each(|at| self.start_one(at));
    }

    fn start_one(&mut self, at: usize) {
        let (number, seed) = (self.next, self.rng.next_u64());
        self.next += 1;
        let place = &self.places[at];
        let env = self.world.env(place.host);
        let run = work_off(
            env.clone(),
            number,
            seed,
            self.pace,
            place.progress.clone(),
            self.work.clone(),
        );
        env.spawn.spawn("client", Box::pin(run));
    }

    /// Kills the client at a place, unless it is done, and starts another one there.
    pub fn kill(&mut self, at: usize) {
        let place = &self.places[at];
        if place.progress.done.load(Ordering::Relaxed) {
            return;
        }
        self.world.kill(place.host);
        let changing = place.progress.changing.swap(false, Ordering::Relaxed);
        sometimes(if changing {
            "client killed during a change"
        } else {
            "client killed"
        });
        self.start_one(at);
    }

    /// Places whose operations are not all done.
    pub fn open(&self) -> usize {
        let open = self
            .places
            .iter()
            .filter(|place| !place.progress.done.load(Ordering::Relaxed));
        open.count()
    }
}

/// Does what is left at a place.
async fn work_off(env: Env, id: u32, seed: u64, pace: Pace, progress: Progress, work: Work) {
    let mut rng = SeededRng::new(seed);
    let client = workload::connect(&env, &work, pace.deadline).await;
    let looks = pace.readers && id.is_multiple_of(2);
    while progress.left.load(Ordering::Relaxed) > 0 {
        progress.left.fetch_sub(1, Ordering::Relaxed);
        let op = workload::choose(&mut rng, &work, looks);
        progress.changing.store(op.is_change(), Ordering::Relaxed);
        workload::recorded(&client, id, op, &work).await;
        progress.changing.store(false, Ordering::Relaxed);
        let pause = rng.below(pace.pause.as_micros() as u64 + 1);
        env.clock.sleep(Duration::from_micros(pause)).await;
    }
    progress.done.store(true, Ordering::Relaxed);
}
