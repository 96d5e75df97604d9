//! Of two processes of one voter one counts.

use crate::kit::{Client, Cluster, Node, free_port};
use drystone_env::Env;
use drystone_meta::MetadataServer;
use std::path::Path;

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
