//! Hops that fail, pause or fill up; damaged bytes; garbage; restarts.

use crate::cluster::*;
use drystone_chunk::DataDirectory;
use drystone_proto::data::*;
use drystone_proto::record::ReplicaRecord;
use drystone_rpc::CallOptions;
use drystone_types::{ByteCount, Code};
use futures_util::AsyncWriteExt;
use std::sync::Arc;
use std::time::Duration;

fn patience(cluster: &Cluster, milliseconds: u64) -> CallOptions {
    CallOptions::until(cluster.env.clock.now().plus(Duration::from_millis(milliseconds)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_tail_is_blamed_and_the_others_finish_at_what_they_hold() {
    let cluster = Cluster::start(3).await;
    let (chunk, nodes) = (10, [0, 1, 2]);
    let token = cluster.token(chunk, &nodes);
    let hops = nodes.map(|node| cluster.hop(node));
    let bytes = data(chunk, 3 << 20);
    let part = |at: usize| bytes.slice(at << 20..(at + 1) << 20);
    let frame = |at: usize| Frame {
        chunk,
        token: &token,
        offset: (at << 20) as u64,
        data: part(at),
        last: at == 2,
        options: patience(&cluster, 5_000),
    };
    let answer = cluster.send(&hops, frame(0)).await.unwrap().body;
    assert_eq!(
        answer
            .hops
            .iter()
            .map(|hop| (hop.received, hop.code))
            .collect::<Vec<_>>(),
        [(1 << 20, 0); 3]
    );
    cluster.servers[2].shutdown().await.unwrap();
    for at in [1, 2] {
        let answer = cluster.send(&hops, frame(at)).await.unwrap().body;
        let blamed: Vec<_> = answer
            .hops
            .iter()
            .filter(|hop| hop.code != 0)
            .map(|hop| hop.replica)
            .collect();
        assert_eq!(blamed, [Some(cluster.replica(2))], "{answer:?}");
    }
    // The last frame has sealed the survivors: their finish at that length is the same answer.
    for node in [0, 1] {
        let receipt = cluster.finish(node, chunk, &token, 3 << 20).await.unwrap();
        assert_eq!(receipt.checksum, crc32c(&bytes));
        assert!(cluster.read(node, chunk, 1 << 20, 1 << 20).await.unwrap() == part(1));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_hop_is_blamed_wherever_it_stands() {
    let cluster = Cluster::start(3).await;
    let silent = listen(&cluster.env, Arc::new(Silent)).await;
    for (chunk, paused) in [(20, 1), (21, 2)] {
        let token = cluster.token(chunk, &[0, 1, 2]);
        let mut hops = [0, 1, 2].map(|node| cluster.hop(node));
        hops[paused].address.clone_from(&silent);
        let began = cluster.env.clock.now();
        let options = patience(&cluster, 1_500);
        let frame = Frame {
            chunk,
            token: &token,
            offset: 0,
            data: data(chunk, 100_000),
            last: true,
            options,
        };
        let answer = cluster.send(&hops, frame).await.unwrap().body;
        let blamed: Vec<_> = answer.hops.iter().filter(|hop| hop.code != 0).collect();
        assert_eq!(blamed.len(), 1, "{answer:?}");
        assert_eq!(blamed[0].replica, Some(cluster.replica(paused as u64)));
        assert_eq!(blamed[0].code, Code::Unknown.number());
        assert!(blamed[0].waited_us > 500_000, "{}", blamed[0].waited_us);
        assert!(answer.hops[..paused].iter().all(|hop| hop.receipt.is_some()));
        assert!(cluster.env.clock.now().since(began) < Duration::from_millis(1_500));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_refused_there_and_served_by_the_others() {
    let cluster = Cluster::start(3).await;
    let bytes = data(40, (2 << 20) + 5_000);
    cluster.write(40, &[0, 1, 2], &bytes).await;
    let flipped = flip(&cluster.path(1), &bytes[1_500_000..1_500_064]);
    assert_eq!(flipped, 1, "the bytes lie on the disk once");
    let read = |node| cluster.read(node, 40, 1 << 20, 1 << 20);
    assert_eq!(read(1).await.unwrap_err().code, Code::Corrupt.number());
    for node in [0, 2] {
        assert!(read(node).await.unwrap() == bytes.slice(1 << 20..2 << 20));
    }
    // What lies beside the damage is still good.
    assert!(cluster.read(1, 40, 0, 1 << 20).await.unwrap() == bytes.slice(..1 << 20));
    assert!(cluster.read(1, 40, 1 << 20, 4096).await.unwrap() == bytes.slice(1 << 20..(1 << 20) + 4096));
    cluster
        .wait("the error is told", |told| {
            told.heartbeats
                .iter()
                .any(|beat| beat.node == 11 && beat.disks[0].checksum_errors > 0)
        })
        .await;
    cluster.stop().await;
}

/// Flips a bit in every place below `directory` that holds `pattern`; the number of places.
fn flip(directory: &std::path::Path, pattern: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let mut found = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found += flip(&path, pattern);
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        for at in content
            .windows(pattern.len())
            .enumerate()
            .filter(|(_, window)| *window == pattern)
            .map(|(at, _)| at)
        {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[content[at] ^ 1], at as u64).unwrap();
            file.sync_all().unwrap();
            found += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_everything_that_was_acknowledged_is_there() {
    let mut cluster = Cluster::start(1).await;
    let bytes = data(1, (1 << 20) + 999);
    let receipts = cluster.write(1, &[0], &bytes).await;
    let token = cluster.token(2, &[0]);
    let open = data(2, 50_000);
    let synced = Append {
        chunk: 2,
        epoch: 1,
        grant: token.clone(),
        replica: Some(cluster.replica(0)),
        sync: true,
        ..Append::default()
    };
    let payload = drystone_rpc::Payload::new(open.clone());
    let channel = cluster.channels.to(&cluster.servers[0].address().to_string());
    let answer: drystone_rpc::Answer<AppendReply> = channel
        .call(
            drystone_proto::Kind::Append,
            &synced,
            Some(payload),
            cluster.options(),
        )
        .await
        .unwrap();
    assert_eq!(answer.body.hops[0].durable, 50_000);
    cluster.stop().await;

    cluster.servers[0] = cluster.start_server(0, |_| ()).await.unwrap();
    cluster.servers[0].registered().await.unwrap();
    assert!(cluster.read(0, 1, 0, 1 << 20).await.unwrap() == bytes.slice(..1 << 20));
    assert_eq!(
        cluster
            .finish(0, 1, &cluster.token(1, &[0]), bytes.len() as u64)
            .await
            .unwrap(),
        receipts[0]
    );
    let status = cluster.status(0, 2).await;
    assert_eq!(
        (status.state, status.durable),
        (ReplicaState::Open as i32, 50_000)
    );
    assert_eq!(
        cluster.finish(0, 2, &token, 50_000).await.unwrap().checksum,
        crc32c(&open)
    );
    let boots: Vec<u64> = cluster
        .told
        .lock()
        .unwrap()
        .registered
        .iter()
        .map(|node| node.boot_counter)
        .collect();
    assert_eq!(boots, [1, 2]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_harms_nobody() {
    let cluster = Cluster::start(1).await;
    let address = cluster.servers[0].address().to_string();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &[0; 100]] {
        let mut stream = cluster.env.net.connect(&address).await.unwrap();
        let _ = stream.write_all(garbage).await;
    }
    // A known kind with a body that is none, and one that is for others.
    let channel = cluster.channels.to(&address);
    for kind in [
        drystone_proto::Kind::Append,
        drystone_proto::Kind::Read,
        drystone_proto::Kind::Mutate,
    ] {
        let nonsense = drystone_proto::cluster::Ping { nonce: u64::MAX };
        let result: Result<drystone_rpc::Answer<AppendReply>, _> =
            channel.call(kind, &nonsense, None, cluster.options()).await;
        assert!(result.is_err());
    }
    cluster.write(1, &[0], &data(1, 1000)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_appends_and_still_reads_and_deletes() {
    let cluster = Cluster::start_with(1, |config| config.capacity = Some(ByteCount(128 << 20))).await;
    cluster.servers[0].registered().await.unwrap();
    let bytes = data(1, 3 << 20);
    let mut written = 0;
    let refused = loop {
        let chunk = 100 + written;
        let token = cluster.token(chunk, &[0]);
        let frame = Frame {
            chunk,
            token: &token,
            offset: 0,
            data: bytes.slice(..1 << 20),
            last: true,
            options: cluster.options(),
        };
        match cluster.send(&[cluster.hop(0)], frame).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 200, "the disk never fills");
    };
    assert_eq!(refused.code(), Code::NoSpace, "{refused}");
    assert!(written >= 2, "{written}");
    for chunk in [100, 100 + written - 1] {
        assert!(cluster.read(0, chunk, 0, 1 << 20).await.unwrap() == bytes.slice(..1 << 20));
    }
    let orders = (0..written)
        .map(|n| cluster.delete_order(0, 100 + n, PLACEMENT))
        .collect();
    let reply: DeleteReply = cluster
        .call(0, drystone_proto::Kind::Delete, &Delete { orders })
        .await
        .unwrap();
    assert!(reply.codes.iter().all(|code| *code == 0));
    cluster.write(500, &[0], &bytes).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_open_is_left_out() {
    let cluster = Cluster::start_with(1, |_| ()).await;
    cluster.stop().await;
    let unformatted = cluster.root.path().join("unformatted");
    std::fs::create_dir_all(&unformatted).unwrap();
    let server = cluster
        .start_server(0, |config| config.data.push(unformatted.clone()))
        .await
        .unwrap();
    let reports = server.disks();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].fault, "");
    assert!(reports[1].fault.contains("not formatted"), "{}", reports[1].fault);
    // The same directory cannot be started twice, and one that cannot be opened is no server.
    assert!(cluster.start_server(0, |_| ()).await.is_err());
    server.shutdown().await.unwrap();
    let alone = cluster
        .start_server(0, |config| config.data = vec![unformatted.clone()])
        .await;
    assert!(alone.err().unwrap().to_string().contains("not formatted"));
    drop(DataDirectory::open(&cluster.path(0)).expect("unlocked again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_incarnation_of_the_disk_is_not_here() {
    let cluster = Cluster::start(1).await;
    cluster.write(1, &[0], &data(1, 1000)).await;
    let replica = ReplicaRecord {
        incarnation: 1,
        ..cluster.replica(0)
    };
    let ask = ChunkStatusRequest {
        chunk: 1,
        replica: Some(replica),
    };
    let answer: Result<ChunkStatus, _> = cluster.call(0, drystone_proto::Kind::ChunkStatus, &ask).await;
    assert_eq!(answer.unwrap_err().code, Code::NotFound.number());
    cluster.stop().await;
}
