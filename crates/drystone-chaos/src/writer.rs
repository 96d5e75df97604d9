//! Clients: threads that change slots until they are told to stop, and look at them afterwards.

use crate::content;
use crate::slot::{Outcome, Pair, Sizes, Slot, Verdict};
use drystone_system::Http;
use drystone_system::files::Seed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A look at a file is repeated for so long before it counts as out of reach. After the faults have ended the product
/// promises seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Violations that are written down for each round.
const MOST_FAULTS: usize = 8;

/// One operation of a round.
#[derive(Debug)]
pub struct Event {
    /// When it was sent.
    pub start: Instant,
    /// When its outcome was known.
    pub end: Instant,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a client did in a round, and what was wrong with what it read meanwhile.
type Worked = (Vec<Event>, Vec<String>);

/// One client with files of its own.
struct Writer {
    slots: Vec<Slot>,
    seed: Seed,
    address: String,
    sizes: Sizes,
}

/// All clients, between rounds.
pub struct Writers {
    idle: Vec<Writer>,
}

/// All clients at work.
pub struct Working {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<(Writer, Worked)>>,
}

/// What a look at every file found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files (names) that were read.
    pub files: u64,
    /// Acknowledged bytes that were compared.
    pub bytes: u64,
    /// Unknown operations that turned out to be done.
    pub done: u64,
    /// Unknown operations that turned out not to be done.
    pub not_done: u64,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// What a look at some files found while something was wrong.
#[derive(Debug, Default)]
pub struct Glance {
    /// Names that were answered rightly.
    pub good: u64,
    /// Names that were not answered.
    pub refused: u64,
    /// What was wrong in an answer.
    pub faults: Vec<String>,
}

impl Writers {
    /// `count` clients of a gateway with `slots` files each.
    pub fn new(count: u32, slots: u32, sizes: Sizes, address: &str, seed: u64) -> Self {
        let make = |client: u32| Writer {
            slots: (0..slots)
                .map(|slot| Slot::new(client * slots + slot + 1, &format!("/w{client}")))
                .collect(),
            seed: Seed(seed ^ (u64::from(client) << 56)),
            address: address.to_owned(),
            sizes,
        };
        Self {
            idle: (0..count).map(make).collect(),
        }
    }

