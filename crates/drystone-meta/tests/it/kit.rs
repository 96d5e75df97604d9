//! Clusters of metadata servers in this process, over loopback and real directories.

use bytes::Bytes;
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Env};
use drystone_identity::{Identity, Role, format};
use drystone_meta::{Config, Handle, MetadataDirectory, MetadataServer};
use drystone_proto::cluster::{ClusterInfo, ClusterInfoRequest};
use drystone_proto::command::{Content, MakeDirectory, Op, OpenSession, Origin, Outcome, Publish, Target};
use drystone_proto::envelope::encode;
use drystone_proto::grant::ClusterKey;
use drystone_proto::meta::{ListReply, ListRequest, LookupReply, LookupRequest, MutateReply, MutateRequest};
use drystone_proto::{Kind, Message};
use drystone_rpc::{CallError, CallOptions, ChannelOptions, Channels};
use drystone_types::{ByteCount, ClientId, ClusterId, HistoryId, Incarnation, NodeId};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

pub const CLUSTER: ClusterId = ClusterId([1; 16]);
pub const HISTORY: HistoryId = HistoryId([2; 16]);
pub const KEY: [u8; 32] = [3; 32];

/// An address that no other test gets, below the ports that the system gives to clients: who is stopped and started
/// again finds it free.
pub fn free_port() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() * 97;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

pub struct Node {
    pub id: u64,
    pub address: String,
    pub config: Config,
    pub handle: Option<Handle>,
}

pub struct Cluster {
    pub env: Env,
    pub home: tempfile::TempDir,
    pub nodes: Vec<Node>,
    tune: fn(&mut Config),
}

pub fn identity(id: u64, voters: &[(u64, String)], joining: bool) -> Identity {
    Identity {
        cluster: CLUSTER,
        history: HISTORY,
        key: ClusterKey(KEY),
        node: NodeId(id),
        node_incarnation: Incarnation(id * 1000 + 7),
        role: Role::Metadata,
        disk: None,
        voters: voters
            .iter()
            .map(|(id, address)| (NodeId(*id), address.clone()))
            .collect(),
        joining,
        name: format!("meta-{id}"),
    }
}

impl Cluster {
    /// A place for some.
    pub fn empty(tune: fn(&mut Config)) -> Self {
        Self {
            env: Env::os(),
            home: tempfile::tempdir().unwrap(),
            nodes: Vec::new(),
            tune,
        }
    }

    /// Formats and starts `count` voters.
    pub async fn start(count: u64, tune: fn(&mut Config)) -> Self {
        let voters: Vec<(u64, String)> = (1..=count).map(|id| (id, free_port())).collect();
        let mut cluster = Self::empty(tune);
        for (id, _) in &voters {
            cluster.format(*id, &voters, false);
        }
        for at in 0..cluster.nodes.len() {
            cluster.run(at).await;
        }
        for node in &cluster.nodes {
            cluster.ready(node).await;
        }
        cluster
    }

    pub async fn ready(&self, node: &Node) {
        let deadline = self.env.clock.now().plus(Duration::from_secs(60));
        let ready = self
            .env
            .clock
            .until(deadline, node.handle.as_ref().unwrap().ready())
            .await;
        assert_eq!(
            ready,
            Some(true),
            "node {} is not ready: {:?}",
            node.id,
            node.handle.as_ref().unwrap().failure()
        );
    }

    pub fn directory(&self, id: u64) -> PathBuf {
        self.home.path().join(format!("meta-{id}"))
    }

    pub fn format(&mut self, id: u64, voters: &[(u64, String)], joining: bool) {
        let directory = self.directory(id);
        let disk = OsDisk::new(&directory).unwrap();
        format(&disk, &identity(id, voters, joining)).unwrap();
        let address = voters
            .iter()
            .find(|(voter, _)| *voter == id)
            .map_or_else(free_port, |(_, address)| address.clone());
        let mut config = Config::new(directory, address.parse().unwrap());
        config.host = format!("host-{id}");
        config.log_segment = ByteCount(1 << 20);
        config.store_cache = ByteCount(8 << 20);
        config.disk_reserve = Some(ByteCount(0));
        config.heartbeat = Duration::from_millis(200);
        config.suspect_after = Duration::from_millis(600);
        config.dead_after = Duration::from_secs(2);
        config.policy.replicas = 1;
        (self.tune)(&mut config);
        self.nodes.push(Node {
            id,
            address,
            config,
            handle: None,
        });
    }

    pub async fn run(&mut self, at: usize) {
        let handle = MetadataServer::start(self.env.clone(), self.nodes[at].config.clone()).await;
        self.nodes[at].handle = Some(handle.unwrap());
    }

    /// Starts one on a directory that was opened with [`Cluster::open`].
    pub async fn run_on(&mut self, at: usize, directory: MetadataDirectory) {
        let config = self.nodes[at].config.clone();
        let handle = MetadataServer::start_on(self.env.clone(), config, directory).await;
        self.nodes[at].handle = Some(handle.unwrap());
    }

    /// What the voter lives in, to put something in front of it.
    pub fn open(&self, at: usize) -> MetadataDirectory {
        let config = &self.nodes[at].config;
        MetadataDirectory::open(&config.data, config.store_cache.0).unwrap()
    }

