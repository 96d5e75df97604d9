//! Few descriptors, and peers that take them: storage goes on.

use drystone_system::{Cluster, Options};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const LIMIT: u32 = 1024;
/// To each port, more than all descriptors.
const CONNECTIONS: usize = 1050;
/// A listener that waits for room lets the system keep some more connections, and then answers nothing.
const CONNECT: Duration = Duration::from_millis(100);

/// Idle connections to `address`, as many as it takes.
fn occupy(address: &str) -> Vec<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let mut held = Vec::new();
    let mut refused = 0;
    while held.len() < CONNECTIONS && refused < 20 {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => held.push(stream),
            Err(_) => refused += 1,
        }
    }
    held
}

fn open_descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn idle_connections_on_every_port_keep_nobody_out() {
    let cluster = Cluster::start(Options {
        descriptors: Some(LIMIT),
        ..Options::single()
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", cluster.up_pid())).unwrap();
    let of_files = limits.lines().find(|line| line.starts_with("Max open files"));
    assert_eq!(
        of_files
            .unwrap()
            .split_whitespace()
            .skip(3)
            .take(2)
            .collect::<Vec<_>>(),
        ["1024", "1024"],
        "raising must not help"
    );
    cluster.http().put("/files/before", b"before").expect(201);
    let content = vec![7; 5 << 20];
    let ports: Vec<String> = (cluster.nodes().into_iter())
        .flat_map(|node| [node.rpc, node.admin])
        .collect();
    assert!(ports.len() >= 10, "{ports:?}");
    let mut held = Vec::new();
    for (number, port) in ports.iter().enumerate() {
        // Those of the last two ports stay: a test may have few descriptors too.
        if held.len() > 1 {
            held.remove(0);
        }
        held.push(occupy(port));
        let name = format!("/files/file-{number}");
        cluster.http().put(&name, &content).expect(201);
        assert_eq!(cluster.http().get(&name).expect(200), content, "{port} is full");
        let open = open_descriptors(cluster.up_pid());
        assert!(open < LIMIT as usize, "{open} descriptors");
    }
    // For some time, with many small files: stores make and drop files of their own meanwhile.
    let until = Instant::now() + Duration::from_secs(15);
    let mut number = 0;
    while Instant::now() < until {
        cluster
            .http()
            .put(&format!("/files/small-{number}"), b"small")
            .expect(201);
        number += 1;
    }
    drop(held);
    assert_eq!(cluster.http().get("/files/before").expect(200), b"before");
    let log = fs::read_to_string(cluster.log()).unwrap();
    for fault in ["Too many open files", "os error 24", "oisoned"] {
        assert!(!log.contains(fault), "{fault} in\n{log}");
    }
}
