//! Space: what the leader gives out, and what is taken when its own disk is nearly full.

use crate::kit::{Client, Cluster, target};
use crate::leader::{WAIT, ask, beat, enlist, send_beat};
use crate::remove_server::publish;
use drystone_env::sim::StallingDisk;
use drystone_meta::Config;
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminOp, AdminReply, AdminRequest, Empty, Heartbeat};
use drystone_proto::command::{Delete, Op};
use drystone_proto::data::{ChunkStatus, ReplicaState};
use drystone_proto::meta::{ChunkGrant, GrantReply, GrantRequest};
use drystone_rpc::CallError;
use drystone_types::{ByteCount, Code};
use std::sync::Arc;
use std::time::Duration;

const M1: u64 = 1 << 20;

/// A heartbeat of a server whose disk has 200 MiB, of which so many are free, and that holds these chunks.
fn said(free: u64, held: &[ChunkGrant]) -> Heartbeat {
    let mut beat = beat(11);
    beat.disks[0].total_bytes = 200 * M1;
    beat.disks[0].free_bytes = free * M1;
    let status = |grant: &ChunkGrant| ChunkStatus {
        chunk: grant.chunk,
        state: ReplicaState::Open as i32,
        replica: grant.replicas[0].replica,
        ..ChunkStatus::default()
    };
    beat.open = held.iter().map(status).collect();
    beat
}

async fn grant(client: &Client, count: u32, bytes: u64) -> Result<Vec<ChunkGrant>, CallError> {
    let ask = GrantRequest {
        count,
        max_bytes: bytes,
        ..ask(1)
    };
    let reply: GrantReply = client.call(0, Kind::Grant, &ask, WAIT).await?;
    Ok(reply.grants)
}

