use crate::kit::{Client, Cluster, HISTORY, KEY};
use drystone_proto::Kind;
use drystone_proto::cluster::{
    AdminOp, AdminReply, AdminRequest, DiskLoad, Empty, Heartbeat, HeartbeatReply, Register, RegisterReply,
};
use drystone_proto::data::{ChunkStatus, ServerOrder};
use drystone_proto::grant::{ClusterKey, verify_delete, verify_grant};
use drystone_proto::meta::{GrantReply, GrantRequest};
use drystone_proto::record::{DiskRecord, NodeRecord, PolicyRecord, ReplicaRecord, role};
use drystone_types::Code;
use std::collections::BTreeSet;
use std::time::Duration;

pub const WAIT: Duration = Duration::from_secs(30);

pub fn server(id: u64) -> NodeRecord {
    NodeRecord {
        id,
        incarnation: id,
        roles: role::CHUNK,
        name: format!("chunk-{id}"),
        address: format!("127.0.0.1:{}", 10_000 + id),
        rack: format!("rack-{id}"),
        zone: "z".to_owned(),
        host: format!("host-{id}"),
        disks: vec![DiskRecord {
            id: id * 10,
            incarnation: id * 11,
            device: id,
            path: "/d".to_owned(),
        }],
        boot_counter: 1,
        boot_random: 5,
        ..NodeRecord::default()
    }
}

pub fn beat(id: u64) -> Heartbeat {
    let load = DiskLoad {
        disk: id * 10,
        total_bytes: 1 << 40,
        free_bytes: 1 << 39,
        ..DiskLoad::default()
    };
    Heartbeat {
        node: id,
        incarnation: id,
        boot_counter: 1,
        boot_random: 5,
        disks: vec![load],
        ..Heartbeat::default()
    }
}

pub async fn send_beat(client: &Client, beat: &Heartbeat) -> HeartbeatReply {
    client.call(0, Kind::Heartbeat, beat, WAIT).await.unwrap()
}

pub async fn enlist(client: &Client, ids: &[u64]) {
    for &id in ids {
        let _: RegisterReply = client
            .call(
                0,
                Kind::Register,
                &Register {
                    node: Some(server(id)),
                },
                WAIT,
            )
            .await
            .unwrap();
        assert!(!send_beat(client, &beat(id)).await.register);
    }
}

