//! Bounds on what the processes use, looked at every second.

use drystone_system::process::{is_alive, memory_kib, started_on};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Of one process at any time, beside the blocks that chunk servers keep for readers.
const MEMORY_KIB: u64 = 2 << 20;
/// What chunk servers keep for readers is such a part of the machine's memory, whatever the number of servers.
const READ_CACHE_PART: u64 = 8;
/// Threads of one process.
const THREADS: u64 = 256;
/// Descriptors of one process, beside those of the idle clients.
const DESCRIPTORS: u64 = 1_500;

/// What the processes of a cluster use together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processes.
    pub processes: u64,
    /// Resident memory.
    pub memory_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// Looks on from a thread of its own until it is dropped.
pub struct Watch {
    home: PathBuf,
    ended: Arc<AtomicBool>,
    fault: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the processes started on `home`, each of which has up to `clients` idle clients.
    pub fn start(home: &Path, clients: u64) -> Self {
        let (ended, fault) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let (inner, told, path) = (Arc::clone(&ended), Arc::clone(&fault), home.to_owned());
        let thread = std::thread::spawn(move || {
            while !inner.load(Ordering::Relaxed) {
                for pid in started_on(&path) {
                    if let Some(excess) = look(pid).and_then(|usage| excess(&usage, clients)) {
                        *told.lock().expect("nobody panics with it") =
                            Some(format!("process {pid}: {excess}"));
                    }
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self {
            home: home.to_owned(),
            ended,
            fault,
            thread: Some(thread),
        }
    }

    /// # Panics
    /// If a bound was exceeded since the start.
    #[track_caller]
    pub fn check(&self) {
        if let Some(fault) = &*self.fault.lock().expect("nobody panics with it") {
            panic!("a bound is exceeded: {fault}");
        }
    }

    /// What all processes use now.
    pub fn usage(&self) -> Usage {
        let all = started_on(&self.home).into_iter().filter_map(look);
        all.fold(Usage::default(), |sum, one| Usage {
            processes: sum.processes + 1,
            memory_kib: sum.memory_kib + one.memory_kib,
            threads: sum.threads + one.threads,
            descriptors: sum.descriptors + one.descriptors,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its faults were told by `check`.
            let _ = thread.join();
        }
    }
}

/// What one process uses; nothing if it ends meanwhile.
fn look(pid: u32) -> Option<Usage> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let usage = std::panic::catch_unwind(|| Usage {
        processes: 1,
        memory_kib: memory_kib(pid, "VmRSS"),
        threads: fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u64),
        descriptors,
    });
    usage.ok().filter(|_| is_alive(pid))
}

fn excess(usage: &Usage, clients: u64) -> Option<String> {
    let allowed = MEMORY_KIB + machine_kib() / READ_CACHE_PART;
    if usage.memory_kib > allowed {
        return Some(format!("{} KiB of memory, {allowed} allowed", usage.memory_kib));
    }
    if usage.threads > THREADS {
        return Some(format!("{} threads, {THREADS} allowed", usage.threads));
    }
    let allowed = DESCRIPTORS + clients;
    (usage.descriptors > allowed).then(|| format!("{} descriptors, {allowed} allowed", usage.descriptors))
}

/// Memory of the machine.
fn machine_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = total.and_then(|total| total.split_ascii_whitespace().next());
    number.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
