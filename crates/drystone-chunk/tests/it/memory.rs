//! Bounds on memory under a heavy write.

use crate::cluster::*;
use drystone_types::{ByteCount, MAX_PAYLOAD_BYTES};

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_streams_through_three_servers_stay_below_a_gibibyte() {
    let cluster = Cluster::start_with(3, |config| config.in_flight = ByteCount(32 << 20)).await;
    for server in &cluster.servers {
        server.registered().await.unwrap();
    }
    let before = resident();
    // One buffer for all: what counts is what the servers hold.
    let bytes = data(1, 8 << 20);
    let began = cluster.env.clock.now();
    let mut calls = Vec::new();
    let mut grants = Vec::new();
    for stream in 0..10u64 {
        let nodes = [stream % 3, (stream + 1) % 3, (stream + 2) % 3];
        grants.push((
            200 + stream,
            cluster.token(200 + stream, &nodes),
            nodes.map(|node| cluster.hop(node)),
        ));
    }
    for at in 0..8 {
        for (chunk, token, hops) in &grants {
            let (offset, end) = (at * MAX_PAYLOAD_BYTES, (at + 1) * MAX_PAYLOAD_BYTES);
            let frame = Frame {
                chunk: *chunk,
                token,
                offset: offset as u64,
                data: bytes.slice(offset..end),
                last: at == 7,
                options: cluster.options(),
            };
            calls.push(cluster.send(hops, frame));
        }
    }
    let mut peak = before;
    for call in calls {
        let answer = call.await.unwrap().body;
        assert!(
            answer.hops.len() == 3 && answer.hops.iter().all(|hop| hop.code == 0),
            "{answer:?}"
        );
        peak = peak.max(resident());
    }
    let took = cluster.env.clock.now().since(began);
    println!(
        "80 MiB in {took:?}, {} MiB above {} MiB",
        (peak - before) >> 20,
        before >> 20
    );
    assert!(peak - before < 600 << 20, "{} MiB", (peak - before) >> 20);
    for (chunk, _, _) in &grants {
        let node = chunk % 3;
        assert!(cluster.read(node, *chunk, 7 << 20, 1 << 20).await.unwrap() == bytes.slice(7 << 20..));
    }
    cluster.stop().await;
}
