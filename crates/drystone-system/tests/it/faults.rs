//! A server dies in the middle of what a user does, or the user dies.

use drystone_system::files::{Stream, Summer, bytes};
use drystone_system::process::{Signal, state};
use drystone_system::{Cluster, Node, Options, Running, wait_for};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PIECE: usize = 1 << 20;
/// What is fed between two looks at the servers.
const STEP: u64 = 2 << 20;
/// Three chunks and a bit.
const LARGE: u64 = 200 << 20;

/// A source that comes slowly, piece by piece.
struct Slow {
    source: Stream,
    left: u64,
}

impl Slow {
    fn new(seed: u64, length: u64) -> Self {
        Self {
            source: Stream::new(seed, length),
            left: length,
        }
    }

    fn feed(&mut self, put: &mut Running, length: u64) {
        let mut piece = vec![0; PIECE];
        let mut todo = length.min(self.left);
        while todo > 0 {
            let room = PIECE.min(todo as usize);
            self.source.read_exact(&mut piece[..room]).unwrap();
            put.feed(&piece[..room]);
            std::thread::sleep(Duration::from_millis(5));
            todo -= room as u64;
            self.left -= room as u64;
        }
    }
}

/// Bytes of replicas that are not sealed, as the disk of each server says for its heartbeats; asked for again until
/// no more of them come.
fn open_bytes(cluster: &Cluster, nodes: &[Node]) -> Vec<u64> {
    let mut before = Vec::new();
    wait_for("the writer has sent what it has", PATIENCE, || {
        // Longer than the time between two heartbeats.
        std::thread::sleep(Duration::from_millis(1500));
        let metric = |node: &Node| cluster.metric(node, "drystone_chunk_open_bytes") as u64;
        let now: Vec<u64> = nodes.iter().map(metric).collect();
        let is_quiet = std::mem::replace(&mut before, now.clone()) == now;
        is_quiet.then_some(now)
    })
}

/// Feeds in steps with pauses until the bytes of the last step lie on three servers, in replicas that are not
/// sealed: such a server, and the bytes.
fn half_written(cluster: &Cluster, slow: &mut Slow, put: &mut Running) -> (Node, u64) {
    let nodes = cluster.chunk_servers();
    let mut before = open_bytes(cluster, &nodes);
    for _ in 0..10 {
        slow.feed(put, STEP);
        let after = open_bytes(cluster, &nodes);
        let grown = nodes.iter().zip(before.iter().zip(&after));
        let chain: Vec<&Node> = grown
            .filter(|(_, (before, after))| **after >= **before + STEP)
            .map(|(node, _)| node)
            .collect();
        if chain.len() == 3 {
            return (chain[1].clone(), STEP);
        }
        println!("the writer began another chunk: {before:?}, {after:?}");
        before = after;
    }
    panic!("no three servers hold the last bytes of the write");
}

fn compare(cluster: &Cluster, path: &str, seed: u64, length: u64) {
    let (mut found, mut expected) = (Summer::default(), Summer::default());
    let answer = cluster
        .http()
        .stream("GET", path, &[], 0, &mut &b""[..], &mut found);
    assert_eq!(answer.unwrap().0, 200);
    io::copy(&mut Stream::new(seed, length), &mut expected).unwrap();
    assert_eq!(
        (found.length, found.sum()),
        (expected.length, expected.sum()),
        "{path} came back otherwise"
    );
}

fn extents(cluster: &Cluster, path: &str) -> Vec<(u64, u64, Vec<String>)> {
    let stat = cluster.cli(&["--json", "stat", "-e", path]).json();
    let number = |value: &Value| value.as_u64().unwrap();
    let servers = |extent: &Value| -> Vec<String> {
        let replicas = extent["replicas"].as_array().unwrap();
        replicas
            .iter()
            .map(|replica| replica["server"].as_str().unwrap().to_owned())
            .collect()
    };
    let extents = stat["extents"].as_array().unwrap();
    extents
        .iter()
        .map(|extent| {
            (
                number(&extent["offset"]),
                number(&extent["length"]),
                servers(extent),
            )
        })
        .collect()
}

