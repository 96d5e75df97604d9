//! What no friend would send: to ports, to the command line, as configuration.

use drystone_system::files::bytes;
use drystone_system::http::connect;
use drystone_system::process::{is_alive, memory_kib};
use drystone_system::{Cluster, Options, Running, binary};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Sends all of it if the server takes it, and hears the server out for a moment.
fn send(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // A server that closes the connection in the middle is right to do so.
    let _ = stream.write_all(bytes);
    let _ = stream.read(&mut [0; 4096]);
    stream
}

fn send_and_go(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(address).unwrap();
    // A server that closes the connection in the middle is right to do so.
    let _ = stream.write_all(bytes);
    stream
}

/// CRC-32C, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

/// A header of the wire with a checksum that is right: kind 1, no flags, these lengths.
fn header(body: u32, payload: u32) -> Vec<u8> {
    let mut frame = b"DRY1".to_vec();
    frame.extend([1, 0, 1, 0, 0, 1, 0, 0]);
    frame.extend(1000u32.to_le_bytes());
    frame.resize(56, 0);
    frame.extend(body.to_le_bytes());
    frame.extend(payload.to_le_bytes());
    frame.extend([0; 4]);
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// A header and then a megabyte of anything.
fn oversized(body: u32, payload: u32) -> Vec<u8> {
    let mut frame = header(body, payload);
    frame.resize(1 << 20, 0x55);
    frame
}

#[test]
fn garbage_on_every_port_harms_nobody() {
    assert_eq!(crc(b"123456789"), 0xe306_9283);
    let cluster = Cluster::start(Options::processes());
    cluster.cli_with(&["put", "-", "/file"], &bytes(31, 500_000)).ok();
    let nodes = cluster.nodes();
    let before: Vec<u64> = nodes.iter().map(|node| memory_kib(node.pid, "VmRSS")).collect();
    let mut endless_head = b"GET /files/x HTTP/1.1\r\n".to_vec();
    (0..200_000).for_each(|i| endless_head.extend(format!("x-{i}: y\r\n").bytes()));
    let absurd: Vec<Vec<u8>> = vec![
        bytes(32, 1 << 20),
        oversized(u32::MAX, u32::MAX),
        oversized(u32::MAX, 0),
        oversized(0, u32::MAX),
        oversized(8 << 20, 0),
        [header(0, 0), header(0, 0), bytes(34, 100)].concat(),
        b"DRY1".to_vec(),
        vec![0; 1 << 20],
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /files/../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"PUT /files/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"PUT /files/x HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18446744073709551615\r\n\r\nabc".to_vec(),
        b"PUT /files/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nabc"
            .to_vec(),
        endless_head,
    ];
    let mut held = Vec::new();
    for node in &nodes {
        for address in [&node.rpc, &node.admin] {
            held.extend(absurd.iter().map(|garbage| send(address, garbage)));
            // Connections that announce the largest frame and then are silent, and some that never say anything.
            held.extend((0..40).map(|_| send_and_go(address, &oversized(8 << 20, 1 << 20)[..200])));
            held.extend((0..20).map(|_| connect(address).unwrap()));
        }
    }
    for (node, before) in nodes.iter().zip(before) {
        assert!(is_alive(node.pid), "{} died of garbage", node.name);
        let after = memory_kib(node.pid, "VmRSS");
        println!("{}: {before} KiB, with garbage {after} KiB", node.name);
        assert!(
            after < before + (128 << 10),
            "{} grew from {before} to {after} KiB",
            node.name
        );
    }
    // While all of those connections are open still.
    cluster
        .cli_with(&["put", "-", "/other"], &bytes(33, 500_000))
        .ok();
    assert!(
        cluster.cli(&["cat", "/file", "/other"]).ok() == [bytes(31, 500_000), bytes(33, 500_000)].concat()
    );
    drop(held);
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "file\nother\n");
}

fn node_with(home: &Path, text: &str) -> drystone_system::Answer {
    let file = home.join("node.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(binary());
    command.arg("node").arg("--config").arg(&file);
    Running::start(command).finish()
}

#[test]
fn faults_of_a_configuration_are_all_told() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    node_with(home, "name = ").refused(2, "node.toml");
    node_with(home, "name = \"a\"\ncluster-file = \"c\"\ncolour = 1").refused(2, "colour");
    node_with(home, "name = \"a\"\ncluster-file = \"c\"\n[chunk]\nshade = 1").refused(2, "shade");
    node_with(home, "name = \"a\"\ncluster-file = \"c\"").refused(2, "no role");
    node_with(home, "\u{0}\u{1}\u{2}").refused(2, "node.toml");
    let text = "name = \"\"\ncluster-file = \"c\"\nchunk-node = 0\n\
                [chunk]\ndata = []\nmetadata = []\nlisten = \"127.0.0.1:1\"\nhost = \"\"\nrack = \"\"\n\
                [gateway]\nmetadata = []";
    let answer = node_with(home, text).refused(2, "name must have");
    let answer = answer.refused(2, "needs chunk-node").refused(2, "data is empty");
    answer.refused(2, "[gateway] metadata is empty");
    for words in [
        &["node", "--config", "/none.toml"][..],
        &["format", "--config", "/none.toml"],
    ] {
        let mut command = Command::new(binary());
        command.args(words);
        let answer = Running::start(command).finish();
        assert!(
            answer.code.is_some_and(|code| code != 0) && answer.stderr.contains("/none.toml"),
            "{answer:?}"
        );
    }
    for words in [
        &["--colour"][..],
        &["up", "--chunk-servers", "many"],
        &["up", "--listen", "here"],
        &["no-command"],
    ] {
        let mut command = Command::new(binary());
        command.args(words).current_dir(home);
        Running::start(command)
            .finish()
            .refused(2, words.last().unwrap().trim_start_matches("no-"));
    }
    let mut command = Command::new(binary());
    command
        .args(["up", "--metadata", "9", "--chunk-servers", "0", "--racks", "0"])
        .current_dir(home);
    Running::start(command)
        .finish()
        .refused(2, "--metadata")
        .refused(2, "--chunk-servers")
        .refused(2, "--racks");
}

#[test]
fn a_data_directory_of_another_cluster_is_refused_and_stops_no_other_node() {
    let (mut one, mut other) = (
        Cluster::start(Options::single()),
        Cluster::prepare(Options::single()),
    );
    one.cli_with(&["put", "-", "/file"], b"one").ok();
    one.end_up(drystone_system::process::Signal::TERM);
    other.up();
    other.end_up(drystone_system::process::Signal::TERM);
    let (mine, theirs) = (one.data().join("chunk-1"), other.data().join("chunk-1"));
    let aside = one.home().join("aside");
    fs::rename(&mine, &aside).unwrap();
    fs::rename(&theirs, &mine).unwrap();
    // The others serve; nothing is done to the stranger.
    one.up();
    let said = fs::read_to_string(one.log()).unwrap();
    assert!(said.contains("belongs to cluster"), "{said}");
    assert_eq!(one.cli(&["cat", "/file"]).ok(), b"one");
    one.end_up(drystone_system::process::Signal::TERM);
    fs::remove_dir_all(&mine).unwrap();
    fs::rename(&aside, &mine).unwrap();
    one.up();
    assert_eq!(one.cli(&["cat", "/file"]).ok(), b"one");
}
