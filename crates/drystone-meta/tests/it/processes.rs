//! Of two processes of one voter one counts.

use crate::kit::{Client, Cluster, Node, free_port};
use drystone_env::Env;
use drystone_meta::MetadataServer;
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminOp, AdminReply, AdminRequest, ClusterInfo, ClusterInfoRequest};
use std::path::Path;
use std::time::Duration;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, place) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &place);
        } else {
            std::fs::copy(&path, &place).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_voter_is_refused_and_ends_and_the_voter_goes_on() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    assert_eq!(client.mutate(Client::publish("before", b"1")).await.code, 0);
    let leader = cluster.leader().await;
    let original = (leader + 1) % 3;
    cluster.stop(original).await;
    let id = cluster.nodes[original].id;
    let mut config = cluster.nodes[original].config.clone();
    config.data = cluster.home.path().join("copy");
    config.listen = free_port().parse().unwrap();
    copy(&cluster.directory(id), &config.data);
    cluster.run(original).await;
    cluster.ready(&cluster.nodes[original]).await;
    assert_eq!(client.mutate(Client::publish("between", b"1")).await.code, 0);
    let address = config.listen.to_string();
    // As another process it draws its boot from a randomness of its own.
    let handle = MetadataServer::start(Env::os(), config.clone()).await.unwrap();
    cluster.nodes.push(Node {
        id,
        address,
        config,
        handle: Some(handle),
    });
    let failure = |cluster: &Cluster, at: usize| cluster.nodes[at].handle.as_ref().unwrap().failure();
    cluster
        .eventually("the copy is refused", || failure(&cluster, 3).is_some())
        .await;
    let why = failure(&cluster, 3).unwrap();
    assert!(why.contains("another process of node"), "{why}");
    assert_eq!(client.mutate(Client::publish("after", b"1")).await.code, 0);
    let goal = cluster.applied(leader);
    cluster
        .eventually("the original goes on", || cluster.applied(original) >= goal)
        .await;
    assert_eq!(failure(&cluster, original), None);
}

/// The one that was away knows the other at its old address, and may be told of the new one by nobody who is not heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_hears_a_leader_that_has_moved_meanwhile() {
    let mut cluster = Cluster::start(5, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    assert_eq!(client.mutate(Client::publish("before", b"1")).await.code, 0);
    let leader = cluster.leader().await;
    let (away, moved) = ((leader + 1) % 5, (leader + 2) % 5);
    let goal = cluster.applied(leader);
    cluster
        .eventually("it has all", || cluster.applied(away) >= goal)
        .await;
    cluster.stop(away).await;
    cluster.stop(moved).await;
    let address = free_port();
    cluster.nodes[moved].config.listen = address.parse().unwrap();
    cluster.nodes[moved].address = address;
    cluster.run(moved).await;
    cluster.ready(&cluster.nodes[moved]).await;
    assert_eq!(client.mutate(Client::publish("between", b"1")).await.code, 0);
    let client = cluster.client().await;
    client.open().await;
    let id = cluster.nodes[moved].id;
    let transfer = AdminRequest {
        op: Some(AdminOp::TransferLeader(id)),
    };
    while cluster.leader().await != moved {
        let at = cluster.leader().await;
        let _: Result<AdminReply, _> = client
            .call(at, Kind::Admin, &transfer, Duration::from_secs(5))
            .await;
        cluster.env.clock.sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(client.mutate(Client::publish("after", b"1")).await.code, 0);
    let goal = cluster.applied(moved);
    cluster.run(away).await;
    cluster
        .eventually("it catches up", || cluster.applied(away) >= goal)
        .await;
}

/// What the process before it acknowledged after the copy was made is not in the copy: the leader must find that out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_that_takes_the_place_of_a_voter_catches_up() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    assert_eq!(client.mutate(Client::publish("before", b"1")).await.code, 0);
    let leader = cluster.leader().await;
    let original = (leader + 1) % 3;
    cluster.stop(original).await;
    let id = cluster.nodes[original].id;
    let data = cluster.home.path().join("copy");
    copy(&cluster.directory(id), &data);
    cluster.run(original).await;
    cluster.ready(&cluster.nodes[original]).await;
    for round in 0..20 {
        let name = format!("between-{round}");
        assert_eq!(client.mutate(Client::publish(&name, b"1")).await.code, 0);
    }
    let goal = cluster.applied(leader);
    cluster
        .eventually("the original has all", || cluster.applied(original) >= goal)
        .await;
    cluster.stop(original).await;
    cluster.nodes[original].config.data = data;
    let address = free_port();
    cluster.nodes[original].config.listen = address.parse().unwrap();
    cluster.nodes[original].address = address;
    // Its first boot has the number of one that counts already, but is drawn from a randomness of its own.
    cluster.env = Env::os();
    cluster.run(original).await;
    cluster
        .eventually("that boot is refused", || {
            let handle = cluster.nodes[original].handle.as_ref();
            handle.is_some_and(|handle| handle.failure().is_some())
        })
        .await;
    cluster.stop(original).await;
    cluster.run(original).await;
    cluster
        .eventually("it catches up", || cluster.applied(original) >= goal)
        .await;
    assert_eq!(cluster.leader().await, leader, "under another leader it is easy");
    let mut votes = Vec::new();
    while votes != [true; 3] {
        let info: ClusterInfo = client
            .call(
                leader,
                Kind::ClusterInfo,
                &ClusterInfoRequest {},
                Duration::from_secs(5),
            )
            .await
            .unwrap();
        votes = info.members.iter().map(|member| member.voter).collect();
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
    // It counts again: with the third one gone, too, it is needed.
    cluster.stop((leader + 2) % 3).await;
    assert_eq!(client.mutate(Client::publish("after", b"1")).await.code, 0);
}
