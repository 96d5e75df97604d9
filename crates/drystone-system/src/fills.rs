//! A small disk that everything shares, filled and emptied again and again with files of other sizes, everything being
//! started anew in between: what a disk takes must not shrink, and what the status says of it must be what the file system
//! says.

use crate::files::{Seed, bytes};
use crate::mount::{Volume, mount_point};
use crate::process::Signal;
use crate::{Cluster, Http, Options, wait_for};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Until what is full, or deleted, is known everywhere.
const PATIENCE: Duration = Duration::from_secs(120);
const CLIENTS: usize = 4;
const SERVERS: u64 = 3;
/// Lengths of the files of each round, from and to: small beside the disk, of which some are always being written.
const LENGTHS: [(u64, u64); 10] = [
    (300_000, 300_000),
    (4 << 20, 4 << 20),
    (70_000, 1_500_000),
    (1 << 20, 1 << 20),
    (2_000_000, 4_000_000),
    (100_000, 100_000),
    (200_000, 3_000_000),
    (2 << 20, 2 << 20),
    (65_000, 65_000),
    (500_000, 500_000),
];
/// What two ways to count the same may differ by, in percent of the disk.
const APART_PERCENT: u64 = 2;
/// What all journals, logs and the state of the namespace may take on a disk of some GiB, with a few thousand files.
const BESIDE_BYTES: u64 = 320 << 20;
/// What a round must reach of what the first one did.
const REACHED_PERCENT: u64 = 95;

/// A file that was acknowledged.
struct File {
    path: String,
    seed: u64,
    length: u64,
}

/// What a replica of the content takes of a disk: units of 64 KiB, with a checksum per 4 KiB and a head.
fn taken_by(length: u64) -> u64 {
    (length.next_multiple_of(4096) + length / 1024 + 128).next_multiple_of(64 << 10)
}

fn length_of(seed: u64, (low, high): (u64, u64)) -> u64 {
    low + Seed(seed).draw() % (high - low + 1)
}

/// Fills a disk of `disk` bytes `rounds` times, and empties it in between.
///
/// # Panics
/// If a round reaches less than the first, an acknowledged byte is missing, a refusal is another than that there is no space,
/// or the figures of the status are not those of the file system.
pub fn fill_and_empty(rounds: usize, disk: u64) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let place = mount_point(&home.path().join("disk"));
    let volume = Volume::make(disk, &place).expect("the machine lets root mount a disk");
    let options = Options {
        chunk_servers: Some(SERVERS as u32),
        ..Options::lone()
    };
    let mut cluster = Cluster::prepare_in(volume.path(), options);
    cluster.up();
    compare(&cluster, &volume, "new", 0);
    let mut first = None;
    for round in 0..rounds {
        let begun = Instant::now();
        let files = fill(&cluster, round);
        let filled = begun.elapsed();
        let taken: u64 = files.iter().map(|file| taken_by(file.length)).sum();
        let content: u64 = files.iter().map(|file| file.length).sum();
        // Journals and logs are longer after some rounds than after others, within a bound; on a small disk that is seen.
        let beside = volume.used() - arenas(&cluster).iter().sum::<u64>();
        println!(
            "round {round}: {} files, {content} bytes, {taken} taken by each replica, {} MiB of {} MiB used, {} MiB of it by \
             journals, logs and state; {filled:.1?}",
            files.len(),
            volume.used() >> 20,
            disk >> 20,
            beside >> 20
        );
        let taken_in_all = taken * SERVERS + beside;
        compare(&cluster, &volume, "full", taken);
        let first = *first.get_or_insert(taken_in_all);
        assert!(
            taken_in_all * 100 >= first * REACHED_PERCENT,
            "round {round} took {taken_in_all} bytes of the disk, the first one {first}"
        );
        assert!(beside <= BESIDE_BYTES, "{beside} bytes beside the arenas");
        match round % 2 {
            0 => cluster.kill_all(),
            _ => assert!(cluster.end_up(Signal::TERM).success()),
        }
        cluster.up();
        verify(&cluster, &files);
        if round + 1 == rounds {
            break;
        }
        let mut http = cluster.http();
        for file in &files {
            http.ask("DELETE", &file.path, &[], b"").expect(204);
        }
        wait_for("the chunks are gone", PATIENCE, || {
            let total = cluster.status()["chunks"]["total"].as_u64();
            (total == Some(0)).then_some(())
        });
        wait_for("their space is free", PATIENCE, || {
            let used: u64 = disks(&cluster).iter().map(|disk| disk.used).sum();
            (used == 0).then_some(())
        });
        compare(&cluster, &volume, "empty", 0);
        println!(
            "round {round}: verified and emptied after {:.1?}",
            begun.elapsed()
        );
        if round % 2 == 1 {
            cluster.kill_all();
            cluster.up();
        }
    }
}