    /// A metric of a server: the number behind the line that begins with its name.
    pub fn metric(&self, at: usize, name: &str) -> u64 {
        let mut text = String::new();
        let registry = self.nodes[at].handle.as_ref().unwrap().registry();
        prometheus_client::encoding::text::encode(&mut text, &registry.lock().unwrap()).unwrap();
        let name = format!("drystone_meta_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value
            .unwrap_or_else(|| panic!("{name} in {text}"))
            .parse()
            .unwrap()
    }

    pub async fn stop(&mut self, at: usize) {
        self.nodes[at].handle.take().unwrap().abandon().await.unwrap();
    }

    /// Waits until somebody leads; gives its place.
    pub async fn leader(&self) -> usize {
        for _ in 0..6000 {
            let leads = |node: &Node| node.handle.as_ref().is_some_and(Handle::is_leader);
            if let Some(at) = self.nodes.iter().position(leads) {
                return at;
            }
            self.env.clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader within a minute");
    }

    pub async fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..6000 {
            if holds() {
                return;
            }
            self.env.clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a minute: {what}");
    }

    pub fn applied(&self, at: usize) -> u64 {
        self.nodes[at].handle.as_ref().map_or(0, Handle::applied)
    }

    pub async fn client(&self) -> Client {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut id = [9; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let channels = Channels::new(
            self.env.clone(),
            // Client, chunk server and leader in one.
            ChannelOptions {
                roles: drystone_proto::record::role::METADATA | drystone_proto::record::role::CHUNK,
                ..ChannelOptions::new(BufferPool::new(1 << 20), ClientId(id))
            },
        );
        let addresses = self.nodes.iter().map(|node| node.address.clone()).collect();
        Client {
            env: self.env.clone(),
            channels,
            id,
            sequence: AtomicU64::new(1),
            addresses,
        }
    }
}

/// A bare client: one session, one command at a time, retried at every server until it is answered.
pub struct Client {
    pub env: Env,
    pub channels: Channels,
    pub id: [u8; 16],
    pub sequence: AtomicU64,
    pub addresses: Vec<String>,
}

pub fn target(path: &str) -> Option<Target> {
    Some(Target {
        base: 0,
        path: path.to_owned(),
    })
}

impl Client {
    pub async fn call<Req: Message, Rep: Message + Default>(
        &self,
        at: usize,
        kind: Kind,
        request: &Req,
        wait: Duration,
    ) -> Result<Rep, CallError> {
        let options = CallOptions::until(self.env.clock.now().plus(wait));
        let channel = self.channels.to(&self.addresses[at]);
        channel
            .call::<Req, Rep>(kind, request, None, options)
            .await
            .map(|answer| answer.body)
    }

    pub fn origin(&self) -> Origin {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        Origin {
            client: Bytes::copy_from_slice(&self.id),
            sequence,
            acknowledged_below: sequence,
            user: "drystone".to_owned(),
            ..Origin::default()
        }
    }

    /// One command, asked of server `at` once.
    pub async fn try_mutate(&self, at: usize, op: Op) -> Result<MutateReply, CallError> {
        let request = MutateRequest {
            origin: Some(self.origin()),
            command: encode(&op),
        };
        self.call(at, Kind::Mutate, &request, Duration::from_secs(10))
            .await
    }

    /// One command, repeated with the same number until somebody answers it.
    pub async fn mutate(&self, op: Op) -> Outcome {
        let request = MutateRequest {
            origin: Some(self.origin()),
            command: encode(&op),
        };
        let started = self.env.clock.now();
        for at in (0..self.addresses.len()).cycle() {
            let answer: Result<MutateReply, _> = self
                .call(at, Kind::Mutate, &request, Duration::from_secs(2))
                .await;
            match answer {
                Ok(reply) => return reply.outcome.unwrap(),
                Err(error) => {
                    let waited = self.env.clock.now().since(started);
                    assert!(waited < Duration::from_secs(20), "{error}");
                    self.env.clock.sleep(Duration::from_millis(20)).await;
                }
            }
        }
        unreachable!("the addresses are tried for ever")
    }

    pub async fn open(&self) {
        assert_eq!(
            self.mutate(Op::OpenSession(OpenSession {
                ttl: 3_600_000_000,
                seen: 0
            }))
            .await
            .code,
            0
        );
    }

    pub async fn make_directory(&self, path: &str) -> Outcome {
        self.mutate(Op::MakeDirectory(MakeDirectory {
            target: target(path),
            parents: true,
            mode: None,
            attributes: None,
        }))
        .await
    }

    pub fn publish(path: &str, data: &[u8]) -> Op {
        Op::Publish(Publish {
            target: target(path),
            content: Some(Content {
                inline: Some(Bytes::copy_from_slice(data)),
                ..Content::default()
            }),
            parents: true,
            ..Publish::default()
        })
    }

    pub async fn lookup(&self, at: usize, path: &str) -> Result<LookupReply, CallError> {
        let request = LookupRequest {
            target: target(path),
            content: true,
            user: "drystone".to_owned(),
            ..LookupRequest::default()
        };
        self.call(at, Kind::Lookup, &request, Duration::from_secs(5))
            .await
    }

    /// Waits until the cluster takes inline content up to this size.
    pub async fn inline_max_becomes(&self, expected: u32) {
        for _ in 0..6000 {
            for at in 0..self.addresses.len() {
                let request = ClusterInfoRequest {};
                let info: Result<ClusterInfo, _> = self
                    .call(at, Kind::ClusterInfo, &request, Duration::from_secs(1))
                    .await;
                if info.is_ok_and(|info| info.leader != 0 && info.inline_max == expected) {
                    return;
                }
            }
            self.env.clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("inline-max did not become {expected}");
    }

    pub async fn list(&self, at: usize, path: &str) -> Vec<String> {
        let request = ListRequest {
            target: target(path),
            limit: 10_000,
            user: "drystone".to_owned(),
            ..ListRequest::default()
        };
        let reply: ListReply = self
            .call(at, Kind::List, &request, Duration::from_secs(5))
            .await
            .unwrap();
        reply.entries.into_iter().map(|entry| entry.name).collect()
    }
}
