//! Clients that try one kind of operation again and again.

use drystone_system::Http;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two tries: what a failover is measured with.
const PAUSE: Duration = Duration::from_millis(10);
/// A small write lies in the metadata.
const SMALL: usize = 1 << 10;
/// A large write needs chunk servers.
const LARGE: usize = 4 << 20;
/// Whose files they are: those of the measuring program too.
const USER: [(&str, &str); 1] = [("drystone-user", "drystone")];
/// Names that are written again and again.
const NAMES: u64 = 8;

/// What is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The content of a small file.
    Read,
    /// A file of 1 KiB.
    Small,
    /// A file of 4 MiB.
    Large,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Small, Self::Large];

    fn run(self, http: &mut Http, number: u64) -> bool {
        let answer = match self {
            Self::Read => http.try_ask("GET", "/files/failover/read", &USER, 0, &mut &b""[..]),
            Self::Small => put(http, &format!("/files/failover/small-{}", number % NAMES), SMALL),
            Self::Large => put(http, &format!("/files/failover/large-{}", number % NAMES), LARGE),
        };
        answer.is_ok_and(|answer| (200..300).contains(&answer.status))
    }
}

fn put(http: &mut Http, path: &str, length: usize) -> std::io::Result<drystone_system::HttpAnswer> {
    let body = vec![b'f'; length];
    http.try_ask("PUT", path, &USER, length as u64, &mut &body[..])
}

/// When an operation began and ended well.
#[derive(Clone, Copy, Debug)]
pub struct Success {
    /// When it began.
    pub began: Instant,
    /// When its answer was there.
    pub ended: Instant,
}

/// A client in a thread.
pub struct Probe {
    successes: Arc<Mutex<Vec<Success>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Starts to try.
    pub fn start(address: &str, kind: Kind) -> Self {
        let successes = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (into, until, address) = (Arc::clone(&successes), Arc::clone(&stop), address.to_owned());
        let thread = std::thread::spawn(move || {
            let mut http = Http::new(&address);
            for number in 0.. {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                let began = Instant::now();
                if kind.run(&mut http, number) {
                    let ended = Instant::now();
                    into.lock().expect("not poisoned").push(Success { began, ended });
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            successes,
            stop,
            thread: Some(thread),
        }
    }

    /// How long after `kill` the first operation that began after it had succeeded; `None`: not yet.
    pub fn recovered(&self, kill: Instant) -> Option<Duration> {
        let successes = self.successes.lock().expect("not poisoned");
        let first = successes.iter().find(|success| success.began >= kill)?;
        Some(first.ended - kill)
    }

    /// True if something has succeeded since.
    pub fn has_worked_since(&self, time: Instant) -> bool {
        self.recovered(time).is_some()
    }

    /// Forgets what was.
    pub fn forget(&self) {
        self.successes.lock().expect("not poisoned").clear();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only where the harness has a fault, which it has printed.
            let _ = thread.join();
        }
    }
}

/// Clients that create small files without end, as load.
pub struct Writers {
    stop: Arc<AtomicBool>,
    created: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them.
    pub fn start(address: &str, count: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let created = Arc::new(AtomicU64::new(0));
        let threads = (0..count)
            .map(|writer| {
                let (stop, created, address) = (Arc::clone(&stop), Arc::clone(&created), address.to_owned());
                std::thread::spawn(move || {
                    let mut http = Http::new(&address);
                    for number in 0_u64.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let path = format!("/files/failover/load/{writer}/{number}?parents=true");
                        if put(&mut http, &path, 100).is_ok_and(|answer| answer.status < 300) {
                            created.fetch_add(1, Ordering::Relaxed);
                        } else {
                            std::thread::sleep(PAUSE);
                        }
                    }
                })
            })
            .collect();
        Self {
            stop,
            created,
            threads,
        }
    }

    /// Files created so far.
    pub fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // As above.
            let _ = thread.join();
        }
    }
}
