//! What files of awkward sizes take on disks: `drystone-disk-use [--largest-mib N]`.
//!
//! Writes files of one size after another into a cluster of its own, waits until the chunk servers have said what they
//! hold, and prints what a byte costs beside what it may cost. All sizes together take 42 GB of disk.

use drystone_system::files::Stream;
use drystone_system::{Cluster, Http, Options, numbers, wait_for};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: drystone-disk-use [--largest-mib N]
  --largest-mib N  sizes above are left out (10240)
DRYSTONE_BINARY names the binary.";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const UNIT: u64 = 64 * KIB;
const REPLICAS: u64 = 3;
/// Files of a size hold about so much together, but there are 2 at least (of those above 1 GiB 1) and 64 at most.
const TOGETHER: u64 = 64 * MIB;
/// Until chunk servers have said what they hold.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sizes at which something begins to cost more: a block, a unit with and without its tail, what was a size of slots,
/// a chunk.
const SIZES: [u64; 20] = [
    1,
    4 * KIB,
    60 * KIB,
    60 * KIB + 1,
    64 * KIB,
    64 * KIB + 1,
    100_000,
    250 * KIB,
    1_000_000,
    MIB,
    MIB + 1,
    3 * MIB,
    8 * MIB,
    8 * MIB + 1,
    20_000_000,
    64 * MIB,
    64 * MIB + 1,
    100 * MIB,
    1024 * MIB,
    10 * 1024 * MIB,
];

/// Bytes that chunk servers say are taken.
fn used(cluster: &Cluster) -> u64 {
    let status = cluster.status();
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    servers
        .iter()
        .filter_map(|server| server["used_bytes"].as_u64())
        .sum()
}

/// What is taken once it is the same for two heartbeats.
fn settled(cluster: &Cluster) -> u64 {
    let mut last = u64::MAX;
    wait_for("chunk servers say what they hold", PATIENCE, || {
        std::thread::sleep(Duration::from_secs(7));
        let now = used(cluster);
        let same = now == last;
        last = now;
        same.then_some(now)
    })
}

fn put(http: &mut Http, path: &str, seed: u64, size: u64) {
    let mut content = Stream::new(seed, size);
    let answer = http.try_ask("PUT", &format!("/files{path}"), &[], size, &mut content);
    answer.expect("the gateway answers").expect(201);
}

/// What one file may take: chunks of 64 MiB, each with its tail, in units.
fn allowed(size: u64) -> f64 {
    let chunk = |length: u64| {
        let blocks = length.div_ceil(4 * KIB);
        (blocks * 4 * KIB + (64 + blocks * 4).next_multiple_of(4 * KIB)).next_multiple_of(UNIT)
    };
    let most = 64 * MIB;
    let rest = if size.is_multiple_of(most) {
        0
    } else {
        chunk(size % most)
    };
    let rounded = (REPLICAS * (size / most * chunk(most) + rest)) as f64 * 1.03;
    if size >= MIB {
        rounded.min((REPLICAS * size) as f64 * 1.10)
    } else {
        rounded
    }
}

fn run(largest: u64) -> bool {
    let cluster = Cluster::start(Options::processes());
    let mut before = settled(&cluster);
    println!(
        "{:>12} {:>6} {:>14} {:>14} {:>9} {:>9}",
        "size", "files", "content x 3", "taken", "ratio", "allowed"
    );
    let mut good = true;
    for size in SIZES.into_iter().filter(|size| *size <= largest) {
        let files = (TOGETHER / size).clamp(1 + u64::from(size <= 1 << 30), 64);
        // Not the connection of the size before, which was idle for too long.
        let mut http = cluster.http();
        for file in 0..files {
            put(&mut http, &format!("/of-{size}-{file}"), size + file, size);
        }
        let now = settled(&cluster);
        let taken = now - std::mem::replace(&mut before, now);
        let content = files * size * REPLICAS;
        let most = allowed(size) * files as f64;
        let fits = taken as f64 <= most;
        good &= fits;
        println!(
            "{size:>12} {files:>6} {content:>14} {taken:>14} {:>9.3} {:>9.3}{}",
            taken as f64 / content as f64,
            most / content as f64,
            match (taken, fits) {
                (0, _) => "  in the metadata",
                (_, true) => "",
                (_, false) => "  MISSED",
            }
        );
    }
    good
}

fn largest(words: &[String]) -> Result<u64, String> {
    let mut largest = 10 * 1024;
    for (word, number) in numbers(words)? {
        match word {
            "--largest-mib" if number > 0 => largest = number,
            other => return Err(format!("{other} {number}: not known, or out of range")),
        }
    }
    Ok(largest * MIB)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match largest(&words) {
        Ok(largest) if run(largest) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("disk-use: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
