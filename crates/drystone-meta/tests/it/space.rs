//! Space: what the leader gives out, and what is taken when its own disk is nearly full.

use crate::kit::{Client, Cluster, target};
use crate::leader::{WAIT, ask, beat, enlist, send_beat};
use crate::remove_server::publish;
use drystone_env::sim::StallingDisk;
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
