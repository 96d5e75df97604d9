//! The scenarios, and what they share: a stage with a cluster and its clients, on which one round after the other is
//! played.

mod broken;
mod clock;
mod full;
mod kill;
mod liar;
mod partition;
mod pause;
mod power;
mod rot;
mod sync;
mod weather;

use crate::cluster::{Cluster, Shape, wire};
use crate::proxy::Proxy;
use crate::report::{Report, Round};
use crate::slot::{Outcome, Sizes};
use crate::writer::{Event, Findings, Working, Writers};
use drystone_system::files::Seed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A call that began before the faults ended must have ended so long after them.
const STUCK: Duration = Duration::from_secs(45);

/// How late a frame of a closed connection may arrive: longer than the network's longest time between two attempts.
const LATE: Duration = Duration::from_millis(1300);

/// A kind of fault.
pub struct Scenario {
    /// For `--only`.
    pub name: &'static str,
    /// What it does, for `--list`.
    pub about: &'static str,
    /// Programs that it needs.
    pub programs: &'static [&'static str],
    /// Rounds on one cluster before a fresh one is made.
    pub rounds_per_cluster: u64,
    /// Its cluster.
    pub shape: fn(u64) -> Shape,
    /// Plays one round.
    pub play: fn(&mut Stage, &mut Seed) -> anyhow::Result<Round>,
}

/// All scenarios, the most telling first.
pub const ALL: &[Scenario] = &[
    power::SCENARIO,
    partition::SCENARIO,
    pause::SCENARIO,
    kill::SCENARIO,
    sync::SCENARIO,
    rot::SCENARIO,
    full::SCENARIO,
    broken::SCENARIO,
    weather::SCENARIO,
    clock::SCENARIO,
    liar::SCENARIO,
];

/// A cluster with clients.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// Its clients.
    pub writers: Writers,
    /// The run's directory.
    pub work: PathBuf,
    /// Between the nodes, if the scenario asked for them.
    pub proxies: Vec<Proxy>,
}

/// Servers to spare: writes go on when some are away.
fn roomy(_seed: u64) -> Shape {
    Shape {
        chunk_servers: 5,
        degraded_minimum: 2,
        ..Shape::default()
    }
}

impl Stage {
    /// Makes a cluster and waits until it is ready.
    ///
    /// # Errors
    /// What the machine does not allow, or what a node said.
    pub fn set(binary: &Path, work: &Path, shape: Shape, seed: u64) -> anyhow::Result<Self> {
        let mut cluster = Cluster::make(binary, work, &shape)?;
        let proxies = shape
            .advertised
            .iter()
            .map(|(node, listen)| Proxy::start(listen, &wire(node), seed))
            .collect::<anyhow::Result<_>>()?;
        cluster.start_all(&[])?;
        cluster.wait_all()?;
        // Small files are inline or in one chunk, large ones have up to 4.
        let sizes = Sizes {
            small: 24,
            large: 512,
        };
        let writers = Writers::new(4, 16, sizes, &cluster.rest(), seed);
        Ok(Self {
            cluster,
            writers,
            work: work.to_owned(),
            proxies,
        })
    }

    /// Lets the clients work until so many operations were acknowledged and so much time has passed.
    pub fn warm(working: &Working, operations: u64, time: Duration) {
        let start = Instant::now();
        // Where nothing is acknowledged the round goes on, and says so by its counters.
        while start.elapsed() < time
            || (working.acknowledged() < operations && start.elapsed() < time + Duration::from_secs(10))
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the clients' work after the faults have ended, sees that no call is stuck, and counts.
    pub fn settle(&mut self, working: Working, round: &mut Round) -> Vec<Event> {
        working.stop();
        if !working.settled(STUCK) {
            round.faults.push(format!(
                "a call has no answer {STUCK:?} after the faults have ended"
            ));
            self.cluster.kill("gateway");
        }
        let (events, faults) = working.join(&mut self.writers);
        round.faults.extend(faults);
        count_events(&events, round);
        events
    }

    /// Ends what clients may still have under way somewhere, so that what is seen afterwards stays so: frames of a
    /// dead gateway are sent again for a moment.
    ///
    /// # Errors
    /// If the gateway does not start again.
    pub fn end_calls(&mut self) -> anyhow::Result<()> {
        self.cluster.kill("gateway");
        std::thread::sleep(LATE);
        self.cluster.renew_gateway()
    }

    /// Reads every file.
    pub fn verify(&mut self, round: &mut Round) {
        if self.cluster.wait_leader().is_err() {
            round
                .faults
                .push("the voters find no leader although the faults have ended".to_owned());
            return;
        }
        let Findings {
            files,
            bytes,
            done,
            not_done,
            faults,
        } = self.writers.verify();
        round.count("files read", files);
        round.count("bytes verified", bytes);
        round.count("unknown done", done);
        round.count("unknown not done", not_done);
        round.faults.extend(faults);
    }
}

/// Counts how the operations of a round ended, and shows one refusal of each kind.
pub fn count_events(events: &[Event], round: &mut Round) {
    let mut refusals: BTreeMap<String, (u64, &str)> = BTreeMap::new();
    for event in events {
        let name = match &event.outcome {
            Outcome::Acknowledged => "acknowledged",
            Outcome::Refused(why) => {
                let code = why
                    .split("\"code\":\"")
                    .nth(1)
                    .and_then(|rest| rest.split('"').next());
                let refusal = refusals.entry(code.unwrap_or_default().to_owned());
                refusal.or_insert((0, why)).0 += 1;
                "refused"
            }
            Outcome::Unknown(_) => "unknown",
        };
        round.count(name, 1);
    }
    for (code, (number, why)) in refusals {
        round.notes.push(format!("{number} refused as {code}: {why}"));
    }
}

/// One of `chunk_servers` chunk servers or of the three metadata servers, either kind as often.
fn draw_node(seed: &mut Seed, chunk_servers: u64) -> String {
    match seed.draw() % 2 {
        0 => format!("chunk-{}", seed.draw() % chunk_servers + 1),
        _ => format!("metadata-{}", seed.draw() % 3 + 1),
    }
}

/// How many operations had begun at `at` and had no acknowledgement then.
pub fn under_way(events: &[Event], at: Instant) -> u64 {
    events
        .iter()
        .filter(|event| event.start < at && event.end > at)
        .count() as u64
}

/// Until when a run goes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rounds of each scenario.
    pub rounds: Option<u64>,
    /// The end of the run.
    pub deadline: Option<Instant>,
}

