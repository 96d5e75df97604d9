//! Removing a chunk server for good.

use crate::kit::{Client, Cluster, HISTORY, KEY, target};
use crate::leader::{WAIT, beat, enlist, send_beat, server};
use bytes::Bytes;
use drystone_proto::Kind;
use drystone_proto::cluster::{
    AdminOp, AdminReply, AdminRequest, Empty, Heartbeat, HeartbeatReply, Register, RegisterReply,
    RemoveServer, RemovedServer,
};
use drystone_proto::command::{Content, Delete, NewChunk, NewExtent, Op, Publish, Receipt, UpdateNode};
use drystone_proto::data::OrderAck;
use drystone_proto::grant::{ClusterKey, sign_receipt};
use drystone_proto::meta::{ChunkGrant, GrantReply, GrantRequest};
use drystone_proto::record::{NodeRecord, PolicyRecord};
use drystone_rpc::CallError;
use drystone_types::Code;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(100);

/// A file in one chunk with so many replicas; the disks that hold them.
async fn write(client: &Client, path: &str, replicas: u32) -> Vec<u64> {
    let policy = PolicyRecord {
        replicas,
        ack: 0,
        degraded_minimum: 0,
        chunk_bytes: 64 << 20,
    };
    let ask = GrantRequest {
        count: 1,
        max_bytes: 1 << 20,
        policy: Some(policy),
        ..GrantRequest::default()
    };
    let reply: GrantReply = client.call(0, Kind::Grant, &ask, WAIT).await.unwrap();
    let grant = &reply.grants[0];
    publish(client, path, grant, 5000).await;
    (grant.replicas.iter())
        .map(|granted| granted.replica.unwrap().disk)
        .collect()
}

