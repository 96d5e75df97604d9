//! Entries and commands of a version newer than this one.

use crate::kit::{Client, Cluster, identity};
use bytes::Bytes;
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Monotonic, SeededRng};
use drystone_proto::command::{Command, Op};
use drystone_proto::meta::{MutateReply, MutateRequest};
use drystone_proto::{Kind, Message};
use drystone_raft::{Input, Output, RaftConfig, RaftNode, Start};
use drystone_types::{BootId, Code, LogIndex, NodeId};
use drystone_wal::WalConfig;
use std::sync::Arc;
use std::time::Duration;

/// A field of bytes behind its tag.
fn field(tag: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(tag, &value.to_vec(), &mut out);
    out
}

/// Writes an entry into the log of the only voter, which is stopped, as a leader of a newer version would; its index.
fn append(cluster: &Cluster, data: Bytes) -> u64 {
    let id = cluster.nodes[0].id;
    let incarnation = identity(id, &[], false).node_incarnation.0;
    let log = WalConfig {
        directory: "log".to_owned(),
        identity: incarnation ^ id.rotate_left(32),
        segment_bytes: cluster.nodes[0].config.log_segment.0,
        batch_bytes: 256 << 10,
        ..WalConfig::default()
    };
    let boot = BootId {
        counter: 99,
        random: 99,
    };
    let pool = BufferPool::new(8 << 20);
    let disk = Arc::new(OsDisk::new(&cluster.directory(id)).unwrap());
    let config = RaftConfig::new(NodeId(id), boot, Start::Existing, LogIndex(1), log);
    let (mut node, _) = RaftNode::open(disk, config, SeededRng::new(1), pool.clone()).unwrap();
    let (mut inputs, mut now) = (vec![Input::Campaign], 0);
    let (mut asked, mut index) = (false, None);
    while index.is_none() {
        let mut out = Vec::new();
        now += 1_000;
        node.on_batch(Monotonic(now), inputs.drain(..), &mut out);
        if node.leads_surely() && !asked {
            asked = true;
            let data = data.clone();
            inputs.push(Input::Propose { token: 1, data });
        }
        for output in out {
            match output {
                Output::Io(request) => inputs.push(Input::Io(request.execute(&pool))),
                Output::Committed(entries) => {
                    index = index.or(entries
                        .iter()
                        .find(|entry| entry.token == Some(1))
                        .map(|entry| entry.index.0));
                    inputs.extend(entries.last().map(|last| Input::Applied { index: last.index }));
                }
                Output::Fatal(error) => panic!("{error}"),
                _ => {}
            }
        }
    }
    // The mark behind the last batch.
    for _ in 0..40 {
        let mut out = Vec::new();
        now += 100_000;
        node.on_batch(Monotonic(now), inputs.drain(..), &mut out);
        for output in out {
            if let Output::Io(request) = output {
                inputs.push(Input::Io(request.execute(&pool)));
            }
        }
    }
    index.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_stops_in_front_of_what_it_does_not_know_and_again_after_a_restart() {
    let known = field(3, &field(4, b""));
    for newer in [
        field(3, &field(4_000, b"a command")),
        [known, field(4_000, b"a field")].concat(),
        vec![0xff; 9],
    ] {
        let mut cluster = Cluster::start(1, |_| {}).await;
        let client = cluster.client().await;
        client.open().await;
        assert_eq!(client.make_directory("before").await.code, 0);
        cluster.stop(0).await;
        let index = append(&cluster, newer.into());
        for _ in 0..2 {
            cluster.run(0).await;
            let handle = cluster.nodes[0].handle.as_ref().unwrap();
            let deadline = cluster.env.clock.now().plus(Duration::from_secs(10));
            let stopped = cluster.env.clock.until(deadline, handle.stopped()).await;
            assert!(stopped.is_some(), "it goes on at {}", handle.applied());
            let failure = handle.failure().unwrap();
            assert!(failure.contains(&format!("entry {index} ")), "{failure}");
            assert!(failure.contains("upgrade"), "{failure}");
            assert_eq!(
                handle.applied(),
                index - 1,
                "everything before it and nothing of it"
            );
            cluster.stop(0).await;
        }
    }
}

/// A request whose command has a tag that no version of today knows.
#[derive(Clone, PartialEq, Message)]
struct NewerRequest {
    #[prost(message, optional, tag = "1")]
    origin: Option<drystone_proto::command::Origin>,
    #[prost(message, optional, tag = "2")]
    command: Option<NewerCommand>,
}

#[derive(Clone, PartialEq, Message)]
struct NewerCommand {
    #[prost(bytes = "vec", tag = "4000")]
    newer: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_not_known_is_refused_and_stops_nobody() {
    let cluster = Cluster::start(1, |_| {}).await;
    let client = cluster.client().await;
    client.open().await;
    let request = NewerRequest {
        origin: Some(client.origin()),
        command: Some(NewerCommand {
            newer: b"rotate".to_vec(),
        }),
    };
    let wait = Duration::from_secs(30);
    let answer: Result<MutateReply, _> = client.call(0, Kind::Mutate, &request, wait).await;
    assert_eq!(answer.unwrap_err().code(), Code::NotSupported);
    let decoded = MutateRequest::decode(request.encode_to_vec().as_slice()).unwrap();
    assert_eq!(
        Command::decode(decoded.command),
        Ok(Command { op: None::<Op> }),
        "the tags are those of the wire"
    );
    assert_eq!(
        client.mutate(Client::publish("after", b"")).await.code,
        0,
        "it goes on"
    );
}
