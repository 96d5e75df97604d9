//! What the leader says of bytes that cannot be read, and of writes that it would refuse.

use crate::grace::{beat, write};
use crate::kit::{Client, Cluster};
use crate::leader::WAIT;
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminOp, AdminReply, AdminRequest, ClusterStatus, Empty, LostPage};
use std::time::Duration;

async fn admin(client: &Client, op: AdminOp) -> AdminReply {
    let request = AdminRequest { op: Some(op) };
    client.call(0, Kind::Admin, &request, WAIT).await.unwrap()
}

async fn lost(client: &Client, after: u64) -> LostPage {
    admin(client, AdminOp::Lost(after)).await.lost.unwrap()
}

async fn status(client: &Client) -> ClusterStatus {
    admin(client, AdminOp::Status(Empty {})).await.status.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_whose_servers_are_silent_are_listed_until_they_are_back() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let chunk = write(&client, "/a/b/f").await;
    let other = write(&client, "/g").await;
    assert_eq!(lost(&client, 0).await, LostPage::default());
    assert_eq!(status(&client).await.writes_refused, "");

    cluster.env.clock.sleep(Duration::from_millis(1500)).await;
    let refused = status(&client).await.writes_refused;
    assert!(
        refused.contains("1 replicas are needed, 0 can be placed"),
        "{refused}"
    );
    let page = lost(&client, 0).await;
    assert_eq!((page.next, &*page.unheard), (0, &["chunk-1".to_owned()][..]));
    let ids: Vec<u64> = page
        .chunks
        .iter()
        .map(|lost| lost.chunk.as_ref().unwrap().id)
        .collect();
    assert_eq!(ids, [chunk, other]);
    let deep = &page.chunks[0];
    assert_eq!(
        (deep.servers.as_slice(), deep.more_files),
        (&["chunk-1".to_owned()][..], false)
    );
    let file = &deep.files[0];
    assert_eq!(
        (deep.files.len(), file.offsets.as_slice(), file.detached),
        (1, &[0][..], false)
    );
    let mut directories = Vec::new();
    for path in ["/a", "/a/b"] {
        let found = client.lookup(0, path).await.unwrap();
        directories.push(found.inode.unwrap().id);
    }
    assert_eq!(file.directories, directories);
    let found = client.lookup(0, "/a/b/f").await.unwrap();
    assert_eq!(file.inode, found.inode.unwrap().id);
    assert_eq!(page.chunks[1].files[0].directories, [0u64; 0]);
    // A page goes on above a chunk.
    assert_eq!(lost(&client, chunk).await.chunks.len(), 1);

    assert!(!beat(&client).await.register);
    assert_eq!(lost(&client, 0).await, LostPage::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_has_not_heard_from_a_server_names_it() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let chunk = write(&client, "/f").await;
    cluster.stop(0).await;
    cluster.run(0).await;
    cluster.leader().await;
    let client = cluster.client().await;
    let page = lost(&client, 0).await;
    assert_eq!(page.unheard, ["chunk-1"]);
    assert_eq!(page.chunks[0].chunk.as_ref().unwrap().id, chunk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_leader_does_not_know_is_unknown_and_within_seconds_right() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    write(&client, "/f").await;
    cluster.stop(0).await;
    cluster.run(0).await;
    cluster.leader().await;
    let client = cluster.client().await;
    // The server is not heard again. At no time is it said that nothing is lost: it is not known, or right.
    let mut asked = 0;
    loop {
        let now = status(&client).await;
        asked += 1;
        match now.chunks_lost {
            None => assert_eq!((now.chunks_under_redundant, now.exposure_bytes), (None, None)),
            Some(lost) => {
                assert_eq!(lost, 1);
                break;
            }
        }
        assert!(asked < 300, "never known");
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
}