/// Puts files until each client was told that there is no space, and then one that is alone.
fn fill(cluster: &Cluster, round: usize) -> Vec<File> {
    let (files, next) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    let put = || put_until_full(cluster, round, &next, &files);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(put);
        }
    });
    put();
    files.into_inner().expect("no client panicked")
}

fn put_until_full(cluster: &Cluster, round: usize, next: &AtomicU64, files: &Mutex<Vec<File>>) {
    let (mut http, lengths) = (cluster.http(), LENGTHS[round % LENGTHS.len()]);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let seed = (round as u64) << 32 | number;
        let (path, length) = (format!("/files/{round}-{number}"), length_of(seed, lengths));
        let begun = Instant::now();
        let answer = http.ask("PUT", &path, &[], &bytes(seed, length as usize));
        if answer.status != 201 {
            let said = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, 507, "{said}");
            assert_eq!(answer.json()["code"], "no_space", "{said}");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(10), "refused after {took:?}");
            return;
        }
        let file = File { path, seed, length };
        files.lock().expect("no client panicked").push(file);
    }
}

fn verify(cluster: &Cluster, files: &[File]) {
    let (next, rest) = (AtomicU64::new(0), cluster.rest());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut http = Http::new(&rest);
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let found = http.get(&file.path).expect(200);
                    assert!(
                        found == bytes(file.seed, file.length as usize),
                        "{} has other bytes",
                        file.path
                    );
                }
            });
        }
    });
}

/// What the status says of a disk.
struct Disk {
    used: u64,
    free: u64,
    kept: u64,
    others: u64,
    device: u64,
}

fn disks(cluster: &Cluster) -> Vec<Disk> {
    let status = cluster.status();
    let servers = status["servers"].as_array().expect("a list").iter();
    let disks = servers.flat_map(|server| server["disks"].as_array().expect("a list"));
    let disk = |disk: &serde_json::Value| {
        let number = |key: &str| disk[key].as_u64().expect("a number");
        Disk {
            used: number("used_bytes"),
            free: number("free_bytes"),
            kept: number("kept_bytes"),
            others: number("others_bytes"),
            device: number("device_bytes"),
        }
    };
    disks.map(disk).collect()
}

/// The figures of the status are those of the file system, once all have told anew.
fn compare(cluster: &Cluster, volume: &Volume, when: &str, taken: u64) {
    let (total, arenas) = (volume.total(), arenas(cluster));
    let apart = |what: &str, one: u64, other: u64| {
        let is_apart = one.abs_diff(other) * 100 > total * APART_PERCENT;
        is_apart.then(|| format!("{when}: {what}: {one} and {other} of {total} bytes"))
    };
    let differ = || -> Option<String> {
        let (disks, used) = (disks(cluster), volume.used());
        if disks.len() as u64 != SERVERS {
            return Some(format!("{} disks", disks.len()));
        }
        let sum: u64 = disks.iter().map(|disk| disk.used).sum();
        // Of the last ones some may have two replicas only, and some may be there of what was refused.
        let mut differs = apart("what was written, and what is used", taken * SERVERS, sum);
        for (disk, arenas) in disks.iter().zip(&arenas) {
            let here = used.saturating_sub(*arenas);
            differs = differs
                .or_else(|| apart("size", disk.device, total))
                .or_else(|| {
                    apart(
                        "all of it",
                        disk.used + disk.free + disk.kept + disk.others,
                        total,
                    )
                })
                .or_else(|| apart("others'", disk.others, here))
                .or_else(|| apart("free", disk.free + disk.kept, total - used + arenas - disk.used));
        }
        differs
    };
    let begun = Instant::now();
    while let Some(differs) = differ() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{differs}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Bytes of the arenas of each chunk server.
fn arenas(cluster: &Cluster) -> Vec<u64> {
    let lengths = |directory: &Path| -> u64 {
        let files = fs::read_dir(directory.join("arenas")).expect("arenas are there");
        // One may go meanwhile.
        files
            .flatten()
            .flat_map(|file| file.metadata())
            .map(|file| file.len())
            .sum()
    };
    let servers = cluster.chunk_servers();
    servers
        .iter()
        .map(|server| server.data.iter().map(|directory| lengths(directory)).sum())
        .collect()
}