impl Limits {
    fn is_over(&self, rounds: u64) -> bool {
        self.rounds.is_some_and(|most| rounds >= most)
            || self.deadline.is_some_and(|end| Instant::now() >= end)
    }
}

/// Plays the rounds of one scenario. Each has a seed of its own, made of the run's seed, the
/// scenario and its number.
pub fn run(scenario: &Scenario, binary: &Path, work: &Path, seed: u64, limits: Limits, report: &mut Report) {
    let mut stage: Option<Stage> = None;
    let mut on_stage = 0;
    let mut broken = 0;
    while !limits.is_over(report.rounds(scenario.name)) {
        let number = report.rounds(scenario.name);
        let own = u64::from(crc32c::crc32c(scenario.name.as_bytes())) << 16;
        let mut seeds = Seed(seed ^ own ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let round_seed = seeds.draw();
        if on_stage >= scenario.rounds_per_cluster {
            stage = None;
        }
        let start = Instant::now();
        let played = match stage.as_mut() {
            Some(stage) => (scenario.play)(stage, &mut seeds),
            None => {
                on_stage = 0;
                Stage::set(binary, work, (scenario.shape)(round_seed), round_seed)
                    .and_then(|new| (scenario.play)(stage.insert(new), &mut seeds))
            }
        };
        on_stage += 1;
        let is_bad = match played {
            Ok(mut round) => {
                if let Some(stage) = &mut stage {
                    round.faults.extend(stage.cluster.panics());
                }
                let is_bad = !round.faults.is_empty();
                report.add(scenario.name, round_seed, start.elapsed(), round);
                is_bad
            }
            Err(error) => {
                report.error(scenario.name, round_seed, &error);
                broken += 1;
                true
            }
        };
        if is_bad {
            if let Some(stage) = &mut stage {
                keep_evidence(stage, scenario.name, round_seed);
            }
            stage = None;
        }
        if let Err(error) = report.save() {
            eprintln!("chaos: {error:#}");
        }
        // A machine on which nothing works is not asked for ever.
        if broken >= 5 {
            break;
        }
    }
}

/// Copies logs, configurations and disks of a cluster on which something was wrong to where the next run does not
/// remove them. At most 3 of them are kept.
fn keep_evidence(stage: &mut Stage, scenario: &str, seed: u64) {
    let root = evidence();
    let kept = std::fs::read_dir(&root).map_or(0, Iterator::count);
    if kept >= 3 {
        return;
    }
    stage.cluster.kill_all();
    let to = root.join(format!("{scenario}-{seed:016x}"));
    let copy = || -> anyhow::Result<()> {
        std::fs::create_dir_all(&to)?;
        let _ = crate::command::run("sync", &[]);
        for entry in std::fs::read_dir(&stage.work)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name != "disks") {
                let words = [
                    "-r",
                    "--sparse=always",
                    &path.to_string_lossy(),
                    &to.to_string_lossy(),
                ];
                crate::command::run("cp", &words)?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => eprintln!("chaos: logs and disks are kept in {}", to.display()),
        Err(error) => eprintln!("chaos: {error:#}"),
    }
}

/// Where evidence is kept.
fn evidence() -> PathBuf {
    PathBuf::from("/var/tmp/drystone-chaos")
}