/// Hits a server that holds a part of a chunk. That the fault comes before the acknowledgement is certain: the
/// source has stopped, and goes on after the fault only; the last bytes that came from it lie on that server in a
/// replica that is not sealed, so that there is no receipt for it and no chunk that counts.
fn hit_in_the_middle(signal: Signal) {
    let cluster = Cluster::start(Options::processes());
    let mut put = cluster.begin(&["-q", "put", "-", "/large"]);
    let mut slow = Slow::new(11, LARGE);
    slow.feed(&mut put, 80 << 20);
    let (victim, taken) = half_written(&cluster, &mut slow, &mut put);
    let fed = LARGE - slow.left;
    cluster.signal(&victim.name, signal);
    // The writer waits for the rest, and the file is not even visible.
    assert!(put.runs(), "the write was over when {} was hit", victim.name);
    assert_eq!(cluster.http().get("/metadata/large").status, 404);
    if signal == Signal::STOP {
        assert_eq!(state(victim.pid), Some('T'));
    }
    println!(
        "{} was hit by {signal:?} with {taken} bytes that nobody had acknowledged; {fed} of {LARGE} were fed",
        victim.name
    );
    let start = Instant::now();
    slow.feed(&mut put, LARGE);
    put.finish().ok();
    println!("the write ended {:?} later", start.elapsed());
    let list = extents(&cluster, "/large");
    let mut end = 0;
    for (offset, length, servers) in &list {
        println!("  {offset} +{length}: {servers:?}");
        assert_eq!(*offset, end, "the layout has a gap: {list:?}");
        let distinct: BTreeSet<&String> = servers.iter().collect();
        assert_eq!(distinct.len(), 3, "not redundant: {list:?}");
        // What lay there and was not sealed does not count there, nor does anything that came later.
        assert!(
            offset + length <= fed - taken || !servers.contains(&victim.name),
            "{} counts for bytes that it cannot have acknowledged: {list:?}",
            victim.name
        );
        end = offset + length;
    }
    assert_eq!(end, LARGE);
    compare(&cluster, "/files/large", 11, LARGE);
    if signal == Signal::STOP {
        cluster.signal(&victim.name, Signal::CONT);
    } else {
        cluster.revive();
    }
    compare(&cluster, "/files/large", 11, LARGE);
}

#[test]
fn a_write_goes_on_when_a_chunk_server_of_its_chain_is_killed() {
    hit_in_the_middle(Signal::KILL);
}

#[test]
fn a_write_goes_on_when_a_chunk_server_of_its_chain_is_paused() {
    hit_in_the_middle(Signal::STOP);
}

#[test]
fn a_client_killed_in_the_middle_of_a_put_leaves_no_file() {
    let cluster = Cluster::start(Options::single());
    cluster.cli_with(&["put", "-", "/old"], b"old content").ok();
    for path in ["/new", "/old"] {
        let mut put = cluster.begin(&["-q", "put", "-", path]);
        Slow::new(12, LARGE).feed(&mut put, 70 << 20);
        let node = &cluster.chunk_servers()[0];
        let taken = wait_for("bytes arrive", PATIENCE, || {
            let taken = cluster.metric(node, "drystone_chunk_appended_bytes_total");
            (taken > 0.0).then_some(taken)
        });
        put.kill();
        assert_eq!(put.finish().code, None);
        println!("{} had taken {taken} bytes when the client was killed", node.name);
    }
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "old\n");
    cluster.cli(&["cat", "/new"]).refused(3, "/new");
    assert_eq!(cluster.cli(&["cat", "/old"]).ok(), b"old content");
    cluster.cli_with(&["put", "-", "/new"], b"now whole").ok();
    assert_eq!(cluster.cli(&["cat", "/new"]).ok(), b"now whole");
}

#[test]
fn no_write_fails_while_the_metadata_leader_dies() {
    let cluster = Cluster::start(Options::processes());
    let mut worst = Duration::ZERO;
    // Every third file is too large to lie in the namespace: its chunk has to be granted by a leader.
    let content = |seed: u64| bytes(seed, if seed.is_multiple_of(3) { 200_000 } else { 50 });
    for round in 0..2 {
        let leader = cluster.leader();
        let mut http = cluster.http();
        let mut put = |name: &str, seed: u64| {
            let answer = http.put(&format!("/files/{name}"), &content(seed));
            assert_eq!(
                answer.status,
                201,
                "{name}: {}",
                String::from_utf8_lossy(&answer.body)
            );
        };
        (0..12).for_each(|i| put(&format!("before-{round}-{i}"), i));
        cluster.signal(&leader, Signal::KILL);
        let start = Instant::now();
        put(&format!("after-{round}-0"), 0);
        worst = worst.max(start.elapsed());
        println!(
            "round {round}: {leader} killed, the next write was done after {:?}",
            start.elapsed()
        );
        (1..12).for_each(|i| put(&format!("after-{round}-{i}"), i));
        cluster
            .cli_with(&["put", "-", &format!("/command-{round}")], b"command")
            .ok();
        assert_ne!(cluster.leader(), leader);
        for i in 0..12 {
            for name in [format!("before-{round}-{i}"), format!("after-{round}-{i}")] {
                assert!(
                    cluster.http().get(&format!("/files/{name}")).expect(200) == content(i),
                    "{name}"
                );
            }
        }
        cluster.revive();
    }
    println!("longest time without a write: {worst:?} (3 s are promised)");
}