/// Publishes a file of one chunk, of which its servers have said that they hold so many bytes.
pub async fn publish(client: &Client, path: &str, grant: &ChunkGrant, length: u64) {
    let receipts = grant.replicas.iter().map(|granted| {
        let mut receipt = Receipt {
            chunk: grant.chunk,
            epoch: 1,
            length,
            checksum: 7,
            replica: granted.replica,
            signature: Bytes::new(),
        };
        sign_receipt(&ClusterKey(KEY), HISTORY, &mut receipt);
        receipt
    });
    let content = Content {
        inline: None,
        extents: vec![NewExtent {
            length,
            chunk: grant.chunk,
            chunk_offset: 0,
        }],
        chunks: vec![NewChunk {
            chunk: grant.chunk,
            receipts: receipts.collect(),
            policy: grant.policy,
        }],
    };
    let publish = Publish {
        target: target(path),
        content: Some(content),
        ..Publish::default()
    };
    let outcome = client.mutate(Op::Publish(publish)).await;
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

async fn admin(client: &Client, op: AdminOp) -> Result<AdminReply, CallError> {
    client
        .call(0, Kind::Admin, &AdminRequest { op: Some(op) }, WAIT)
        .await
}

async fn remove(client: &Client, node: u64, force: bool) -> Result<RemovedServer, (Code, String)> {
    let removed = admin(client, AdminOp::RemoveServer(RemoveServer { node, force })).await;
    match removed {
        Ok(reply) => Ok(reply.removed.unwrap()),
        Err(error) => Err((error.code(), error.reply().unwrap().message.clone())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_while_its_removal_is_undecided_waits() {
    let cluster = Cluster::start(1, |config| config.suspect_after = Duration::from_secs(2)).await;
    let client = cluster.client().await;
    enlist(&client, &[1]).await;
    let register = async |boot_counter| -> Result<RegisterReply, CallError> {
        let node = NodeRecord {
            boot_counter,
            ..server(1)
        };
        let register = Register { node: Some(node) };
        client.call(0, Kind::Register, &register, WAIT).await
    };
    let heartbeat = async |boot_counter| -> Result<HeartbeatReply, CallError> {
        let beat = Heartbeat {
            boot_counter,
            ..beat(1)
        };
        client.call(0, Kind::Heartbeat, &beat, WAIT).await
    };
    let update = async |update: UpdateNode| {
        let update = UpdateNode { node: 1, ..update };
        admin(&client, AdminOp::UpdateNode(update)).await.unwrap();
    };
    // As a removal does, and as its leader leaves it behind that fails in the middle.
    update(UpdateNode {
        fenced: Some(true),
        removing: true,
        ..UpdateNode::default()
    })
    .await;
    let undecided = |error: CallError| {
        let reply = error.reply().unwrap();
        assert_eq!(error.code(), Code::Busy, "{}", reply.message);
        assert!(
            reply.retry_after_ms > 0 && reply.message.contains("admin servers --remove 1"),
            "{reply:?}"
        );
    };
    let status = admin(&client, AdminOp::Status(Empty {})).await.unwrap().status;
    let status = status.unwrap();
    assert_eq!(status.servers[0].state, "fenced");
    assert!(status.warnings.iter().any(|warning| warning.contains("given up")));
    // The process that ran, and one that was started again, as often as they like.
    for _ in 0..3 {
        undecided(heartbeat(1).await.unwrap_err());
        undecided(register(2).await.unwrap_err());
    }
    // It lives, so it is not removed for the asking, and the refusal lets it work again.
    let (code, message) = remove(&client, 1, false).await.unwrap_err();
    assert!(code == Code::Conflict && message.contains("alive"), "{message}");
    heartbeat(1).await.unwrap();
    register(2).await.unwrap();
    heartbeat(2).await.unwrap();
    // Decided: it ends. A machine that is busy may have changed the leader's office, which must have heard it again then.
    let mut removed = remove(&client, 1, true).await;
    for _ in 0..100 {
        if !matches!(removed, Err((Code::Unavailable, _))) {
            break;
        }
        cluster.env.clock.sleep(STEP).await;
        removed = remove(&client, 1, true).await;
    }
    removed.unwrap();
    for error in [heartbeat(2).await.unwrap_err(), register(3).await.unwrap_err()] {
        assert_eq!(error.code(), Code::Stranger);
        assert!(
            error
                .reply()
                .unwrap()
                .message
                .contains("format its directories anew")
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_server_is_removed_with_its_loss_named_and_its_doomed_chunks_end() {
    let cluster = Cluster::start(1, |config| {
        config.suspect_after = Duration::from_secs(1);
        config.doomed_grace = Duration::from_millis(100);
    })
    .await;
    let client = cluster.client().await;
    client.open().await;
    enlist(&client, &[1, 2]).await;
    write(&client, "/both", 2).await;
    let lost = write(&client, "/one", 1).await[0] / 10;
    let other = 3 - lost;
    // The lost one is silent, the other reports.
    for _ in 0..15 {
        send_beat(&client, &beat(other)).await;
        cluster.env.clock.sleep(STEP).await;
    }
    assert_eq!(remove(&client, 99, false).await.unwrap_err().0, Code::NotFound);
    let (code, message) = remove(&client, other, false).await.unwrap_err();
    assert!(code == Code::Conflict && message.contains("alive"), "{message}");
    let (code, message) = remove(&client, lost, false).await.unwrap_err();
    assert_eq!(code, Code::NotEmpty);
    assert!(
        message.contains("of 1 chunk(s): 5000"),
        "the loss is named: {message}"
    );
    let loss = remove(&client, lost, true).await.unwrap();
    let expected = RemovedServer {
        replicas: 2,
        lost_chunks: 1,
        lost_bytes: 5000,
    };
    assert_eq!(loss, expected);
    // Its id is used up.
    let status = admin(&client, AdminOp::Status(Empty {})).await.unwrap().status;
    let status = status.unwrap();
    assert_eq!(status.used_up, [lost]);
    assert!(status.highest_node >= 2, "{}", status.highest_node);
    // It is not waited for any more.
    let page = admin(&client, AdminOp::Lost(0)).await.unwrap().lost.unwrap();
    assert!(!page.unheard.contains(&server(lost).name), "{:?}", page.unheard);
    let back = Register {
        node: Some(server(lost)),
    };
    let back: Result<RegisterReply, _> = client.call(0, Kind::Register, &back, WAIT).await;
    assert_eq!(back.unwrap_err().code(), Code::Stranger, "it never comes back");
    assert_eq!(
        remove(&client, lost, true).await.unwrap_err().0,
        Code::NotFound,
        "once"
    );

    // What is deleted now waits for the other only.
    for path in ["/both", "/one"] {
        let delete = Delete {
            target: target(path),
            ..Delete::default()
        };
        assert_eq!(client.mutate(Op::Delete(delete)).await.code, 0);
    }
    let mut acks = Vec::new();
    for _ in 0..100 {
        let reply = send_beat(&client, &Heartbeat { acks, ..beat(other) }).await;
        acks = (reply.orders.into_iter())
            .map(|order| OrderAck {
                order: Some(order),
                ..OrderAck::default()
            })
            .collect();
        let status = admin(&client, AdminOp::Status(Empty {}))
            .await
            .unwrap()
            .status
            .unwrap();
        assert_eq!(status.servers.len(), 1);
        if status.chunks_doomed == 0 && status.chunks_total == 0 {
            return;
        }
        cluster.env.clock.sleep(STEP).await;
    }
    panic!("a doomed chunk waits for a server that was removed");
}
