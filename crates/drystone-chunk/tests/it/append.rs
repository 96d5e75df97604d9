//! Writing down the chain and reading back.

use crate::cluster::*;
use bytes::Bytes;
use drystone_proto::Kind;
use drystone_proto::data::*;
use drystone_proto::grant::{WriteGrant, sign_grant, verify_receipt};
use drystone_proto::record::ReplicaRecord;
use drystone_types::{ByteCount, Code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_travels_down_the_chain_and_is_read_back_from_each() {
    let cluster = Cluster::start(3).await;
    for (chunk, length) in [
        (100, (3 << 20) + 12_345),
        (101, 5),
        (102, 0),
        (103, 1 << 20),
        (104, 70_000),
    ] {
        let bytes = data(chunk, length);
        let receipts = cluster.write(chunk, &[0, 1, 2], &bytes).await;
        let members: Vec<_> = receipts
            .iter()
            .map(|receipt| receipt.replica.unwrap().disk)
            .collect();
        assert_eq!(members, [20, 21, 22]);
        for node in 0..3 {
            let mut back = Vec::new();
            while back.len() < length {
                let here = (length - back.len()).min(1 << 20) as u32;
                back.extend_from_slice(&cluster.read(node, chunk, back.len() as u64, here).await.unwrap());
            }
            assert!(back == bytes, "chunk {chunk} from {node}");
            let beyond = cluster.read(node, chunk, length as u64, 1).await.unwrap_err();
            assert_eq!(beyond.code, Code::Range.number());
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_sequential_reads_come_from_the_cache() {
    let cluster = Cluster::start(1).await;
    let bytes = data(1, (1 << 20) + 300_001);
    cluster.write(1, &[0], &bytes).await;
    let mut at = 0;
    while at < bytes.len() {
        let here = (bytes.len() - at).min(100_000);
        let back = cluster.read(0, 1, at as u64, here as u32).await.unwrap();
        assert!(back == bytes.slice(at..at + here), "at {at}");
        at += here;
    }
    let hits = cluster.servers[0].metrics();
    let hits: u64 = hits
        .lines()
        .find_map(|line| line.strip_prefix("drystone_chunk_cache_hits_total "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(hits >= 8, "{hits}");
    cluster.stop().await;
}

/// Answers and the cache have a bound each: cached blocks once counted against answers for ever, and the server
/// stopped answering when they were as many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cache_leaves_room_for_answers() {
    let cluster = Cluster::start_with(1, |config| {
        config.in_flight = ByteCount(32 << 20);
        config.read_cache = Some(ByteCount(64 << 20));
    })
    .await;
    cluster.servers[0].registered().await.unwrap();
    for chunk in 1..=3 {
        let bytes = data(chunk, 8 << 20);
        cluster.write(chunk, &[0], &bytes).await;
        for at in (0..bytes.len()).step_by(1 << 20) {
            let back = cluster.read(0, chunk, at as u64, 1 << 20).await.unwrap();
            assert!(back == bytes.slice(at..at + (1 << 20)), "chunk {chunk} at {at}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finish_is_answered_the_same_twice_and_another_length_is_refused() {
    let cluster = Cluster::start(1).await;
    let token = cluster.token(5, &[0]);
    let hops = [cluster.hop(0)];
    let bytes = data(5, 10_000);
    let frame = Frame {
        chunk: 5,
        token: &token,
        offset: 0,
        data: bytes.clone(),
        last: false,
        options: cluster.options(),
    };
    cluster.send(&hops, frame).await.unwrap();
    let too_long = cluster.finish(0, 5, &token, 10_001).await.unwrap_err();
    assert_eq!(too_long.code, Code::Conflict.number());
    let first = cluster.finish(0, 5, &token, 9_000).await.unwrap();
    assert_eq!((first.length, first.checksum), (9_000, crc32c(&bytes[..9_000])));
    assert_eq!(cluster.finish(0, 5, &token, 9_000).await.unwrap(), first);
    let other = cluster.finish(0, 5, &token, 8_000).await.unwrap_err();
    assert_eq!(other.code, Code::Conflict.number());
    let named = other.receipt.unwrap();
    assert!(verify_receipt(&KEY, HISTORY, &named));
    assert_eq!(named, first);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_that_are_forged_expired_or_about_something_else_are_refused() {
    let cluster = Cluster::start(2).await;
    let grant = cluster.grant(50, &[0]);
    let foreign = drystone_proto::grant::ClusterKey([8; 32]);
    let sign = |grant: WriteGrant| sign_grant(&KEY, HISTORY, grant);
    let cases: Vec<(Bytes, Code)> = vec![
        (Bytes::from_static(b"nothing"), Code::Denied),
        (sign_grant(&foreign, HISTORY, grant.clone()), Code::Denied),
        (
            sign(WriteGrant {
                chunk: 51,
                ..grant.clone()
            }),
            Code::Denied,
        ),
        (
            sign(WriteGrant {
                epoch: 2,
                ..grant.clone()
            }),
            Code::Denied,
        ),
        (
            sign(WriteGrant {
                expires: 1,
                ..grant.clone()
            }),
            Code::GrantExpired,
        ),
        (
            sign(WriteGrant {
                replicas: vec![cluster.replica(1)],
                ..grant.clone()
            }),
            Code::Denied,
        ),
    ];
    let hops = [cluster.hop(0)];
    for (token, code) in &cases {
        let frame = Frame {
            chunk: 50,
            token,
            offset: 0,
            data: data(1, 10),
            last: true,
            options: cluster.options(),
        };
        let error = cluster.send(&hops, frame).await.unwrap_err();
        assert_eq!(error.code(), *code, "{error}");
        assert_eq!(
            cluster.finish(0, 50, token, 0).await.unwrap_err().code,
            code.number()
        );
    }
    // Nor may a good one be used to reach what it does not list, or to write more than its slots hold.
    let token = sign(grant.clone());
    let frame = |data, offset| Frame {
        chunk: 50,
        token: &token,
        offset,
        data,
        last: false,
        options: cluster.options(),
    };
    let error = cluster
        .send(&[cluster.hop(0), cluster.hop(1)], frame(data(1, 10), 0))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Denied);
    let error = cluster
        .send(&hops, frame(data(1, 10), GRANTED - 5))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    let error = cluster.send(&hops, frame(Bytes::new(), 0)).await.unwrap_err();
    assert_eq!(error.code(), Code::Invalid);
    assert_eq!(cluster.status(0, 50).await.state, ReplicaState::Absent as i32);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_floor_only_replacements_are_taken() {
    let cluster = Cluster::start(1).await;
    cluster.told.lock().unwrap().floor = 60;
    cluster.write(61, &[0], &data(1, 10)).await;
    let beats = cluster.told.lock().unwrap().heartbeats.len();
    cluster
        .wait("heartbeats", |told| told.heartbeats.len() > beats + 1)
        .await;
    let token = cluster.token(59, &[0]);
    let hops = [cluster.hop(0)];
    let send = |token| {
        let frame = Frame {
            chunk: 59,
            token,
            offset: 0,
            data: data(1, 10),
            last: true,
            options: cluster.options(),
        };
        cluster.send(&hops, frame)
    };
    assert_eq!(send(&token).await.unwrap_err().code(), Code::GrantExpired);
    let replacement = sign_grant(
        &KEY,
        HISTORY,
        WriteGrant {
            replacement: true,
            ..cluster.grant(59, &[0])
        },
    );
    assert!(send(&replacement).await.unwrap().body.hops[0].receipt.is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_deleted_by_an_order_for_its_placement_only() {
    let cluster = Cluster::start(1).await;
    cluster.write(7, &[0], &data(7, 100_000)).await;
    cluster.read(0, 7, 0, 100).await.unwrap();
    let older = cluster.delete_order(0, 7, PLACEMENT - 1);
    let forged = DeleteOrder {
        order: Bytes::from_static(b"x"),
        ..cluster.delete_order(0, 7, PLACEMENT)
    };
    let other_disk = DeleteOrder {
        replica: Some(ReplicaRecord {
            incarnation: 5,
            ..cluster.replica(0)
        }),
        ..cluster.delete_order(0, 7, PLACEMENT)
    };
    let refused = Delete {
        orders: vec![older, forged, other_disk],
    };
    let reply: DeleteReply = cluster.call(0, Kind::Delete, &refused).await.unwrap();
    let codes = [Code::Conflict, Code::Denied, Code::Denied].map(Code::number);
    assert_eq!(reply.codes, codes);
    cluster.read(0, 7, 0, 100).await.unwrap();
    let good = Delete {
        orders: vec![cluster.delete_order(0, 7, PLACEMENT); 2],
    };
    let reply: DeleteReply = cluster.call(0, Kind::Delete, &good).await.unwrap();
    assert_eq!(reply.codes, [0, 0]);
    assert_eq!(
        cluster.read(0, 7, 0, 100).await.unwrap_err().code,
        Code::NotFound.number()
    );
    cluster
        .wait("the leader hears of it", |told| {
            told.heartbeats.iter().any(|beat| !deletions(beat).is_empty())
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_copies_its_prefix_to_a_replacement() {
    let cluster = Cluster::start(2).await;
    for (chunk, length) in [(30, (2 << 20) + 77), (31, 0), (32, 2 << 20)] {
        let bytes = data(chunk, length);
        let own = cluster.write(chunk, &[0], &bytes).await.remove(0);
        let grant = WriteGrant {
            replacement: true,
            ..cluster.grant(chunk, &[1])
        };
        let copy = CopyPrefix {
            chunk,
            epoch: 1,
            length: length as u64,
            replica: Some(cluster.replica(0)),
            to: Some(cluster.hop(1)),
            grant: sign_grant(&KEY, HISTORY, grant),
        };
        let reply: FinishReply = cluster.call(0, Kind::CopyPrefix, &copy).await.unwrap();
        let receipt = reply.receipt.unwrap();
        assert!(verify_receipt(&KEY, HISTORY, &receipt));
        assert_eq!((receipt.length, receipt.checksum), (own.length, own.checksum));
        assert_eq!(receipt.replica, Some(cluster.replica(1)));
        let wrong = CopyPrefix {
            length: length as u64 + 1,
            ..copy
        };
        let refused: Result<FinishReply, _> = cluster.call(0, Kind::CopyPrefix, &wrong).await;
        assert_eq!(refused.unwrap_err().code, Code::Conflict.number());
    }
    assert!(
        cluster.read(1, 30, 1 << 20, 1 << 20).await.unwrap()
            == data(30, (2 << 20) + 77).slice(1 << 20..2 << 20)
    );
    cluster.stop().await;
}