/// Grants of 32 MiB until one is refused.
async fn grant_all(client: &Client) -> Vec<ChunkGrant> {
    let mut all = Vec::new();
    for _ in 0..100 {
        match grant(client, 1, 32 * M1).await {
            Ok(grants) => all.extend(grants),
            Err(error) => {
                assert_eq!(error.code(), Code::NoSpace, "{error}");
                return all;
            }
        }
    }
    panic!("space without end was granted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_granted_is_not_granted_again_until_it_is_given_back() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    enlist(&client, &[11]).await;
    send_beat(&client, &said(200, &[])).await;
    let first = grant_all(&client).await;
    assert_eq!(first.len(), 6, "of 200 MiB, each with its checksums");
    // A heartbeat that does not know of them changes nothing.
    send_beat(&client, &said(200, &[])).await;
    assert_eq!(grant_all(&client).await.len(), 0);
    // The disk has taken space for all of them: it is not counted twice.
    send_beat(&client, &said(200 - 6 * 33, &first)).await;
    assert_eq!(grant_all(&client).await.len(), 0);
    // Four of them needed little of it.
    send_beat(&client, &said(200 - 2 * 33, &[])).await;
    let second = grant_all(&client).await;
    assert_eq!(second.len(), 4);
    // Of what is recorded its length counts, before any heartbeat tells of it.
    for (number, grant) in second[..2].iter().enumerate() {
        publish(&client, &format!("file-{number}"), grant, 1000).await;
    }
    // Who is refused looks at the disks again, but not at each microsecond.
    cluster.env.clock.sleep(Duration::from_millis(20)).await;
    assert_eq!(grant_all(&client).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_advance_no_more_is_granted_than_leaves_others_something() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    enlist(&client, &[11]).await;
    send_beat(&client, &said(200, &[])).await;
    assert_eq!(grant(&client, 64, 4 * M1).await.unwrap().len(), 34);
    assert_eq!(grant(&client, 64, 4 * M1).await.unwrap().len(), 1);
    assert_eq!(grant(&client, 64, M1 / 16).await.unwrap().len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_takes_deletions_and_comes_back_by_itself() {
    let mut cluster = Cluster::start(1, |config| config.disk_reserve = Some(ByteCount(M1))).await;
    cluster.stop(0).await;
    let mut directory = cluster.open(0);
    let disk = Arc::new(StallingDisk::new(Arc::clone(&directory.disk), "", Arc::default()));
    directory.disk = Arc::clone(&disk) as _;
    cluster.run_on(0, directory).await;
    cluster.ready(&cluster.nodes[0]).await;
    let client = cluster.client().await;
    client.open().await;
    for name in ["a", "b"] {
        assert_eq!(client.mutate(Client::publish(name, b"content")).await.code, 0);
    }
    disk.limit_free(M1 - 1);
    let mut refused = None;
    for round in 0..1000 {
        match client
            .try_mutate(0, Client::publish(&format!("new-{round}"), b""))
            .await
        {
            Ok(_) => cluster.env.clock.sleep(Duration::from_millis(10)).await,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused.expect("the disk is nearly full").code(), Code::NoSpace);
    // Whoever comes now, and whoever has a session already.
    let other = cluster.client().await;
    other.open().await;
    for (client, name) in [(&client, "a"), (&other, "b")] {
        let delete = Delete {
            target: target(name),
            ..Delete::default()
        };
        assert_eq!(client.mutate(Op::Delete(delete)).await.code, 0, "{name}");
    }
    assert_eq!(other.lookup(0, "a").await.unwrap_err().code(), Code::NotFound);
    let still = client.try_mutate(0, Client::publish("new", b"")).await;
    assert_eq!(still.unwrap_err().code(), Code::NoSpace);
    disk.limit_free(u64::MAX);
    let mut taken = false;
    for _ in 0..1000 {
        taken = client.try_mutate(0, Client::publish("again", b"")).await.is_ok();
        if taken {
            break;
        }
        cluster.env.clock.sleep(Duration::from_millis(10)).await;
    }
    assert!(taken, "there is room again");
    let ask = AdminRequest {
        op: Some(AdminOp::Status(Empty {})),
    };
    let said: AdminReply = client.call(0, Kind::Admin, &ask, WAIT).await.unwrap();
    let refused = said.status.unwrap().writes_refused;
    assert!(!refused.contains("nearly full"), "{refused}");
}

/// A lone voter on a disk whose free space is told as it is limited, and a client with a session.
async fn limited(tune: fn(&mut Config)) -> (Cluster, Arc<StallingDisk>, Client) {
    let mut cluster = Cluster::start(1, tune).await;
    cluster.stop(0).await;
    let mut directory = cluster.open(0);
    let disk = Arc::new(StallingDisk::new(Arc::clone(&directory.disk), "", Arc::default()));
    directory.disk = Arc::clone(&disk) as _;
    cluster.run_on(0, directory).await;
    cluster.ready(&cluster.nodes[0]).await;
    let client = cluster.client().await;
    client.open().await;
    (cluster, disk, client)
}

/// Publishes files of `length` bytes until one is refused for want of space, and deletions with it: how many there are.
async fn publish_until_nothing_is_taken(cluster: &Cluster, client: &Client, length: usize) -> u64 {
    let mut number = 0;
    while number < 20_000 {
        let op = Client::publish(&format!("file-{number}"), &vec![7; length]);
        let Err(error) = client.try_mutate(0, op).await else {
            number += 1;
            continue;
        };
        if error.code() == Code::InlineRefused {
            // It has just become the leader, and has not looked who answers.
            cluster.env.clock.sleep(Duration::from_millis(10)).await;
            continue;
        }
        assert_eq!(error.code(), Code::NoSpace, "{error}");
        assert!(error.to_string().contains("nothing is taken"), "{error}");
        let delete = Delete {
            target: target("file-0"),
            ..Delete::default()
        };
        let refused = client.try_mutate(0, Op::Delete(delete)).await;
        assert_eq!(refused.unwrap_err().code(), Code::NoSpace);
        let ask = AdminRequest {
            op: Some(AdminOp::Status(Empty {})),
        };
        let said: AdminReply = client.call(0, Kind::Admin, &ask, WAIT).await.unwrap();
        let why = said.status.unwrap().writes_refused;
        assert!(why.contains("nothing is taken"), "{why}");
        return number;
    }
    panic!("nothing ends");
}

/// There is room again: commands are taken, and all that was acknowledged is there, after a start, too.
async fn goes_on(mut cluster: Cluster, disk: &StallingDisk, client: &Client, files: u64) {
    disk.limit_free(u64::MAX);
    let mut taken = false;
    for _ in 0..1000 {
        taken = client.try_mutate(0, Client::publish("again", b"")).await.is_ok();
        if taken {
            break;
        }
        cluster.env.clock.sleep(Duration::from_millis(10)).await;
    }
    assert!(taken, "there is room again");
    assert_eq!(cluster.nodes[0].handle.as_ref().unwrap().failure(), None);
    cluster.stop(0).await;
    cluster.run(0).await;
    cluster.ready(&cluster.nodes[0]).await;
    let client = cluster.client().await;
    for number in 0..files {
        client.lookup(0, &format!("file-{number}")).await.unwrap();
    }
    client.lookup(0, "again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_wait_for_room_and_commands_are_refused_when_memory_is_used_up() {
    let (cluster, disk, client) = limited(|config| {
        config.overlay = ByteCount(1 << 20);
        config.log_segment = ByteCount(16 << 20);
    })
    .await;
    disk.limit_free(0);
    // So long that commands are refused, not held up.
    cluster.env.clock.sleep(Duration::from_secs(4)).await;
    let files = publish_until_nothing_is_taken(&cluster, &client, 100).await;
    assert!(files > 100, "{files}");
    goes_on(cluster, &disk, &client, files).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_gets_no_segment_refuses_commands_before_its_end() {
    let (cluster, disk, client) = limited(|_| {}).await;
    disk.limit_free(0);
    let files = publish_until_nothing_is_taken(&cluster, &client, 4000).await;
    // Two segments of a megabyte, but for a quarter of one.
    assert!((200..450).contains(&files), "{files}");
    goes_on(cluster, &disk, &client, files).await;
}
