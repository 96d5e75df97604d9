//! When the replicas of what was deleted are ordered away.

use crate::kit::{Client, Cluster, HISTORY, KEY, target};
use bytes::Bytes;
use drystone_proto::Kind;
use drystone_proto::cluster::{DiskLoad, Heartbeat, HeartbeatReply, Register, RegisterReply};
use drystone_proto::command::{Content, Delete, NewChunk, NewExtent, Op, Publish, Receipt};
use drystone_proto::data::ServerOrder;
use drystone_proto::grant::{ClusterKey, sign_receipt};
use drystone_proto::meta::{GrantReply, GrantRequest};
use drystone_proto::record::{DiskRecord, NodeRecord, PolicyRecord, role};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);
const POLICY: PolicyRecord = PolicyRecord {
    replicas: 1,
    ack: 0,
    degraded_minimum: 0,
    chunk_bytes: 64 << 20,
};

pub async fn beat(client: &Client) -> HeartbeatReply {
    let load = DiskLoad {
        disk: 10,
        total_bytes: 1 << 40,
        free_bytes: 1 << 39,
        ..DiskLoad::default()
    };
    let beat = Heartbeat {
        // Not the id of the metadata server.
        node: 7,
        incarnation: 1,
        boot_counter: 1,
        boot_random: 5,
        disks: vec![load],
        ..Heartbeat::default()
    };
    client.call(0, Kind::Heartbeat, &beat, WAIT).await.unwrap()
}

/// A file of 5,000 bytes in one chunk on the only server.
pub async fn write(client: &Client, path: &str) -> u64 {
    let node = NodeRecord {
        id: 7,
        incarnation: 1,
        roles: role::CHUNK,
        name: "chunk-1".to_owned(),
        address: "127.0.0.1:10001".to_owned(),
        rack: "r".to_owned(),
        zone: "z".to_owned(),
        host: "h".to_owned(),
        disks: vec![DiskRecord {
            id: 10,
            incarnation: 11,
            device: 1,
            path: "/d".to_owned(),
        }],
        boot_counter: 1,
        boot_random: 5,
        ..NodeRecord::default()
    };
    let register = Register { node: Some(node) };
    let _: RegisterReply = client.call(0, Kind::Register, &register, WAIT).await.unwrap();
    assert!(!beat(client).await.register);
    let ask = GrantRequest {
        count: 1,
        max_bytes: 1 << 20,
        policy: Some(POLICY),
        ..GrantRequest::default()
    };
    let reply: GrantReply = client.call(0, Kind::Grant, &ask, WAIT).await.unwrap();
    let grant = &reply.grants[0];
    let mut receipt = Receipt {
        chunk: grant.chunk,
        epoch: 1,
        length: 5000,
        checksum: 7,
        replica: grant.replicas[0].replica,
        signature: Bytes::new(),
    };
    sign_receipt(&ClusterKey(KEY), HISTORY, &mut receipt);
    let content = Content {
        inline: None,
        extents: vec![NewExtent {
            length: 5000,
            chunk: grant.chunk,
            chunk_offset: 0,
        }],
        chunks: vec![NewChunk {
            chunk: grant.chunk,
            receipts: vec![receipt],
            policy: Some(POLICY),
        }],
    };
    let publish = Publish {
        target: target(path),
        content: Some(content),
        parents: true,
        ..Publish::default()
    };
    let outcome = client.mutate(Op::Publish(publish)).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
    grant.chunk
}

/// The same, deleted.
async fn write_and_delete(client: &Client) -> u64 {
    let chunk = write(client, "/f").await;
    let delete = Delete {
        target: target("/f"),
        ..Delete::default()
    };
    assert_eq!(client.mutate(Op::Delete(delete)).await.code, 0);
    chunk
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doomed_chunk_is_ordered_away_after_its_grace_and_not_before() {
    let cluster = Cluster::start(1, |config| config.doomed_grace = Duration::from_secs(3)).await;
    let client = cluster.client().await;
    client.open().await;
    let chunk = write_and_delete(&client).await;
    let deleted = cluster.env.clock.now();
    // Nothing else is written: log time goes on by itself.
    for _ in 0..200 {
        let asked = cluster.env.clock.now();
        let reply = beat(&client).await;
        if let Some(order) = reply.orders.first().and_then(ServerOrder::as_delete) {
            assert_eq!(order.chunk, chunk);
            let waited = cluster.env.clock.now().since(deleted);
            assert!(waited >= Duration::from_secs(2), "{waited:?}");
            return;
        }
        let waited = asked.since(deleted);
        assert!(waited < Duration::from_secs(12), "never ordered away");
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
    }
    panic!("never ordered away");
}