pub fn ask(replicas: u32) -> GrantRequest {
    let policy = PolicyRecord {
        replicas,
        ack: 0,
        degraded_minimum: 0,
        chunk_bytes: 64 << 20,
    };
    GrantRequest {
        count: 3,
        max_bytes: 1 << 20,
        policy: Some(policy),
        ..GrantRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_name_new_chunks_on_servers_that_reported() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    let none: Result<GrantReply, _> = client.call(0, Kind::Grant, &ask(3), WAIT).await;
    assert_eq!(none.unwrap_err().code(), Code::NotEnoughDomains);
    assert!(
        send_beat(&client, &beat(7)).await.register,
        "an unknown server must register"
    );
    enlist(&client, &[1, 2, 3]).await;
    let reply: GrantReply = client.call(0, Kind::Grant, &ask(3), WAIT).await.unwrap();
    let chunks: BTreeSet<u64> = reply.grants.iter().map(|grant| grant.chunk).collect();
    assert_eq!(chunks.len(), 3);
    for grant in &reply.grants {
        let signed = verify_grant(&ClusterKey(KEY), HISTORY, &grant.token).unwrap();
        assert_eq!(
            (signed.chunk, signed.replicas.len(), signed.epoch),
            (grant.chunk, 3, 1)
        );
        let racks: BTreeSet<_> = grant
            .replicas
            .iter()
            .map(|replica| replica.location.as_ref().unwrap().rack.clone())
            .collect();
        assert_eq!(racks.len(), 3);
    }
    // A replacement is apart from what is kept.
    let have: Vec<ReplicaRecord> = reply.grants[0].replicas[..2]
        .iter()
        .map(|r| r.replica.unwrap())
        .collect();
    let replace = GrantRequest {
        replace_in: reply.grants[0].chunk,
        have: have.clone(),
        ..ask(3)
    };
    let replaced: GrantReply = client.call(0, Kind::Grant, &replace, WAIT).await.unwrap();
    let new = replaced.grants[0].replicas[0].replica.unwrap();
    assert!(replaced.grants[0].replicas.len() == 1 && have.iter().all(|kept| kept.disk != new.disk));
    assert_eq!(new.placement, have[0].placement);
    // Two fall silent: no new data for them.
    cluster.env.clock.sleep(Duration::from_millis(700)).await;
    send_beat(&client, &beat(1)).await;
    let few: Result<GrantReply, _> = client.call(0, Kind::Grant, &ask(3), WAIT).await;
    assert_eq!(few.unwrap_err().code(), Code::NotEnoughDomains);
    let status: AdminReply = client
        .call(
            0,
            Kind::Admin,
            &AdminRequest {
                op: Some(AdminOp::Status(Empty {})),
            },
            WAIT,
        )
        .await
        .unwrap();
    let status = status.status.unwrap();
    let states: Vec<&str> = status
        .servers
        .iter()
        .map(|server| server.state.as_str())
        .collect();
    assert_eq!(states, ["alive", "suspect", "suspect"]);
    assert_eq!(status.leader_name, "meta-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_can_never_be_committed_is_ordered_away() {
    let cluster = Cluster::start(1, |config| config.grant_age = Duration::from_secs(1)).await;
    let client = cluster.client().await;
    enlist(&client, &[1, 2, 3]).await;
    let reply: GrantReply = client.call(0, Kind::Grant, &ask(3), WAIT).await.unwrap();
    assert_eq!(reply.grants[0].life_ms, 1_000, "a grant says how long it lives");
    let chunk = reply.grants[0].chunk;
    let replicas = &reply.grants[0].replicas;
    let replica = replicas
        .iter()
        .map(|r| r.replica.unwrap())
        .find(|r| r.disk == 10)
        .unwrap();
    let open = vec![ChunkStatus {
        chunk,
        replica: Some(replica),
        state: 1,
        epoch: 1,
        ..ChunkStatus::default()
    }];
    let first = send_beat(&client, &Heartbeat { open, ..beat(1) }).await;
    assert!(first.orders.is_empty(), "its grant may still be committed");
    for _ in 0..100 {
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
        let reply = send_beat(&client, &beat(1)).await;
        if let Some(order) = reply.orders.first().and_then(ServerOrder::as_delete) {
            assert!(reply.grant_floor > chunk);
            assert_eq!((order.chunk, order.replica), (chunk, Some(replica)));
            assert!(verify_delete(
                &ClusterKey(KEY),
                HISTORY,
                chunk,
                &replica,
                &order.order
            ));
            return;
        }
    }
    panic!("the orphan was never ordered away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_and_old_boots_are_refused() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    enlist(&client, &[1]).await;
    let register = async |node: NodeRecord| -> Result<RegisterReply, drystone_rpc::CallError> {
        client
            .call(0, Kind::Register, &Register { node: Some(node) }, WAIT)
            .await
    };
    let newer = NodeRecord {
        boot_counter: 3,
        ..server(1)
    };
    register(newer.clone()).await.unwrap();
    let old: Result<HeartbeatReply, _> = client.call(0, Kind::Heartbeat, &beat(1), WAIT).await;
    assert_eq!(old.unwrap_err().code(), Code::Stranger);
    let reformatted = register(NodeRecord {
        incarnation: 99,
        ..newer.clone()
    })
    .await;
    assert_eq!(reformatted.unwrap_err().code(), Code::Stranger);
    let clone = register(NodeRecord {
        boot_random: 6,
        ..newer.clone()
    })
    .await;
    assert_eq!(clone.unwrap_err().code(), Code::Stranger);
    assert_eq!(
        register(newer).await.unwrap_err().code(),
        Code::Stranger,
        "both are fenced"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_disks_that_missed_boots_comes_back_when_the_other_process_is_silent() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    enlist(&client, &[1]).await;
    let register = async |node: NodeRecord| -> Result<RegisterReply, drystone_rpc::CallError> {
        client
            .call(0, Kind::Register, &Register { node: Some(node) }, WAIT)
            .await
    };
    let mut other = server(1);
    (other.disks[0].id, other.boot_random) = (77, 6);
    // While the first process lives nothing is let in, and nobody is fenced.
    for _ in 0..12 {
        assert!(!send_beat(&client, &beat(1)).await.register);
        let refused = register(other.clone()).await.unwrap_err();
        let reply = refused.reply().unwrap();
        assert_eq!((refused.code(), reply.expected), (Code::Stranger, 2), "{reply:?}");
        assert!(reply.retry_after_ms > 0, "{reply:?}");
        cluster.env.clock.sleep(Duration::from_millis(100)).await;
    }
    // The same disk in another process is refused for good, silent or not.
    let old = NodeRecord {
        boot_counter: 0,
        ..server(1)
    };
    let refused = register(old).await.unwrap_err();
    assert_eq!(refused.reply().unwrap().expected, 0);
    let mut wait = 1;
    for _ in 0..20 {
        let refused = register(other.clone()).await.unwrap_err();
        let reply = refused.reply().unwrap();
        assert_eq!(reply.expected, 2);
        wait = reply.retry_after_ms;
        if wait == 0 {
            break;
        }
        cluster
            .env
            .clock
            .sleep(Duration::from_millis(u64::from(wait)))
            .await;
    }
    assert_eq!(wait, 0, "the other process is silent");
    other.boot_counter = 2;
    register(other).await.unwrap();
    let old: Result<HeartbeatReply, _> = client.call(0, Kind::Heartbeat, &beat(1), WAIT).await;
    assert_eq!(old.unwrap_err().code(), Code::Stranger);
}
