//! The life of one cluster of real processes, lived fast: filled, emptied, filled with other sizes, killed, restarted,
//! robbed of a chunk server and of a voter, with many idle and slow clients all the while.
//!
//! What grows slowly shows only in a life: no seed of the simulator lasts an hour, and it has no descriptors and no
//! file system that others share. Bounds on memory, descriptors, threads and disk are checked throughout, and every
//! acknowledged byte is compared. Read [`life`] (what happens), [`ledger`] (what must be there), [`watch`] (the bounds)
//! and [`crowd`] (the clients that do nothing, slowly).

#![allow(clippy::disallowed_methods, reason = "real processes live in real time")]

mod crowd;
mod ledger;
mod life;
mod progress;
mod watch;

use drystone_system::numbers;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: drystone-soak [--minutes N] [--disk-gib N] [--idle N] | --fills N
  --minutes N   how long (60); the cycle that is under way then ends first
  --disk-gib N  size of the disk that all nodes share (48)
  --idle N      idle connections to each port (200)
  --fills N     instead: a disk of 2 GiB is filled and emptied so often, with files of other sizes each time
DRYSTONE_BINARY names the binary. As root: the disk is a loop device of its own.";

/// How a run is asked for.
struct Options {
    minutes: u64,
    disk_gib: u64,
    idle: usize,
    fills: usize,
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        minutes: 60,
        disk_gib: 48,
        idle: 200,
        fills: 0,
    };
    for (word, number) in numbers(words)? {
        match word {
            "--minutes" => options.minutes = number,
            "--disk-gib" if number >= 4 => options.disk_gib = number,
            "--idle" if number <= 2_000 => options.idle = number as usize,
            "--fills" if number <= 1_000 => options.fills = number as usize,
            other => return Err(format!("{other} {number}: not known, or out of range")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = match options(&words) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("soak: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.fills > 0 {
        drystone_system::fills::fill_and_empty(options.fills, 2 << 30);
        return ExitCode::SUCCESS;
    }
    // Faults of the harness and of the product panic with what was seen; the cluster prints its logs then.
    life::live(
        Duration::from_secs(options.minutes * 60),
        options.disk_gib << 30,
        options.idle,
    );
    ExitCode::SUCCESS
}
