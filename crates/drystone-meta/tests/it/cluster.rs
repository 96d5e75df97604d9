use crate::kit::{Client, Cluster, target};
use crate::leader;
use drystone_meta::Config;
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminOp, AdminReply, AdminRequest, ClusterInfo, ClusterInfoRequest, Empty};
use drystone_proto::command::{Op, OpenSession};
use drystone_proto::envelope::encode;
use drystone_proto::meta::{Consistency, GrantReply, LookupReply, LookupRequest, MutateReply, MutateRequest};
use drystone_rpc::CallError;
use drystone_types::{ByteCount, Code};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_voter_serves_and_remembers_across_restarts() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    assert_eq!(client.make_directory("a/b").await.code, 0);
    let outcome = client.mutate(Client::publish("a/b/file", b"hello")).await;
    assert_eq!((outcome.code, outcome.created, outcome.size), (0, true, 5));
    for round in 0..3 {
        let reply = client.lookup(0, "a/b/file").await.unwrap();
        assert_eq!(reply.inode.unwrap().inline.as_deref(), Some(&b"hello"[..]));
        assert_eq!(client.list(0, "a").await, ["b"]);
        let missing = client.lookup(0, "a/none").await.unwrap_err();
        assert_eq!(missing.code(), Code::NotFound);
        if round == 1 {
            let handle = cluster.nodes[0].handle.take().unwrap();
            handle.shutdown().await.unwrap();
        } else {
            cluster.stop(0).await;
        }
        cluster.run(0).await;
        let node = &cluster.nodes[0];
        cluster.ready(node).await;
    }
    // The session lived on: its next command is applied once.
    assert_eq!(client.mutate(Client::publish("a/c", b"x")).await.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_forward_and_every_server_answers_alike() {
    let cluster = Cluster::start(3, |config| config.policy.replicas = 3).await;
    let client = cluster.client().await;
    client.open().await;
    client.inline_max_becomes(4096).await;
    for round in 0..300 {
        let outcome = client
            .try_mutate(0, Client::publish(&format!("steady/{round}"), b"x"))
            .await;
        assert!(
            outcome.is_ok(),
            "inline content was refused although every voter lives: {outcome:?}"
        );
        cluster.env.clock.sleep(Duration::from_millis(5)).await;
    }
    for at in 0..3 {
        let reply = client
            .try_mutate(at, Client::publish(&format!("d/{at}"), b"tiny"))
            .await
            .unwrap();
        assert_eq!((reply.outcome.unwrap().code, reply.voters), (0, 3));
        for from in 0..3 {
            let found = client.lookup(from, &format!("d/{at}")).await.unwrap();
            assert_eq!(found.inode.unwrap().inline.as_deref(), Some(&b"tiny"[..]));
            let session = LookupRequest {
                target: target("d"),
                consistency: Consistency::Session as i32,
                min_index: reply.index,
                user: "drystone".to_owned(),
                ..LookupRequest::default()
            };
            let seen: LookupReply = client
                .call(from, Kind::Lookup, &session, Duration::from_secs(5))
                .await
                .unwrap();
            assert!(seen.index >= reply.index);
        }
    }
    let info: ClusterInfo = client
        .call(
            1,
            Kind::ClusterInfo,
            &ClusterInfoRequest {},
            Duration::from_secs(5),
        )
        .await
        .unwrap();
    assert_eq!((info.members.len(), info.inline_max), (3, 4096));
    assert_eq!(info.leader, cluster.nodes[cluster.leader().await].id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_over_within_seconds_and_the_old_one_catches_up() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    for round in 0..3 {
        let old = cluster.leader().await;
        assert_eq!(
            client
                .mutate(Client::publish(&format!("before-{round}"), b"1"))
                .await
                .code,
            0
        );
        cluster.stop(old).await;
        let stopped = cluster.env.clock.now();
        assert_eq!(
            client
                .mutate(Client::publish(&format!("during-{round}"), b"2"))
                .await
                .code,
            0
        );
        let took = cluster.env.clock.now().since(stopped);
        assert!(took < Duration::from_secs(3), "{took:?} without a leader");
        cluster.run(old).await;
        let goal = cluster.applied(cluster.leader().await);
        cluster
            .eventually("the old leader catches up", || cluster.applied(old) >= goal)
            .await;
        for at in 0..3 {
            assert!(client.lookup(at, &format!("before-{round}")).await.is_ok());
            assert!(client.lookup(at, &format!("during-{round}")).await.is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inline_content_is_refused_while_too_few_voters_live() {
    let mut cluster = Cluster::start(3, |config| config.policy.replicas = 3).await;
    let client = cluster.client().await;
    client.open().await;
    client.inline_max_becomes(4096).await;
    let leader = cluster.leader().await;
    cluster.stop((leader + 1) % 3).await;
    client.inline_max_becomes(0).await;
    let error = client
        .try_mutate(leader, Client::publish("f", b"x"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InlineRefused);
    assert_eq!(
        client.lookup(leader, "f").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        client
            .mutate(Op::OpenSession(OpenSession {
                ttl: 1_000_000,
                seen: 0
            }))
            .await
            .code,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_gets_its_answer_whatever_a_new_command_would_be_told() {
    let mut cluster = Cluster::start(3, |config| config.policy.replicas = 3).await;
    let client = cluster.client().await;
    client.open().await;
    client.inline_max_becomes(4096).await;
    let command = |op: Op| MutateRequest {
        origin: Some(client.origin()),
        command: encode(&op),
    };
    let leader = cluster.leader().await;
    let publish = command(Client::publish("f", b"x"));
    let send = async |request: &MutateRequest, seconds: u64| -> Result<MutateReply, CallError> {
        let wait = Duration::from_secs(seconds);
        client.call(leader, Kind::Mutate, request, wait).await
    };
    let done = send(&publish, 10).await.unwrap();
    assert_eq!((done.outcome.as_ref().unwrap().code, done.voters), (0, 3));
    cluster.stop((leader + 1) % 3).await;
    client.inline_max_becomes(0).await;
    let new = command(Client::publish("g", b"x"));
    assert_eq!(send(&new, 10).await.unwrap_err().code(), Code::InlineRefused);
    // It was done, so that is no answer to it; and too few hold its repeat.
    let again = send(&publish, 10).await.unwrap();
    assert_eq!(
        (&again.outcome, again.voters, again.short),
        (&done.outcome, 2, true)
    );
    cluster.run((leader + 1) % 3).await;
    let again = send(&publish, 10).await.unwrap();
    assert_eq!(
        (again.outcome, again.voters, again.short),
        (done.outcome, 3, false)
    );
}

/// It waited for the dead voter until its deadline, and so did each repeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inline_write_does_not_wait_for_a_voter_that_just_died() {
    for (degraded_minimum, tune) in [
        (0, (|config| config.policy.replicas = 3) as fn(&mut Config)),
        (2, |config| {
            (config.policy.replicas, config.policy.degraded_minimum) = (3, 2)
        }),
    ] {
        let mut cluster = Cluster::start(3, tune).await;
        let client = cluster.client().await;
        client.open().await;
        let mut answers = Vec::new();
        // On a busy machine the leader may have noticed before the command comes.
        for round in 0..10 {
            client.inline_max_becomes(4096).await;
            let leader = cluster.leader().await;
            let dead = (leader + 1) % 3;
            cluster.stop(dead).await;
            let began = cluster.env.clock.now();
            let publish = Client::publish(&format!("f{round}"), b"x");
            let answer = client.try_mutate(leader, publish).await;
            let took = cluster.env.clock.now().since(began);
            assert!(took < Duration::from_secs(3), "{took:?}");
            cluster.run(dead).await;
            match answer {
                Ok(reply) if reply.voters == 2 => {
                    assert_eq!(reply.outcome.as_ref().unwrap().code, 0);
                    answers.push(reply.short);
                    break;
                }
                Ok(reply) => assert_eq!((reply.voters, reply.short), (3, false), "it was not dead yet"),
                Err(error) => assert_eq!(error.code(), Code::InlineRefused),
            }
        }
        assert_eq!(
            answers,
            [degraded_minimum == 0],
            "two voters do only where the policy says so"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a look at speed, not a check"]
async fn speed_of_commands_and_lookups() {
    for voters in [1, 3] {
        let cluster = Cluster::start(voters, |_| {}).await;
        let at = cluster.leader().await;
        for clients in [1, 64] {
            let mut all = Vec::new();
            for _ in 0..clients {
                let client = cluster.client().await;
                client.open().await;
                all.push(client);
            }
            let rounds = if clients == 1 { 200 } else { 50 };
            let started = cluster.env.clock.now();
            let work = all.iter().enumerate().map(|(number, client)| async move {
                for round in 0..rounds {
                    let op = Client::publish(&format!("d{clients}/{number}-{round}"), b"");
                    client.try_mutate(at, op).await.unwrap();
                }
            });
            futures_util::future::join_all(work).await;
            let took = cluster.env.clock.now().since(started);
            println!(
                "{voters} voters, {clients} clients: {:.0} creates/s",
                (rounds * clients) as f64 / took.as_secs_f64()
            );
            let started = cluster.env.clock.now();
            let work = all.iter().map(|client| async move {
                for round in 0..rounds {
                    client.lookup(at, &format!("d{clients}/0-{round}")).await.unwrap();
                }
            });
            futures_util::future::join_all(work).await;
            let took = cluster.env.clock.now().since(started);
            println!(
                "{voters} voters, {clients} clients: {:.0} look-ups/s",
                (rounds * clients) as f64 / took.as_secs_f64()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_on_one_host_hold_inline_content_once() {
    let cluster = Cluster::start(3, |config| {
        config.policy.replicas = 3;
        config.policy.degraded_minimum = 2;
        // Two of the three fail together.
        if config.data.ends_with("meta-2") {
            config.host = "host-1".to_owned();
        }
    })
    .await;
    let client = cluster.client().await;
    client.open().await;
    client.inline_max_becomes(4096).await;
    let reply = client
        .try_mutate(0, Client::publish("tiny", b"tiny"))
        .await
        .unwrap();
    assert_eq!((reply.outcome.unwrap().code, reply.voters), (0, 2));
    let alone = Cluster::start(3, |config| {
        config.policy.replicas = 2;
        config.host = "host-1".to_owned();
    })
    .await;
    let client = alone.client().await;
    client.open().await;
    client.inline_max_becomes(0).await;
    let mut warnings = String::new();
    // Each introduces itself.
    for _ in 0..100 {
        let op = Some(AdminOp::Status(Empty {}));
        let status: AdminReply = client
            .call(0, Kind::Admin, &AdminRequest { op }, Duration::from_secs(5))
            .await
            .unwrap();
        warnings = status.status.unwrap().warnings.join("\n");
        if warnings.contains("3 voters") {
            break;
        }
        alone.env.clock.sleep(Duration::from_millis(50)).await;
    }
    assert!(warnings.contains("3 voters in 1 failure domain"), "{warnings}");
    let refused = client.try_mutate(0, Client::publish("tiny", b"tiny")).await;
    assert_eq!(refused.unwrap_err().code(), Code::InlineRefused);
    let empty = client.try_mutate(0, Client::publish("empty", b"")).await;
    assert_eq!(
        empty.unwrap().outcome.unwrap().code,
        0,
        "no bytes need no redundancy"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_is_new_and_answers_what_was_done() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let request = MutateRequest {
        origin: Some(client.origin()),
        command: encode(&Client::publish("once", b"")),
    };
    let wait = Duration::from_secs(30);
    let first: MutateReply = client.call(0, Kind::Mutate, &request, wait).await.unwrap();
    cluster.stop(0).await;
    cluster.nodes[0].config.disk_reserve = Some(ByteCount(1 << 40));
    cluster.run(0).await;
    cluster.ready(&cluster.nodes[0]).await;
    // What one client asks anew acknowledges what it asked before.
    let other = cluster.client().await;
    let mut refused = None;
    for round in 0..500 {
        let op = Client::publish(&format!("new-{round}"), b"");
        match other.try_mutate(0, op).await {
            Ok(_) => cluster.env.clock.sleep(Duration::from_millis(10)).await,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused.unwrap().code(), Code::NoSpace);
    let ask = AdminRequest {
        op: Some(AdminOp::Status(Empty {})),
    };
    let said: AdminReply = client.call(0, Kind::Admin, &ask, wait).await.unwrap();
    let refused = said.status.unwrap().writes_refused;
    assert!(refused.contains("disk is nearly full"), "{refused}");
    // Before a byte is sent to chunk servers.
    let grant = client
        .call::<_, GrantReply>(0, Kind::Grant, &leader::ask(1), wait)
        .await;
    assert_eq!(grant.unwrap_err().code(), Code::NoSpace);
    let again: MutateReply = client.call(0, Kind::Mutate, &request, wait).await.unwrap();
    assert_eq!(
        again.outcome, first.outcome,
        "it was done, whatever the disk says now"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_about_names_before_the_root_is_there() {
    for _ in 0..20 {
        let cluster = Cluster::start(1, |_| {}).await;
        let client = cluster.client().await;
        loop {
            match client.lookup(0, "").await {
                Ok(_) => break,
                Err(error) => assert_eq!(error.code(), Code::Unavailable, "{error}"),
            }
        }
    }
}