    /// Starts them.
    pub fn start(&mut self) -> Working {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let threads = self.idle.drain(..).map(|mut writer| {
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                let worked = writer.work(&stop, &acknowledged);
                (writer, worked)
            })
        });
        Working {
            threads: threads.collect(),
            stop,
            acknowledged,
        }
    }

    /// Reads files once, while something is wrong, for at most `time`; `end` breaks off what hangs then.
    pub fn glance(&mut self, time: Duration, mut end: impl FnMut()) -> Glance {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = self
            .idle
            .drain(..)
            .map(|writer| {
                let stop = stop.clone();
                std::thread::spawn(move || {
                    let glance = writer.glance(&stop);
                    (writer, glance)
                })
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < time && !threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        end();
        let mut all = Glance::default();
        for thread in threads {
            let (writer, glance) = thread.join().expect("a reader does not panic");
            self.idle.push(writer);
            all.good += glance.good;
            all.refused += glance.refused;
            all.faults.extend(glance.faults);
        }
        all
    }

    /// Reads every file and compares it with what was acknowledged.
    pub fn verify(&mut self) -> Findings {
        let threads: Vec<_> = self
            .idle
            .drain(..)
            .map(|mut writer| {
                std::thread::spawn(move || {
                    let findings = writer.verify();
                    (writer, findings)
                })
            })
            .collect();
        let mut all = Findings::default();
        for thread in threads {
            let (writer, findings) = thread.join().expect("a reader does not panic");
            self.idle.push(writer);
            all.files += findings.files;
            all.bytes += findings.bytes;
            all.done += findings.done;
            all.not_done += findings.not_done;
            all.faults.extend(findings.faults);
        }
        all
    }
}

impl Working {
    /// Operations acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Says that no new operation is to begin.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits so long for the operations under way; true if none is left.
    pub fn settled(&self, patience: Duration) -> bool {
        let start = Instant::now();
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if start.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Ends the round: what was done, and what was wrong with what was read meanwhile.
    pub fn join(self, writers: &mut Writers) -> Worked {
        self.stop();
        let (mut events, mut faults) = (Vec::new(), Vec::new());
        for thread in self.threads {
            let (writer, (done, wrong)) = thread.join().expect("a writer does not panic");
            writers.idle.push(writer);
            events.extend(done);
            faults.extend(wrong);
        }
        events.sort_by_key(|event| event.start);
        (events, faults)
    }
}

impl Writer {
    fn work(&mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> Worked {
        let mut http = Http::new(&self.address);
        let (mut events, mut faults) = (Vec::new(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let at = (self.seed.draw() % self.slots.len() as u64) as usize;
            let slot = &mut self.slots[at];
            if slot.maybe.is_some() {
                // Everything may rest while nothing can be reached: do not spin.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if self.seed.draw().is_multiple_of(8) {
                faults.extend(glance(slot, &mut http));
                continue;
            }
            let operation = slot.plan(&mut self.seed, self.sizes);
            let start = Instant::now();
            let outcome = slot.run(&mut http, operation);
            match &outcome {
                Outcome::Acknowledged => {
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                // A refusal may come at once.
                Outcome::Refused(_) | Outcome::Unknown(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            events.push(Event {
                start,
                end: Instant::now(),
                outcome,
            });
        }
        faults.truncate(MOST_FAULTS);
        (events, faults)
    }

    fn glance(&self, stop: &AtomicBool) -> Glance {
        let mut http = Http::new(&self.address);
        let mut glance = Glance::default();
        let names = self
            .slots
            .iter()
            .flat_map(|slot| slot.names.iter().zip(&slot.known).map(move |pair| (slot, pair)));
        for (slot, (name, expected)) in names {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match look(&mut http, slot.id, name) {
                Look::Found(found) if found == *expected || slot.maybe.is_some() => glance.good += 1,
                Look::Found(found) => glance.faults.push(format!(
                    "{name}: {} was read, {} is acknowledged",
                    content::describe(&found),
                    content::describe(expected)
                )),
                Look::Wrong(fault) => glance.faults.push(format!("{name}: {fault}")),
                Look::Later(_) => glance.refused += 1,
            }
        }
        glance
    }

    fn verify(&mut self) -> Findings {
        let mut http = Http::new(&self.address);
        let mut findings = Findings::default();
        for slot in &mut self.slots {
            let unknown = slot.maybe.is_some();
            let mut pair = Pair::default();
            let mut broken = None;
            for (found, name) in pair.iter_mut().zip(&slot.names) {
                match look_patiently(&mut http, slot.id, name) {
                    Ok(content) => *found = content,
                    Err(fault) => broken = Some(format!("{name}: {fault}")),
                }
                findings.files += 1;
            }
            if let Some(fault) = broken {
                let story = slot.story(&pair, slot.maybe.as_ref());
                findings.faults.push(format!("{fault}; {story}"));
                // The next one would take as long.
                break;
            }
            match slot.judge(pair) {
                Ok(verdict) => {
                    findings.bytes += slot.bytes();
                    findings.done += u64::from(unknown && verdict == Verdict::New);
                    findings.not_done += u64::from(unknown && verdict == Verdict::Old);
                }
                Err(fault) => {
                    // Whether it is lost or was only read too early makes a difference to whoever looks for the cause.
                    std::thread::sleep(Duration::from_secs(1));
                    let again = slot
                        .names
                        .each_ref()
                        .map(|name| look_patiently(&mut http, slot.id, name));
                    let same = again
                        .into_iter()
                        .zip(&slot.known)
                        .all(|(now, then)| now.as_ref() == Ok(then));
                    let later = if same { "the same" } else { "something else" };
                    findings
                        .faults
                        .push(format!("{fault}\n      a second later: {later}"));
                    if findings.faults.len() >= MOST_FAULTS {
                        break;
                    }
                }
            }
        }
        findings
    }
}

/// Reads one name of a slot in the middle of everything: an answer, if there is one, must be right.
fn glance(slot: &Slot, http: &mut Http) -> Option<String> {
    for (name, expected) in slot.names.iter().zip(&slot.known) {
        match look(http, slot.id, name) {
            Look::Found(found) if found != *expected => {
                let mut pair = slot.known.clone();
                pair[usize::from(*name == slot.names[1])] = found;
                return Some(format!("read while writing: {}", slot.story(&pair, None)));
            }
            Look::Wrong(fault) => return Some(format!("read while writing: {name}: {fault}")),
            Look::Found(_) | Look::Later(_) => {}
        }
    }
    None
}

enum Look {
    Found(content::Content),
    Wrong(String),
    Later(String),
}

fn look(http: &mut Http, id: u32, name: &str) -> Look {
    let answer = match http.try_ask("GET", &format!("/files{name}"), &[], 0, &mut &b""[..]) {
        Ok(answer) => answer,
        Err(fault) => return Look::Later(fault.to_string()),
    };
    match answer.status {
        200 => match content::read(id, &answer.body) {
            Ok(sequences) => Look::Found(Some(sequences)),
            Err(fault) => Look::Wrong(fault),
        },
        404 => Look::Found(None),
        status => Look::Later(format!("{status} {}", String::from_utf8_lossy(&answer.body))),
    }
}

fn look_patiently(http: &mut Http, id: u32, name: &str) -> Result<content::Content, String> {
    let start = Instant::now();
    loop {
        match look(http, id, name) {
            Look::Found(content) => return Ok(content),
            Look::Wrong(fault) => return Err(fault),
            Look::Later(fault) if start.elapsed() > PATIENCE => {
                return Err(format!("cannot be read for {PATIENCE:?}: {fault}"));
            }
            Look::Later(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
