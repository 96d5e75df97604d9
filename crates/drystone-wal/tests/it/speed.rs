//! What the log costs beside the smallest program that does the same disk work. Run it alone, optimised:
//! `cargo test -p drystone-wal --release --test it speed -- --ignored --nocapture`.

use bytes::Bytes;
use drystone_env::os::{OsClock, OsDisk};
use drystone_env::{BufferPool, Clock, Disk, Monotonic, OpenOptions, io};
use drystone_wal::{Lsn, Wal, WalConfig, tools};
use std::path::Path;
use std::sync::Arc;

const SEGMENT_BYTES: u64 = 16 << 20;

/// Seconds for `rounds` batches of `per_batch` records of `record_bytes`, each durable before the next.
fn seconds_of_log(root: &Path, rounds: u64, per_batch: u64, record_bytes: usize) -> f64 {
    let clock = OsClock::new();
    let pool = BufferPool::new(64 << 20);
    let config = WalConfig {
        segment_bytes: SEGMENT_BYTES,
        spare_segments: 2,
        ..WalConfig::default()
    };
    let disk = Arc::new(OsDisk::new(root).unwrap());
    let (mut wal, _) = Wal::open(disk, config, pool.clone(), &mut |_, _| Ok(())).unwrap();
    let record = Bytes::from(vec![7; record_bytes]);
    let run = |wal: &mut Wal, rounds| {
        for _ in 0..rounds {
            for _ in 0..per_batch {
                wal.append(std::slice::from_ref(&record)).unwrap();
            }
            tools::drain(wal, Monotonic(0), &pool).unwrap();
            wal.release(Lsn(wal.durable().0.saturating_sub(per_batch)));
        }
    };
    // Until every segment has been used once.
    run(&mut wal, rounds / 4);
    let start = clock.now();
    run(&mut wal, rounds);
    clock.now().since(start).as_secs_f64()
}

/// The limit: the same writes to a pre-written file, and a sync each.
fn seconds_of_limit(root: &Path, rounds: u64, batch_bytes: usize) -> f64 {
    let clock = OsClock::new();
    let pool = BufferPool::new(64 << 20);
    let disk = OsDisk::new(root).unwrap();
    let options = OpenOptions {
        direct: true,
        ..OpenOptions::default()
    };
    let file = io::create(
        &disk as &dyn Disk,
        "limit",
        (SEGMENT_BYTES, 0),
        options,
        true,
        &pool,
    )
    .unwrap();
    let mut buffer = pool.take(batch_bytes);
    buffer.fill(7);
    let start = clock.now();
    for round in 0..rounds {
        let places = SEGMENT_BYTES / batch_bytes as u64;
        file.write_at(&buffer, round % places * batch_bytes as u64)
            .unwrap();
        file.sync_data().unwrap();
    }
    clock.now().since(start).as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn the_log_beside_its_limit() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (what, rounds, per_batch, record_bytes) in [
        ("one record of 100 bytes", 4_000, 1, 100),
        ("64 records of 132 bytes", 2_000, 64, 132),
        ("one record of 64 KiB", 1_000, 1, 64 << 10),
        ("three records of 1 MiB", 100, 3, 1 << 20),
    ] {
        let bytes = (96 + per_batch as usize * (4 + record_bytes)).next_multiple_of(4096);
        let limit = seconds_of_limit(directory.path(), rounds, bytes);
        let log = seconds_of_log(directory.path(), rounds, per_batch, record_bytes);
        let (batches, megabytes) = (rounds as f64 / log, (rounds as usize * bytes) as f64 / log / 1e6);
        println!(
            "{what}: {batches:.0} batches/s, {megabytes:.0} MB/s, {:.2} of the limit",
            limit / log
        );
    }
}
