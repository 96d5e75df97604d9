//! Registration, heartbeats, orders from the leader.

use crate::cluster::*;
use drystone_chunk::{Handle, StopReason};
use drystone_proto::Kind;
use drystone_proto::cluster::{AskReport, Empty, ErrorReply};
use drystone_proto::data::{ChunkStatus, ReplicaState, ServerOrder};
use drystone_types::Code;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_registers_with_its_disks_and_tells_of_its_replicas() {
    let cluster = Cluster::start(2).await;
    {
        let told = cluster.told.lock().unwrap();
        let node = told.registered.iter().find(|node| node.id == 11).unwrap();
        assert_eq!(
            (node.incarnation, node.boot_counter, &node.rack[..]),
            (101, 1, "rack-1")
        );
        assert_eq!(node.address, cluster.servers[1].address().to_string());
        assert_eq!((node.disks[0].id, node.disks[0].incarnation), (21, 201));
        assert!(node.disks[0].device != 0);
    }
    assert!(cluster.servers[1].ready());
    let token = cluster.token(3, &[1]);
    let frame = Frame {
        chunk: 3,
        token: &token,
        offset: 0,
        data: data(3, 9_000),
        last: false,
        options: cluster.options(),
    };
    cluster.send(&[cluster.hop(1)], frame).await.unwrap();
    let told_of = |told: &Told, state: ReplicaState| {
        let mut all = told
            .heartbeats
            .iter()
            .filter(|beat| beat.node == 11)
            .flat_map(|beat| &beat.open);
        all.any(|status: &ChunkStatus| status.chunk == 3 && status.state == state as i32)
    };
    cluster
        .wait("it is told as open", |told| told_of(told, ReplicaState::Open))
        .await;
    cluster.finish(1, 3, &token, 9_000).await.unwrap();
    cluster
        .wait("it is told as sealed", |told| told_of(told, ReplicaState::Sealed))
        .await;
    cluster
        .wait("loads are told", |told| {
            told.heartbeats
                .iter()
                .any(|beat| beat.node == 11 && beat.disks[0].chunks == 1 && beat.disks[0].free_bytes > 0)
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_term_and_a_forgetful_leader_are_registered_with_again() {
    let cluster = Cluster::start(1).await;
    cluster.told.lock().unwrap().term = 5;
    cluster
        .wait("registered in term 5", |told| told.registered.len() == 2)
        .await;
    cluster.told.lock().unwrap().forget = true;
    cluster
        .wait("registered when asked", |told| told.registered.len() == 3)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_asks_for_a_report_gets_it_before_the_next_heartbeat_is_due() {
    let cluster = Cluster::start(1).await;
    {
        let mut told = cluster.told.lock().unwrap();
        // Half a minute: within this test no heartbeat is due.
        told.heartbeat_ms = 30_000;
        told.heartbeats.clear();
    }
    cluster
        .wait("the interval is known", |told| !told.heartbeats.is_empty())
        .await;
    {
        let mut told = cluster.told.lock().unwrap();
        told.term = 7;
        told.heartbeats.clear();
    }
    let ask = AskReport {
        term: 7,
        leader: cluster.meta.clone(),
    };
    // From a client it is nothing: it could keep servers busy with reports.
    cluster.call::<_, Empty>(0, Kind::AskReport, &ask).await.unwrap();
    cluster.env.clock.sleep(Duration::from_millis(300)).await;
    assert!(cluster.told.lock().unwrap().heartbeats.is_empty());
    let _: Empty = cluster.call_as_server(0, Kind::AskReport, &ask).await;
    cluster
        .wait("registered and reported", |told| {
            told.registered.len() == 2 && !told.heartbeats.is_empty()
        })
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_that_asks_is_told_at_once_whoever_is_being_called() {
    // The only address that is known takes connections and answers nothing.
    let net = drystone_env::Env::os().net;
    let mut silent = net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = silent.address().to_string();
    let cluster = Cluster::start_with(1, |config| {
        config.metadata = vec![address.clone()];
        config.heartbeat_timeout = Duration::from_secs(30);
    })
    .await;
    let (connection, _) = silent.accept().await.unwrap();
    let ask = AskReport {
        term: 1,
        leader: cluster.meta.clone(),
    };
    let _: Empty = cluster.call_as_server(0, Kind::AskReport, &ask).await;
    cluster
        .wait("it registers and reports", |told| {
            told.registered.len() == 1 && !told.heartbeats.is_empty()
        })
        .await;
    drop(connection);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_refused_is_acknowledged_with_the_reason() {
    let cluster = Cluster::start(1).await;
    cluster.write(8, &[0], &data(8, 5_000)).await;
    let older = cluster.delete_order(0, 8, PLACEMENT - 1);
    cluster.told.lock().unwrap().delete.push(older.clone());
    let order = Some(ServerOrder::delete(older));
    cluster
        .wait("refused", |told| {
            let mut acks = told.heartbeats.iter().flat_map(|beat| &beat.acks);
            acks.any(|ack| {
                ack.order == order && ack.code == Code::Conflict.number() && !ack.message.is_empty()
            })
        })
        .await;
    cluster.read(0, 8, 0, 10).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stays_with_the_leader_that_another_named() {
    let cluster = Cluster::start(0).await;
    let asked = Arc::new(AtomicU32::new(0));
    let retired = NotLeader {
        leader: cluster.meta.clone(),
        asked: Arc::clone(&asked),
    };
    let retired = listen(&cluster.env, Arc::new(retired)).await;
    let path = cluster.path(0);
    std::fs::create_dir_all(&path).unwrap();
    let directory = drystone_chunk::DataDirectory::open(&path).unwrap();
    drystone_identity::format(&*directory.disk, &cluster.identity(0)).unwrap();
    drop(directory);
    let server = cluster
        .start_server(0, |config| config.metadata = vec![retired.clone()])
        .await
        .unwrap();
    cluster
        .wait("heartbeats", |told| told.heartbeats.len() >= 5)
        .await;
    assert_eq!(asked.load(Relaxed), 1);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_repeats_what_no_leader_has_heard() {
    let cluster = Cluster::start(1).await;
    cluster.write(8, &[0], &data(8, 5_000)).await;
    let [a, b] = two_disks(&cluster).await;
    {
        let mut told = cluster.told.lock().unwrap();
        told.heartbeats.clear();
        // In step with the two disks: those that tell of the first are lost.
        (told.lose, told.lossy) = (true, true);
    }
    let server = start_on(&cluster, &[&a, &b]).await;
    cluster
        .wait("the sealed replica is told of", |told| {
            let mut all = told.heartbeats.iter().flat_map(|beat| &beat.open);
            all.any(|status| status.chunk == 8)
        })
        .await;
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_in_a_heartbeats_answer_are_executed_and_reported() {
    let cluster = Cluster::start(1).await;
    cluster.write(8, &[0], &data(8, 5_000)).await;
    let order = cluster.delete_order(0, 8, PLACEMENT);
    cluster.told.lock().unwrap().delete.push(order.clone());
    cluster
        .wait("deleted", |told| {
            told.heartbeats
                .iter()
                .any(|beat| deletions(beat) == [order.clone()])
        })
        .await;
    assert_eq!(
        cluster.read(0, 8, 0, 10).await.unwrap_err().code,
        Code::NotFound.number()
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_stops_serving_and_says_why() {
    let cluster = Cluster::start_with(1, |_| ()).await;
    cluster.servers[0].registered().await.unwrap();
    {
        let mut told = cluster.told.lock().unwrap();
        told.refuse = Some((Code::Stranger, "node 10 has another incarnation".into()));
        told.forget = true;
    }
    let reason = cluster.servers[0].stopped().await;
    assert_eq!(
        reason,
        StopReason::Stranger("node 10 has another incarnation".into())
    );
    assert!(!cluster.servers[0].ready());
    assert!(
        cluster
            .env
            .net
            .connect(&cluster.servers[0].address().to_string())
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_removal_is_being_decided_waits_and_ends_only_when_it_is_removed() {
    let undecided = || drystone_rpc::refusal(Code::Busy, "node 10 is being removed");
    let cluster = Cluster::start(1).await;
    // While it runs, and when it is started again.
    {
        let mut told = cluster.told.lock().unwrap();
        told.refusals = vec![undecided(); 15].into();
        told.forget = true;
    }
    cluster
        .wait("the refusal of the removal", |told| {
            told.registered.len() == 1 + 16
        })
        .await;
    cluster.stop().await;
    cluster.told.lock().unwrap().refusals = vec![undecided(); 5].into();
    let data = cluster.path(0);
    let server = start_on(&cluster, &[&data]).await;
    server.registered().await.unwrap();
    server.shutdown().await.unwrap();
    let removed = "node 10 was removed from the cluster: format its directories anew, under a new id";
    {
        let mut told = cluster.told.lock().unwrap();
        told.refusals = vec![undecided(); 5].into();
        told.refuse = Some((Code::Stranger, removed.into()));
    }
    let server = start_on(&cluster, &[&data]).await;
    assert_eq!(server.stopped().await, StopReason::Stranger(removed.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_registration_no_grant_is_accepted() {
    let cluster = Cluster::start_with(1, |config| config.metadata = vec!["127.0.0.1:1".into()]).await;
    assert!(!cluster.servers[0].ready());
    let token = cluster.token(1, &[0]);
    let frame = Frame {
        chunk: 1,
        token: &token,
        offset: 0,
        data: data(1, 10),
        last: true,
        options: cluster.options(),
    };
    let error = cluster.send(&[cluster.hop(0)], frame).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_leaves_the_directory_free() {
    let cluster = Cluster::start_with(1, |_| ()).await;
    cluster.stop().await;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let other = cluster.env.net.bind(any).await.unwrap();
    let taken = other.address();
    let refused = cluster.start_server(0, |config| config.listen = taken).await;
    assert!(matches!(refused, Err(drystone_chunk::StartError::Listen { .. })));
    drop(other);
    cluster
        .start_server(0, |config| config.listen = taken)
        .await
        .unwrap()
        .shutdown()
        .await
        .unwrap();
}

/// A node of two disks that is not running: their directories.
async fn two_disks(cluster: &Cluster) -> [PathBuf; 2] {
    cluster.stop().await;
    let (first, second) = (cluster.path(0), cluster.path(1));
    let mut identity = cluster.identity(0);
    identity.disk = cluster.identity(1).disk;
    let directory = drystone_chunk::DataDirectory::open(&second);
    assert!(directory.is_err(), "it is not made by opening it");
    std::fs::create_dir_all(&second).unwrap();
    let directory = drystone_chunk::DataDirectory::open(&second).unwrap();
    drystone_identity::format(&*directory.disk, &identity).unwrap();
    drop(directory);
    [first, second]
}

async fn start_on(cluster: &Cluster, data: &[&PathBuf]) -> Handle {
    let start = cluster.start_server(0, |config| {
        config.data = data.iter().map(|path| path.to_path_buf()).collect()
    });
    start.await.unwrap()
}

fn boots(cluster: &Cluster) -> Vec<u64> {
    let told = cluster.told.lock().unwrap();
    told.registered.iter().map(|node| node.boot_counter).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disks_missed_different_boots_comes_back() {
    let cluster = Cluster::start(1).await;
    let [a, b] = two_disks(&cluster).await;
    cluster.told.lock().unwrap().judge = true;
    let sets = [
        vec![&a, &b],
        // One counter, two randoms.
        vec![&b],
        vec![&a],
        // Behind by several.
        vec![&a],
        vec![&a],
        vec![&b],
        vec![&a, &b],
        vec![&b],
        vec![&a],
    ];
    for data in sets {
        let server = start_on(&cluster, &data).await;
        server.registered().await.unwrap();
        server.shutdown().await.unwrap();
    }
    assert_eq!(boots(&cluster), [1, 2, 3, 3, 4, 5, 6, 4, 7, 8, 9, 9, 10]);
    // An old image of a disk is refused for good.
    for file in ["boot-a", "boot-b"] {
        std::fs::copy(a.join(file), cluster.root.path().join(file)).unwrap();
    }
    for _ in 0..2 {
        let server = start_on(&cluster, &[&a]).await;
        server.registered().await.unwrap();
        server.shutdown().await.unwrap();
    }
    for file in ["boot-a", "boot-b"] {
        std::fs::copy(cluster.root.path().join(file), a.join(file)).unwrap();
    }
    cluster.told.lock().unwrap().registered.clear();
    let server = start_on(&cluster, &[&a]).await;
    assert_eq!(
        server.stopped().await,
        StopReason::Stranger("boot 11 is over".into())
    );
    assert_eq!(boots(&cluster), [11]);
}

fn missed(expected: u64, retry_after_ms: u32) -> ErrorReply {
    ErrorReply {
        expected,
        retry_after_ms,
        ..drystone_rpc::refusal(Code::Stranger, "boot is over")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_waits_for_the_recorded_process_to_be_silent_but_not_for_ever() {
    let cluster = Cluster::start(1).await;
    cluster.stop().await;
    let data = cluster.path(0);
    let replies = [missed(9, 50), missed(9, 1), missed(9, 0)];
    cluster.told.lock().unwrap().refusals.extend(replies);
    let server = start_on(&cluster, &[&data]).await;
    server.registered().await.unwrap();
    assert_eq!(boots(&cluster), [1, 2, 2, 2, 9]);
    server.shutdown().await.unwrap();
    // It lives.
    cluster.told.lock().unwrap().refusals = vec![missed(99, 1); 20].into();
    let server = start_on(&cluster, &[&data]).await;
    let StopReason::Stranger(reason) = server.stopped().await else {
        panic!("it was not asked to stop")
    };
    assert!(reason.contains("alive"), "{reason}");
    assert_eq!(boots(&cluster).len(), 5 + 6);
    assert_eq!(boots(&cluster).last(), Some(&10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_boot_is_taken_once_and_never_by_a_process_that_was_registered() {
    let cluster = Cluster::start(1).await;
    {
        let mut told = cluster.told.lock().unwrap();
        told.refusals.push_back(missed(9, 0));
        told.forget = true;
    }
    let stranger = StopReason::Stranger("boot is over".into());
    assert_eq!(cluster.servers[0].stopped().await, stranger);
    assert_eq!(boots(&cluster), [1, 1]);
    let data = cluster.path(0);
    let replies = [missed(9, 0), missed(20, 0)];
    cluster.told.lock().unwrap().refusals.extend(replies);
    let server = start_on(&cluster, &[&data]).await;
    assert_eq!(server.stopped().await, stranger);
    assert_eq!(boots(&cluster), [1, 1, 2, 9]);
    // A counter below its own is no reason to come back.
    cluster.told.lock().unwrap().refusals.push_back(missed(10, 0));
    let server = start_on(&cluster, &[&data]).await;
    assert_eq!(server.stopped().await, stranger);
    assert_eq!(boots(&cluster), [1, 1, 2, 9, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_boot_counter_of_a_server_grows_whichever_of_its_disks_are_there() {
    let cluster = Cluster::start(1).await;
    let [first, second] = two_disks(&cluster).await;
    let sets = [
        vec![&first],
        vec![&first, &second],
        vec![&second],
        vec![&first, &second],
        vec![&first],
    ];
    for data in sets {
        let server = start_on(&cluster, &data).await;
        server.registered().await.unwrap();
        assert_eq!(server.disks().len(), data.len());
        server.shutdown().await.unwrap();
    }
    assert_eq!(boots(&cluster), [1, 2, 3, 4, 5, 6]);
}
