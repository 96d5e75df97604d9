//! Bytes that rot on a disk are never given to a reader.

use drystone_system::files::bytes;
use drystone_system::process::Signal;
use drystone_system::{Cluster, Node, Options, wait_for};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const LENGTH: usize = 3 << 20;
/// Where the byte is, in the file and so in its only chunk.
const PLACE: usize = (1 << 20) + 12_345;

/// Flips one byte of the replica on `node`, in the file of its disk where a unique pattern is found.
fn flip(node: &Node, content: &[u8]) -> PathBuf {
    let needle = &content[PLACE..PLACE + 64];
    for entry in fs::read_dir(node.data[0].join("arenas")).unwrap() {
        let path = entry.unwrap().path();
        let disk = fs::read(&path).unwrap();
        let found = disk.windows(needle.len()).position(|window| window == needle);
        let Some(at) = found else { continue };
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[disk[at] ^ 1], at as u64).unwrap();
        file.sync_all().unwrap();
        println!("flipped a bit of {} at {at}", path.display());
        return path;
    }
    panic!("the file's bytes are in no arena of {}", node.name);
}

fn reports(cluster: &Cluster) -> u64 {
    cluster.status()["damage_reports"].as_u64().unwrap()
}

#[test]
fn a_flipped_byte_is_found_reported_and_never_served() {
    let options = Options {
        processes: true,
        metadata: Some(1),
        chunk_servers: Some(3),
        ..Options::default()
    };
    let cluster = Cluster::start(options);
    let content = bytes(21, LENGTH);
    cluster.cli_with(&["put", "-", "/file"], &content).ok();
    let stat = cluster.cli(&["--json", "stat", "-e", "/file"]).json();
    let replicas = stat["extents"][0]["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    let victim = cluster.node(replicas[0]["server"].as_str().unwrap());
    let others: Vec<Node> = cluster
        .chunk_servers()
        .into_iter()
        .filter(|node| node.name != victim.name)
        .collect();
    flip(&victim, &content);
    assert_eq!(reports(&cluster), 0);

    // The others are silent until a reader has met the damage: it must be, and what the reader gets must be right.
    others
        .iter()
        .for_each(|node| cluster.signal(&node.name, Signal::STOP));
    let read = cluster.begin(&["cat", "/file"]);
    wait_for("a reader meets the damage and reports it", PATIENCE, || {
        (reports(&cluster) > 0).then_some(())
    });
    others
        .iter()
        .for_each(|node| cluster.signal(&node.name, Signal::CONT));
    assert!(
        read.finish().ok() == content,
        "damaged bytes were given to a reader"
    );
    for _ in 0..10 {
        assert!(
            cluster.cli(&["cat", "/file"]).ok() == content,
            "damaged bytes were given to a reader"
        );
        assert!(
            cluster.http().get("/files/file").expect(200) == content,
            "damaged bytes came through REST"
        );
    }

    // With the damaged replica alone, a reader gets an error: no wrong byte, and not all of them.
    others
        .iter()
        .for_each(|node| cluster.signal(&node.name, Signal::KILL));
    let known = reports(&cluster);
    let answer = cluster.cli(&["--json", "cat", "/file"]);
    println!(
        "with the damaged replica alone: {:?} {}",
        answer.code,
        answer.stderr.trim()
    );
    assert!(
        answer.stdout.len() < LENGTH && content.starts_with(&answer.stdout),
        "wrong bytes came out"
    );
    // The others may come back: it is not lost.
    let answer = answer.refused(6, "unavailable");
    assert!(reports(&cluster) > known, "{answer:?} never met the damage");
    // What is whole on it can be read still.
    let range = [("range", "bytes=0-4095")];
    assert!(cluster.http().ask("GET", "/files/file", &range, b"").expect(206) == content[..4096]);
    cluster.revive();
    assert!(cluster.cli(&["cat", "/file"]).ok() == content);
}

#[test]
fn a_block_damaged_on_every_replica_is_called_corrupt() {
    let options = Options {
        processes: true,
        metadata: Some(1),
        chunk_servers: Some(3),
        ..Options::default()
    };
    let mut cluster = Cluster::start(options);
    let content = bytes(22, LENGTH);
    cluster.cli_with(&["put", "-", "/file"], &content).ok();
    cluster.kill_all();
    cluster.up();
    cluster
        .chunk_servers()
        .iter()
        .for_each(|node| drop(flip(node, &content)));
    let answer = cluster.cli(&["--json", "cat", "/file"]).refused(1, "corrupt");
    assert!(
        answer.stdout.len() < LENGTH && content.starts_with(&answer.stdout),
        "wrong bytes came out"
    );
    let range = [("range", "bytes=1048576-1064959")];
    let refused = cluster.http().ask("GET", "/files/file", &range, b"");
    assert_eq!(refused.status, 500, "damage is the cluster's fault: {refused:?}");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(refused.json()["code"], "corrupt");
    assert_eq!(refused.header("content-range"), None);
    let range = [("range", "bytes=2097152-")];
    assert!(cluster.http().ask("GET", "/files/file", &range, b"").expect(206) == content[2 << 20..]);
}
