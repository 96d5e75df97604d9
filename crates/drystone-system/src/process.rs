//! Processes by their ids: signals, what they were started with, how much memory they have.

use rustix::process::{Pid, kill_process};
use std::fs;
use std::path::Path;

pub use rustix::process::Signal;

/// Sends a signal; a process that is gone is no fault.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended a moment ago.
        let _ = kill_process(pid, signal);
    }
}

/// True while the process runs (or is stopped); a zombie is dead.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The letter of its state in /proc: `T` is stopped.
pub fn state(pid: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit(')').next()?.trim_start().chars().next()
}

/// A line of `/proc/PID/status` in KiB, as `VmHWM`.
///
/// # Panics
/// If the process does not live.
pub fn memory_kib(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {field} in the status of process {pid}"))
}

/// The processes one of whose arguments names something in `directory`. The directory of a test has a name that
/// nothing else on the machine uses.
pub fn started_on(directory: &Path) -> Vec<u32> {
    let prefix = directory.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word.starts_with(prefix)) && pid != std::process::id() {
            found.push(pid);
        }
    }
    found
}
