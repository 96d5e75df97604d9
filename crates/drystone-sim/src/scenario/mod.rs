//! One run: a cluster, its clients, faults for a while, then peace, then the checks.

mod kind;
mod lone;
mod look;
mod verdict;

pub use kind::Kind;

use crate::check::witness::Witness;
use crate::clients::{Clients, Pace};
use crate::cluster::{Cluster, Node, Shape};
use crate::history::History;
use crate::nemesis::Nemesis;
use crate::operator::Operator;
use crate::run::Run;
use crate::sometimes::sometimes;
use crate::trace;
use crate::workload::{self, Work};
use drystone_env::sim::World;
use drystone_env::sim::world::HostId;
use drystone_env::{Env, Rng, SeededRng};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CLIENTS: u32 = 4;
const SECOND: u64 = 1_000_000;
/// After the faults the cluster must serve everybody within this time.
const RECOVERY: Duration = Duration::from_secs(90);

/// What a run brought.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What must not be; empty if all is well.
    pub violations: Vec<String>,
    /// What it said.
    pub lines: Vec<String>,
    /// Two runs share it only if they were the same.
    pub digest: String,
    /// Polls of tasks.
    pub polls: u64,
    /// Simulated time.
    pub micros: u64,
    /// Operations of clients.
    pub operations: u64,
    /// What happened how often.
    pub sometimes: BTreeMap<String, u64>,
}

/// Runs a scenario under `seed`.
///
/// # Panics
/// Inside a tokio runtime: it brings its own, which runs nothing. Of that tokio draws the order in which a `watch` wakes
/// those who wait, so it is seeded; and tokio's budget is lifted, which only its own executor would fill again.
pub fn run(kind: Kind, seed: u64, verbose: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without any driver needs nothing");
    runtime.block_on(tokio::task::unconstrained(async {
        run_seeded(kind, seed, verbose)
    }))
}

fn run_seeded(kind: Kind, seed: u64, verbose: bool) -> Report {
    trace::begin(verbose);
    let _ = crate::sometimes::take();
    let world = World::new(seed);
    let mut rng = SeededRng::new(seed).split("scenario");
    let mut shape = Shape::draw(&mut rng);
    kind.shape(&mut shape);
    trace::note(0, &format!("{shape:?}"));
    let mut run = Trial::new(kind, &world, shape, &mut rng);
    match kind {
        Kind::Lone => run.damage_the_log(&mut rng),
        _ => run.go(&mut rng),
    }
    let violations = std::mem::take(&mut *run.work.violations.lock().expect("no panic holds it"));
    for violation in &violations {
        trace::note(world.now().0, &format!("VIOLATION: {violation}"));
    }
    let operations = run.work.history.calls().len() as u64;
    let (polls, micros, order) = (world.polls(), world.now().0, world.digest());
    drop(run);
    let (lines, text) = trace::end();
    Report {
        seed,
        violations,
        lines,
        digest: format!("{order:016x}{text:08x}"),
        polls,
        micros,
        operations,
        sometimes: crate::sometimes::take(),
    }
}

struct Trial {
    run: Run,
    /// Where the last client runs, who looks at everything.
    last: HostId,
    work: Work,
    /// How long clients work and faults come, in microseconds.
    length: u64,
    kind: Kind,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.run.cluster.world.power_off(self.last);
    }
}

/// How fast clients work, and for how long in all if nothing stops them.
fn draw_pace(rng: &mut SeededRng) -> (Pace, u64) {
    let length = [3 * SECOND, 10 * SECOND, 25 * SECOND][rng.below(3) as usize];
    // A hundred in all at least.
    let operations = 25 + rng.below(20) as u32;
    let pace = Pace {
        operations,
        pause: Duration::from_micros(2 * length / u64::from(operations)),
        deadline: Duration::from_millis([800, 3000, 8000][rng.below(3) as usize]),
        readers: false,
    };
    (pace, length)
}

impl Trial {
    fn new(kind: Kind, world: &World, shape: Shape, rng: &mut SeededRng) -> Self {
        let cluster = Cluster::format(world, shape, rng);
        let work = Work {
            world: world.clone(),
            history: History::default(),
            metadata: cluster.metadata(),
            writes: Arc::new(AtomicU32::new(0)),
            least_redundancy: shape.least_redundancy(),
            on_disk: shape.is_on_disk(),
            page: 1000,
            largest: kind.largest(),
            witness: Witness::new(Arc::clone(&cluster.chunk_disks), Arc::clone(&cluster.harmed), rng),
            violations: Arc::default(),
        };
        let (mut pace, mut length) = draw_pace(rng);
        kind.pace(&mut pace, &mut length);
        trace::note(0, &format!("{pace:?}"));
        let clients = Clients::new(&work, CLIENTS, pace, rng);
        let operator = Operator::new(&work);
        trace::name_host("client-0");
        Self {
            run: Run {
                cluster,
                clients,
                operator,
            },
            last: world.add_host("client-0"),
            work,
            length,
            kind,
        }
    }

