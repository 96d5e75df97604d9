//! Memory is bounded, whatever the size of a file.

use drystone_system::files::{Stream, Summer};
use drystone_system::process::memory_kib;
use drystone_system::{Cluster, Options, setting};
use std::io;
use std::time::Instant;

/// What a file of any size may cost, of all processes' roles together.
const LIMIT_KIB: u64 = 1 << 20;

#[test]
fn a_large_file_streams_through_little_memory() {
    let cluster = Cluster::start(Options::single());
    // `DRYSTONE_RSS_GIB=5` for the size that is promised.
    let length = match setting("DRYSTONE_RSS_GIB", 0) {
        0 => 512 << 20,
        gib => gib << 30,
    };
    let pid = cluster.up_pid();
    let idle = memory_kib(pid, "VmHWM");
    let mut http = cluster.http();
    let start = Instant::now();
    http.try_ask("PUT", "/files/large", &[], length, &mut Stream::new(41, length))
        .unwrap()
        .expect(201);
    let (put, written) = (start.elapsed(), memory_kib(pid, "VmHWM"));
    let start = Instant::now();
    let (mut found, mut expected) = (Summer::default(), Summer::default());
    let answer = http
        .stream("GET", "/files/large", &[], 0, &mut &b""[..], &mut found)
        .unwrap();
    assert_eq!(answer.0, 200);
    let (get, peak) = (start.elapsed(), memory_kib(pid, "VmHWM"));
    println!(
        "{length} bytes: idle {idle} KiB, after PUT ({put:?}) {written} KiB, after GET ({get:?}) {peak} KiB"
    );
    io::copy(&mut Stream::new(41, length), &mut expected).unwrap();
    assert_eq!((found.length, found.sum()), (expected.length, expected.sum()));
    assert!(peak <= LIMIT_KIB, "peak memory {peak} KiB");
}
