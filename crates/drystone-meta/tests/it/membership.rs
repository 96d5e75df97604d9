use crate::grace::{beat, write};
use crate::kit::{Client, Cluster, free_port};
use drystone_env::BufferPool;
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminOp, AdminReply, AdminRequest, Empty, Ping, RaftReplace};
use drystone_proto::command::UpdateNode;
use drystone_rpc::{ChannelOptions, Channels};
use drystone_types::{ByteCount, ClientId, ClusterId, Code, HistoryId, NodeId};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_far_behind_takes_a_snapshot() {
    let mut cluster = Cluster::start(3, |config| {
        config.log_keep_entries = 0;
        config.log_catch_up = ByteCount(0);
        config.checkpoint_interval = Duration::from_millis(50);
        config.flush_interval = Duration::from_millis(20);
        config.log_segment = ByteCount(256 << 10);
    })
    .await;
    let client = cluster.client().await;
    client.open().await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    cluster.stop(behind).await;
    for i in 0..400 {
        assert_eq!(
            client
                .mutate(Client::publish(&format!("d{}/f{i}", i % 7), &vec![7; 2000]))
                .await
                .code,
            0
        );
    }
    cluster.env.clock.sleep(Duration::from_millis(500)).await;
    cluster.run(behind).await;
    let goal = cluster.applied(leader);
    cluster
        .eventually("it catches up", || cluster.applied(behind) >= goal)
        .await;
    let names = client.list(behind, "d3").await;
    assert_eq!(names.len(), 57);
    let metrics = cluster.nodes[behind].handle.as_ref().unwrap().registry();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &metrics.lock().unwrap()).unwrap();
    assert!(
        text.contains("drystone_meta_snapshots_installed_total 1"),
        "it took the log instead:\n{text}"
    );
    // It goes on from there, across a restart.
    cluster.stop(behind).await;
    cluster.run(behind).await;
    assert_eq!(client.mutate(Client::publish("after", b"1")).await.code, 0);
    let goal = cluster.applied(cluster.leader().await);
    cluster
        .eventually("it goes on", || cluster.applied(behind) >= goal)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_replaced_does_not_come_back_by_itself() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let voters = vec![(1, cluster.nodes[0].address.clone())];
    for (at, id) in [(1, 2), (2, 3)] {
        cluster.format(id, &voters, true);
        cluster.run(at).await;
    }
    let client = cluster.client().await;
    let admin = async |at: usize, op: AdminOp| -> Result<AdminReply, drystone_rpc::CallError> {
        let request = AdminRequest { op: Some(op) };
        client
            .call(at, Kind::Admin, &request, Duration::from_secs(1))
            .await
    };
    let replace = async |old: u64, new: u64| {
        for round in 0..300 {
            let op = AdminOp::RaftReplace(RaftReplace { old, new });
            if admin(round % 3, op).await.is_ok() {
                return;
            }
            client.env.clock.sleep(Duration::from_millis(20)).await;
        }
        panic!("{new} did not replace {old}");
    };
    let members = async || -> Vec<(u64, bool)> {
        let info = admin(2, AdminOp::Raft(Empty {})).await.unwrap().info.unwrap();
        let members = info.members.iter();
        members.map(|member| (member.node, member.voter)).collect()
    };
    // Two learners: one becomes the only voter, and its place is taken by the other.
    replace(1, 2).await;
    replace(2, 3).await;
    cluster.leader().await;
    assert_eq!(members().await, [(3, true)]);
    // The first one would keep it waiting for a leader.
    cluster.stop(0).await;
    cluster.stop(1).await;
    cluster.run(1).await;
    cluster.env.clock.sleep(Duration::from_millis(1500)).await;
    assert_eq!(members().await, [(3, true)], "it added itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_replaced_before_it_ever_ran_stays_out() {
    let voters: Vec<(u64, String)> = (1..=3).map(|id| (id, free_port())).collect();
    let mut cluster = Cluster::empty(|_| {});
    for (id, _) in &voters {
        cluster.format(*id, &voters, false);
    }
    cluster.format(4, &voters, true);
    for at in [0, 1, 3] {
        cluster.run(at).await;
    }
    let leader = cluster.leader().await;
    let client = cluster.client().await;
    let admin = async |op: AdminOp| -> Result<AdminReply, drystone_rpc::CallError> {
        client
            .call(leader, Kind::Admin, &AdminRequest { op: Some(op) }, WAIT)
            .await
    };
    let mut rounds = 0;
    while let Err(error) = admin(AdminOp::RaftReplace(RaftReplace { old: 3, new: 4 })).await {
        rounds += 1;
        assert!(rounds < 300, "{error:?}");
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
    cluster.run(2).await;
    cluster
        .eventually("it is told to go", || {
            let handle = cluster.nodes[2].handle.as_ref();
            handle.is_some_and(|handle| handle.failure().is_some())
        })
        .await;
    let info = admin(AdminOp::Raft(Empty {})).await.unwrap().info.unwrap();
    let mut members: Vec<_> = info.members.iter().map(|m| (m.node, m.voter)).collect();
    members.sort_unstable();
    assert_eq!(members, [(1, true), (2, true), (4, true)]);
}

/// A voter that is to be replaced is fenced first: if it ends between the two it must be able to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_that_ended_in_the_middle_of_its_replacement_leads_again() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let voters = vec![(1, cluster.nodes[0].address.clone())];
    cluster.format(2, &voters, true);
    cluster.run(1).await;
    let client = cluster.client().await;
    let admin = async |op: AdminOp| -> bool {
        let request = AdminRequest { op: Some(op) };
        let reply: Result<AdminReply, _> = client.call(0, Kind::Admin, &request, WAIT).await;
        reply.is_ok()
    };
    // Both have to be known first.
    for node in [2, 1] {
        let fenced = Some(node == 1);
        let update = UpdateNode {
            node,
            fenced,
            ..UpdateNode::default()
        };
        while !admin(AdminOp::UpdateNode(update.clone())).await {
            cluster.env.clock.sleep(Duration::from_millis(20)).await;
        }
    }
    for _ in 0..3 {
        cluster.stop(0).await;
        cluster.run(0).await;
        cluster.ready(&cluster.nodes[0]).await;
        cluster.env.clock.sleep(Duration::from_millis(500)).await;
        let failure = cluster.nodes[0].handle.as_ref().unwrap().failure();
        assert_eq!(failure, None);
    }
    let leads = |at: usize| {
        let handle = cluster.nodes[at].handle.as_ref();
        handle.is_some_and(drystone_meta::Handle::is_leader)
    };
    let mut rounds = 0;
    while !leads(1) {
        admin(AdminOp::RaftReplace(RaftReplace { old: 1, new: 2 })).await;
        rounds += 1;
        assert!(rounds < 100, "it was not replaced");
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_voter_comes_back_under_a_new_id_and_replaces_the_old_one() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    for i in 0..50 {
        assert_eq!(
            client.mutate(Client::publish(&format!("f{i}"), b"x")).await.code,
            0
        );
    }
    let leader = cluster.leader().await;
    let lost = (leader + 1) % 3;
    let lost_id = cluster.nodes[lost].id;
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.directory(lost_id)).unwrap();
    // Under its old id it does not come back: it has no log, and another incarnation is a stranger.
    let voters: Vec<(u64, String)> = cluster
        .nodes
        .iter()
        .map(|node| (node.id, node.address.clone()))
        .collect();
    cluster.format(4, &voters, true);
    let new = cluster.nodes.len() - 1;
    cluster.run(new).await;
    let admin = async |op: AdminOp| -> Result<AdminReply, drystone_rpc::CallError> {
        client
            .call(leader, Kind::Admin, &AdminRequest { op: Some(op) }, WAIT)
            .await
    };
    let mut replaced = None;
    for _ in 0..300 {
        match admin(AdminOp::RaftReplace(RaftReplace { old: lost_id, new: 4 })).await {
            Ok(reply) => {
                replaced = reply.info;
                break;
            }
            Err(_) => cluster.env.clock.sleep(Duration::from_millis(50)).await,
        }
    }
    replaced.expect("the learner became a voter");
    let info = admin(AdminOp::Raft(Empty {})).await.unwrap().info.unwrap();
    let mut ids: Vec<u64> = info
        .members
        .iter()
        .filter(|member| member.voter)
        .map(|member| member.node)
        .collect();
    ids.sort_unstable();
    let mut expected: Vec<u64> = cluster
        .nodes
        .iter()
        .map(|node| node.id)
        .filter(|id| *id != lost_id)
        .collect();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    // It counts: with another old voter gone the cluster goes on.
    let goal = cluster.applied(leader);
    cluster
        .eventually("the new voter catches up", || cluster.applied(new) >= goal)
        .await;
    let other = (0..3).find(|at| *at != leader && *at != lost).unwrap();
    cluster.stop(other).await;
    assert_eq!(client.mutate(Client::publish("after", b"1")).await.code, 0);
    cluster
        .eventually("the new voter applies", || cluster.applied(new) > goal)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_when_the_leader_joined_catches_up() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let leader = cluster.leader().await;
    let (away, replaced) = ((leader + 1) % 3, (leader + 2) % 3);
    let (away_id, replaced_id) = (cluster.nodes[away].id, cluster.nodes[replaced].id);
    cluster.stop(away).await;
    let voters: Vec<(u64, String)> = (cluster.nodes.iter())
        .map(|node| (node.id, node.address.clone()))
        .collect();
    cluster.format(4, &voters, true);
    cluster.run(3).await;
    let admin = async |op: AdminOp| -> bool {
        let request = AdminRequest { op: Some(op) };
        let reply: Result<AdminReply, _> = client.call(leader, Kind::Admin, &request, WAIT).await;
        reply.is_ok()
    };
    let replace = RaftReplace {
        old: replaced_id,
        new: 4,
    };
    while !admin(AdminOp::RaftReplace(replace)).await {
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
    while cluster.leader().await != 3 {
        admin(AdminOp::TransferLeader(4)).await;
        cluster.env.clock.sleep(Duration::from_millis(200)).await;
    }
    // It has never heard of node 4, which leads and alone can tell it.
    cluster.run(away).await;
    let goal = cluster.applied(3);
    cluster
        .eventually("it catches up", || cluster.applied(away) >= goal)
        .await;
    cluster.stop(leader).await;
    assert_eq!(
        client.mutate(Client::publish("after", b"1")).await.code,
        0,
        "node {away_id} and node 4 are a majority"
    );
}

/// Flips a bit in the middle of every table of the state store.
fn damage_state(directory: &std::path::Path) {
    let mut tables = 0;
    for state in std::fs::read_dir(directory.join("state")).unwrap() {
        let folder = state.unwrap().path().join("keyspaces/1/tables");
        for table in std::fs::read_dir(folder).into_iter().flatten() {
            let path = table.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
            tables += 1;
        }
    }
    assert!(tables > 0, "there was nothing to damage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_replaced_by_log_or_snapshot_and_never_served() {
    let tune = |config: &mut drystone_meta::Config| {
        config.log_keep_entries = 0;
        config.checkpoint_interval = Duration::from_millis(50);
        config.flush_interval = Duration::from_millis(20);
    };
    let mut cluster = Cluster::start(3, tune).await;
    let client = cluster.client().await;
    client.open().await;
    for i in 0..100 {
        assert_eq!(
            client.mutate(Client::publish(&format!("f{i}"), b"x")).await.code,
            0
        );
    }
    cluster.env.clock.sleep(Duration::from_millis(300)).await;
    let leader = cluster.leader().await;
    let hurt = (leader + 1) % 3;
    cluster.stop(hurt).await;
    damage_state(&cluster.directory(cluster.nodes[hurt].id));
    cluster.run(hurt).await;
    cluster.ready(&cluster.nodes[hurt]).await;
    let goal = cluster.applied(leader);
    cluster
        .eventually("a snapshot replaces what was damaged", || {
            cluster.applied(hurt) >= goal
        })
        .await;
    assert_eq!(client.list(hurt, "").await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_voter_with_a_damaged_state_is_rebuilt_and_lacks_nothing() {
    let mut alone = Cluster::start(1, |config| {
        config.log_keep_entries = 0;
        config.checkpoint_interval = Duration::from_millis(50);
        config.flush_interval = Duration::from_millis(20);
    })
    .await;
    let client = alone.client().await;
    client.open().await;
    for i in 0..100 {
        assert_eq!(
            client.mutate(Client::publish(&format!("f{i}"), b"x")).await.code,
            0
        );
    }
    alone.env.clock.sleep(Duration::from_millis(300)).await;
    alone.stop(0).await;
    damage_state(&alone.directory(1));
    // And again: what it was rebuilt from is still there.
    for _ in 0..2 {
        alone.run(0).await;
        alone.ready(&alone.nodes[0]).await;
        assert_eq!(client.list(0, "").await.len(), 100);
        alone.stop(0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let cluster = Cluster::start(1, |_| {}).await;
    let address = &cluster.nodes[0].address;
    let base = || ChannelOptions::new(BufferPool::new(1 << 20), ClientId([8; 16]));
    let strangers = [
        ChannelOptions {
            cluster: Some(ClusterId([77; 16])),
            ..base()
        },
        ChannelOptions {
            history: Some(HistoryId([77; 16])),
            ..base()
        },
        // The right id with another incarnation.
        ChannelOptions {
            history: Some(crate::kit::HISTORY),
            node: NodeId(1),
            ..base()
        },
    ];
    for (at, options) in strangers.into_iter().enumerate() {
        let channels = Channels::new(cluster.env.clone(), options);
        let deadline = cluster.env.clock.now().plus(WAIT);
        let call = channels.to(address).call::<Ping, Ping>(
            Kind::Ping,
            &Ping { nonce: 1 },
            None,
            drystone_rpc::CallOptions::until(deadline),
        );
        let error = call.await.unwrap_err();
        assert_eq!(error.code(), Code::Stranger, "{at}: {error}");
    }
    assert!(!free_port().is_empty());
}

async fn admin(client: &Client, op: AdminOp) -> Result<AdminReply, drystone_rpc::CallError> {
    client
        .call(0, Kind::Admin, &AdminRequest { op: Some(op) }, WAIT)
        .await
}

async fn members(client: &Client) -> Vec<(u64, bool)> {
    let info = admin(client, AdminOp::Raft(Empty {}))
        .await
        .unwrap()
        .info
        .unwrap();
    let mut members: Vec<(u64, bool)> = (info.members.iter())
        .map(|member| (member.node, member.voter))
        .collect();
    members.sort_unstable();
    members
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_voters_are_replaced() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    write(&client, "/f").await;
    // A chunk server, and nobody: neither is fenced, and nothing is recorded.
    for old in [7, 77] {
        let error = admin(&client, AdminOp::RaftReplace(RaftReplace { old, new: 1 })).await;
        assert_eq!(error.unwrap_err().code(), Code::NotFound);
    }
    assert!(!beat(&client).await.register);
    let status = admin(&client, AdminOp::Status(Empty {}))
        .await
        .unwrap()
        .status
        .unwrap();
    let states: Vec<&str> = status.servers.iter().map(|server| &*server.state).collect();
    assert_eq!(states, ["alive"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_is_lost_is_taken_out_and_does_not_come_back() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let voters = [(1, cluster.nodes[0].address.clone())];
    cluster.format(4, &voters, true);
    cluster.run(1).await;
    let mut tries = 0;
    while members(&client).await != [(1, true), (4, false)] {
        tries += 1;
        assert!(tries < 300, "it did not join");
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
    cluster.stop(1).await;
    let error = admin(&client, AdminOp::RemoveLearner(1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Invalid);
    let error = admin(&client, AdminOp::RemoveLearner(9)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    // A learner has no vote to give.
    let error = admin(&client, AdminOp::RaftReplace(RaftReplace { old: 4, new: 1 })).await;
    assert_eq!(error.unwrap_err().code(), Code::NotFound);
    for _ in 0..2 {
        admin(&client, AdminOp::RemoveLearner(4)).await.unwrap();
        assert_eq!(members(&client).await, [(1, true)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_not_handed_to_a_voter_that_is_away() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let leader = cluster.leader().await;
    let (away, there) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = |at: usize| cluster.nodes[at].id;
    let (away_id, there_id) = (id(away), id(there));
    cluster.stop(away).await;
    let ask = async |to: u64| {
        let request = AdminRequest {
            op: Some(AdminOp::TransferLeader(to)),
        };
        client
            .call::<_, AdminReply>(leader, Kind::Admin, &request, WAIT)
            .await
    };
    let mut tries = 0;
    // It may be taken for there for a moment; then it is tried, and said that it did not come to lead.
    let error = ask(away_id).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(client.mutate(Client::publish("f", b"x")).await.code, 0);
    while let Err(error) = ask(there_id).await {
        tries += 1;
        assert!(tries < 100, "{error}");
        cluster.env.clock.sleep(Duration::from_millis(50)).await;
    }
    cluster
        .eventually("the other leads", || {
            cluster.nodes[there]
                .handle
                .as_ref()
                .is_some_and(|handle| handle.is_leader())
        })
        .await;
}