    fn violation(&self, what: impl Into<String>) {
        self.work
            .violations
            .lock()
            .expect("no panic holds it")
            .push(what.into());
    }

    /// Lets time pass up to a moment.
    fn pass(&self, until: u64) {
        let world = &self.work.world;
        let now = world.now().0;
        if until > now {
            world.run_for(Duration::from_micros(until - now));
        }
        for panic in world.take_panics() {
            self.violation(format!(
                "{} panicked in {}: {}",
                panic.host, panic.task, panic.message
            ));
        }
    }

    fn go(&mut self, rng: &mut SeededRng) {
        self.run.cluster.start();
        self.run.clients.start();
        self.run.operator.start(&self.work);
        let mut nemesis = Nemesis::draw(self.kind, &self.run, rng, SECOND / 2, self.length);
        while let Some(at) = nemesis.next() {
            self.pass(at);
            nemesis.act(&mut self.run);
        }
        self.pass(self.length);
        nemesis.end(&mut self.run);
        self.recover();
        self.look_at_everything(rng);
        self.check();
    }

    /// After the faults every client ends, every order is carried out, and every server that may is back.
    fn recover(&self) {
        let Run {
            cluster,
            clients,
            operator,
        } = &self.run;
        let world = &cluster.world;
        if !world.run_until(RECOVERY, || clients.open() == 0) {
            let calls = self.work.history.calls();
            let open = calls.iter().rev().filter(|call| call.returned.is_none()).take(8);
            let open: Vec<String> = open.map(ToString::to_string).collect();
            self.violation(format!(
                "{} of {CLIENTS} clients did not end within {RECOVERY:?} after the faults; the last calls without an answer: {open:#?}",
                clients.open()
            ));
        }
        if !world.run_until(RECOVERY, || operator.open().is_empty()) {
            self.violation(format!("the operator is not done: {:?}", operator.open()));
        }
        for fault in cluster.faults.lock().expect("no panic holds it").drain(..) {
            self.violation(fault);
        }
        for forgetful in cluster.forgetful_voters() {
            self.violation(forgetful);
        }
        for node in cluster.nodes() {
            let (ended, excused) = match node {
                Node::Meta(at) => {
                    let node = &cluster.metas[at];
                    (&node.ended, node.damaged || node.retired)
                }
                Node::Chunk(at) => (&cluster.chunks[at].ended, cluster.chunks[at].damaged),
            };
            let ended = ended.lock().expect("no panic holds it").clone();
            match ended {
                Some(why) if excused => {
                    trace::note(world.now().0, &format!("{node} is out of service: {why}"));
                    sometimes("a damaged node stayed out of service");
                }
                Some(why) => self.violation(format!("{node} ended or did not start: {why}")),
                None => {}
            }
        }
    }

    /// A last client writes, then reads all that is there; what it sees belongs to the history.
    fn look_at_everything(&mut self, rng: &mut SeededRng) {
        let world = self.work.world.clone();
        let env = world.env(self.last);
        // Nothing changes any more: pages are as one.
        let work = Work {
            page: 2,
            ..self.work.clone()
        };
        let excused = self.run.cluster.excused();
        let voters = self.run.cluster.sound_voters();
        let damaged = self.run.cluster.damaged_disks();
        let inner = env.clone();
        let look = async move {
            let client = workload::connect(&inner, &work, Duration::from_secs(20)).await;
            look::servers(&client, &inner, &work, &excused, &voters).await;
            let replicas = look::look(&client, &inner, &work, &damaged).await;
            (client, replicas)
        };
        let Some((client, expected)) = self.wait_for(&env, look) else {
            self.note_voters();
            self.violation("the last look at everything did not end");
            return;
        };
        self.settle(rng, &expected);
        self.same_state();
        self.one_process_each();
        self.compare(&env, &client, &expected);
    }

    /// Runs a task on `env` to its end; `None` if that takes too long.
    fn wait_for<T: Send + 'static>(
        &self,
        env: &Env,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let result = Arc::new(Mutex::new(None));
        let inner = Arc::clone(&result);
        let task = async move {
            let value = task.await;
            *inner.lock().expect("no panic holds it") = Some(value);
        };
        env.spawn.spawn("look", Box::pin(task));
        let done = || result.lock().expect("no panic holds it").is_some();
        self.work.world.run_until(RECOVERY, done);
        self.pass(0);
        result.lock().expect("no panic holds it").take()
    }
}
