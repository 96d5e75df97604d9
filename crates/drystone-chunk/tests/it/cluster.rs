//! What the tests share: servers in temporary directories, a fake metadata service, a client.

use bytes::Bytes;
use drystone_chunk::{ChunkServer, Config, DataDirectory, Handle, StartError};
use drystone_env::{BoxFuture, BufferPool, Env};
use drystone_identity::{Identity, Role};
use drystone_proto::checksum::{Checksums, block_checksums};
use drystone_proto::cluster::{
    ErrorReply, Heartbeat, HeartbeatReply, Hello, HelloReply, Register, RegisterReply,
};
use drystone_proto::command::Receipt;
use drystone_proto::data::*;
use drystone_proto::grant::{ClusterKey, WriteGrant, sign_delete, sign_grant, verify_receipt};
use drystone_proto::record::{NodeRecord, ReplicaRecord};
use drystone_proto::{Kind, Message};
use drystone_rpc::{
    CallError, CallFuture, CallOptions, ChannelOptions, Channels, Payload, Reply, Request, ServerIdentity,
    ServerOptions, Service, refusal, serve,
};
use drystone_types::*;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a granted chunk can become.
pub const GRANTED: u64 = 8 << 20;
pub const KEY: ClusterKey = ClusterKey([7; 32]);
pub const CLUSTER: ClusterId = ClusterId([1; 16]);
pub const HISTORY: HistoryId = HistoryId([2; 16]);
pub const PLACEMENT: u64 = 40;

/// What the fake metadata service has been told and what it answers.
#[derive(Default)]
pub struct Told {
    pub registered: Vec<NodeRecord>,
    pub heartbeats: Vec<Heartbeat>,
    pub delete: Vec<DeleteOrder>,
    pub floor: u64,
    pub term: u64,
    /// The interval that heartbeats are answered with; 0: 100 ms.
    pub heartbeat_ms: u32,
    /// Registrations are refused with this.
    pub refuse: Option<(Code, String)>,
    /// The next registrations are refused with these, in turn.
    pub refusals: VecDeque<ErrorReply>,
    /// Registrations are judged as a leader does that has not heard the recorded process for a while.
    pub judge: bool,
    /// The last registration that was taken.
    pub recorded: Option<NodeRecord>,
    /// Answers the next heartbeat with `register`.
    pub forget: bool,
    /// The next heartbeat is refused; with [`Told::lossy`] every other one from then on.
    pub lose: bool,
    pub lossy: bool,
}

impl Told {
    fn judge(&mut self, node: &NodeRecord) -> Option<ErrorReply> {
        let known = self.recorded.replace(node.clone())?;
        let boot = |node: &NodeRecord| (node.boot_counter, node.boot_random);
        if boot(node) == boot(&known) || node.boot_counter > known.boot_counter {
            return None;
        }
        let missed = node.disks.iter().all(|disk| !known.disks.contains(disk));
        let mut error = refusal(Code::Stranger, format!("boot {} is over", node.boot_counter));
        error.expected = if missed { known.boot_counter + 1 } else { 0 };
        self.recorded = Some(known);
        Some(error)
    }
}

pub struct FakeMeta {
    pub told: Arc<Mutex<Told>>,
}

fn identity(node: u64) -> ServerIdentity {
    let software = "test".into();
    ServerIdentity {
        cluster: CLUSTER,
        history: HISTORY,
        node: NodeId(node),
        incarnation: Incarnation(1),
        software,
    }
}

impl Service for FakeMeta {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        identity(1).answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let mut told = self.told.lock().unwrap();
        let term = told.term.max(1);
        let heartbeat_ms = if told.heartbeat_ms == 0 {
            100
        } else {
            told.heartbeat_ms
        };
        let reply = match request.kind {
            Kind::Register => {
                let register: Register = request.decode().unwrap();
                let node = register.node.unwrap();
                told.registered.push(node.clone());
                let judged = if told.judge { told.judge(&node) } else { None };
                let refused = (told.refuse.as_ref()).map(|(code, message)| refusal(*code, message.clone()));
                match told.refusals.pop_front().or(refused).or(judged) {
                    Some(error) => Reply::error(error),
                    None => Reply::ok(&RegisterReply {
                        grant_floor: told.floor,
                        heartbeat_ms,
                        term,
                    }),
                }
            }
            Kind::Heartbeat if std::mem::take(&mut told.lose) => {
                Reply::error(refusal(Code::Unavailable, "no leader is known"))
            }
            Kind::Heartbeat => {
                told.lose = told.lossy;
                told.heartbeats.push(request.decode().unwrap());
                let delete = std::mem::take(&mut told.delete);
                let register = std::mem::take(&mut told.forget);
                Reply::ok(&HeartbeatReply {
                    grant_floor: told.floor,
                    orders: delete.into_iter().map(ServerOrder::delete).collect(),
                    term,
                    register,
                    heartbeat_ms,
                })
            }
            other => panic!("a chunk server sent {other:?}"),
        };
        Box::pin(std::future::ready(reply))
    }
}

/// A hop that takes everything and answers nothing: a paused process.
pub struct Silent;

impl Service for Silent {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        identity(99).answer(hello)
    }

    fn handle(&self, _: Request) -> BoxFuture<Reply> {
        Box::pin(std::future::pending())
    }
}

/// A metadata server that does not lead, and names who does.
pub struct NotLeader {
    pub leader: String,
    pub asked: Arc<AtomicU32>,
}

impl Service for NotLeader {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        identity(2).answer(hello)
    }

    fn handle(&self, _: Request) -> BoxFuture<Reply> {
        self.asked.fetch_add(1, Relaxed);
        let error = ErrorReply {
            leader: self.leader.clone(),
            ..refusal(Code::NotLeader, "no member any more")
        };
        Box::pin(std::future::ready(Reply::error(error)))
    }
}

pub struct Cluster {
    pub env: Env,
    pub root: tempfile::TempDir,
    pub told: Arc<Mutex<Told>>,
    pub meta: String,
    pub servers: Vec<Handle>,
    pub channels: Channels,
}

pub async fn listen(env: &Env, service: Arc<dyn Service>) -> String {
    let listener = env.net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    serve(
        env.clone(),
        listener,
        service,
        ServerOptions::new(BufferPool::new(1 << 20)),
    )
    .address()
    .to_string()
}

impl Cluster {
    /// `count` servers of one disk each, registered.
    pub async fn start(count: u64) -> Cluster {
        let cluster = Self::start_with(count, |_| ()).await;
        for server in &cluster.servers {
            server.registered().await.unwrap();
        }
        cluster
    }

    pub async fn start_with(count: u64, change: impl Fn(&mut Config)) -> Cluster {
        let _ = tracing_subscriber::fmt()
            .with_env_filter("warn")
            .with_test_writer()
            .try_init();
        let env = Env::os();
        let told: Arc<Mutex<Told>> = Arc::default();
        let meta = listen(
            &env,
            Arc::new(FakeMeta {
                told: Arc::clone(&told),
            }),
        )
        .await;
        let channels = Channels::new(
            env.clone(),
            // Client, chunk server and leader in one.
            ChannelOptions {
                roles: drystone_proto::record::role::METADATA | drystone_proto::record::role::CHUNK,
                ..ChannelOptions::new(BufferPool::new(8 << 20), ClientId([9; 16]))
            },
        );
        let root = tempfile::tempdir().unwrap();
        let mut cluster = Cluster {
            env,
            root,
            told,
            meta,
            servers: Vec::new(),
            channels,
        };
        for node in 0..count {
            let path = cluster.path(node);
            std::fs::create_dir_all(&path).unwrap();
            let disk = DataDirectory::open(&path).unwrap();
            drystone_identity::format(&*disk.disk, &cluster.identity(node)).unwrap();
            drop(disk);
            let server = cluster.start_server(node, &change).await.unwrap();
            cluster.servers.push(server);
        }
        cluster
    }

    pub fn path(&self, node: u64) -> PathBuf {
        self.root.path().join(format!("chunk-{node}"))
    }

    pub fn identity(&self, node: u64) -> Identity {
        Identity {
            cluster: CLUSTER,
            history: HISTORY,
            key: KEY,
            node: NodeId(10 + node),
            node_incarnation: Incarnation(100 + node),
            role: Role::Chunk,
            disk: Some(DiskRef {
                disk: DiskId(20 + node),
                incarnation: Incarnation(200 + node),
            }),
            voters: Vec::new(),
            joining: false,
            name: format!("chunk-{node}"),
        }
    }

    pub fn config(&self, node: u64) -> Config {
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            data: vec![self.path(node)],
            metadata: vec![self.meta.clone()],
            rack: format!("rack-{node}"),
            ..Config::default()
        }
    }

    pub async fn start_server(&self, node: u64, change: impl Fn(&mut Config)) -> Result<Handle, StartError> {
        let mut config = self.config(node);
        change(&mut config);
        ChunkServer::start_configured(self.env.clone(), config).await
    }

    pub fn replica(&self, node: u64) -> ReplicaRecord {
        ReplicaRecord {
            disk: 20 + node,
            incarnation: 200 + node,
            placement: PLACEMENT,
        }
    }

    pub fn hop(&self, node: u64) -> Hop {
        let address = self.servers[node as usize].address().to_string();
        Hop {
            address,
            replica: Some(self.replica(node)),
        }
    }

    pub fn options(&self) -> CallOptions {
        CallOptions::until(self.env.clock.now().plus(Duration::from_secs(20)))
    }

    pub fn grant(&self, chunk: u64, nodes: &[u64]) -> WriteGrant {
        let replicas = nodes.iter().map(|node| self.replica(*node)).collect();
        WriteGrant {
            chunk,
            epoch: 1,
            replicas,
            max_bytes: GRANTED,
            ..WriteGrant::default()
        }
    }

    pub fn token(&self, chunk: u64, nodes: &[u64]) -> Bytes {
        sign_grant(&KEY, HISTORY, self.grant(chunk, nodes))
    }

    pub async fn call<Req: Message, Rep: Message + Default>(
        &self,
        node: u64,
        kind: Kind,
        request: &Req,
    ) -> Result<Rep, ErrorReply> {
        let channel = self
            .channels
            .to(&self.servers[node as usize].address().to_string());
        match channel.call(kind, request, None, self.options()).await {
            Ok(answer) => Ok(answer.body),
            Err(error) => Err(error
                .reply()
                .cloned()
                .unwrap_or_else(|| panic!("{kind:?}: {error}"))),
        }
    }

    /// A call from a process that says it is metadata server 1.
    pub async fn call_as_server<Req: Message, Rep: Message + Default>(
        &self,
        node: u64,
        kind: Kind,
        request: &Req,
    ) -> Rep {
        let mut options = ChannelOptions::new(BufferPool::new(1 << 20), ClientId([8; 16]));
        (options.node, options.incarnation) = (NodeId(1), Incarnation(1));
        options.roles = drystone_proto::record::role::METADATA;
        (options.cluster, options.history) = (Some(CLUSTER), Some(HISTORY));
        let channels = Channels::new(self.env.clone(), options);
        let channel = channels.to(&self.servers[node as usize].address().to_string());
        let answer = channel.call(kind, request, None, self.options()).await;
        answer.unwrap().body
    }

    pub async fn read(&self, node: u64, chunk: u64, offset: u64, length: u32) -> Result<Bytes, ErrorReply> {
        let replica = Some(self.replica(node));
        let read = Read {
            chunk,
            replica,
            offset,
            length,
            grant: Bytes::new(),
        };
        let channel = self
            .channels
            .to(&self.servers[node as usize].address().to_string());
        let answer: Result<drystone_rpc::Answer<ReadReply>, CallError> =
            channel.call(Kind::Read, &read, None, self.options()).await;
        match answer {
            Ok(answer) => Ok(answer.payload),
            Err(error) => Err(error.reply().cloned().unwrap_or_else(|| panic!("read: {error}"))),
        }
    }

    pub async fn status(&self, node: u64, chunk: u64) -> ChunkStatus {
        let ask = ChunkStatusRequest {
            chunk,
            replica: Some(self.replica(node)),
        };
        self.call(node, Kind::ChunkStatus, &ask).await.unwrap()
    }

    pub async fn finish(
        &self,
        node: u64,
        chunk: u64,
        token: &Bytes,
        length: u64,
    ) -> Result<Receipt, ErrorReply> {
        let replica = Some(self.replica(node));
        let finish = Finish {
            chunk,
            epoch: 1,
            length,
            grant: token.clone(),
            replica,
        };
        let reply: FinishReply = self.call(node, Kind::Finish, &finish).await?;
        Ok(reply.receipt.unwrap())
    }

    pub fn delete_order(&self, node: u64, chunk: u64, placement: u64) -> DeleteOrder {
        let replica = ReplicaRecord {
            placement,
            ..self.replica(node)
        };
        DeleteOrder {
            chunk,
            replica: Some(replica),
            order: sign_delete(&KEY, HISTORY, chunk, &replica),
        }
    }

    /// A frame of a chunk for the chain of `hops`.
    pub fn send(&self, hops: &[Hop], frame: Frame<'_>) -> CallFuture<AppendReply> {
        let (first, rest) = hops.split_first().unwrap();
        let append = Append {
            chunk: frame.chunk,
            epoch: 1,
            offset: frame.offset,
            grant: frame.token.clone(),
            replica: first.replica,
            chain: rest.to_vec(),
            sync: frame.last,
            last: frame.last,
            checksum: None,
        };
        let payload = (!frame.data.is_empty()).then(|| Payload {
            checksums: Checksums::of(&frame.data),
            data: frame.data,
        });
        self.channels
            .to(&first.address)
            .call(Kind::Append, &append, payload, frame.options)
    }

    /// Writes `data` down the chain in frames of 1 MiB; the receipts of all.
    pub async fn write(&self, chunk: u64, nodes: &[u64], data: &Bytes) -> Vec<Receipt> {
        let token = self.token(chunk, nodes);
        let hops: Vec<Hop> = nodes.iter().map(|node| self.hop(*node)).collect();
        let mut calls = Vec::new();
        let step = MAX_PAYLOAD_BYTES;
        let frames = data.len().div_ceil(step).max(1);
        for at in 0..frames {
            let part = data.slice(at * step..((at + 1) * step).min(data.len()));
            let (offset, last) = ((at * step) as u64, at + 1 == frames);
            let frame = Frame {
                chunk,
                token: &token,
                offset,
                data: part,
                last,
                options: self.options(),
            };
            calls.push(self.send(&hops, frame));
        }
        let mut receipts = Vec::new();
        for call in calls {
            let answer = call.await.unwrap().body;
            for hop in answer.hops {
                assert_eq!((hop.code, hop.message), (0, String::new()));
                receipts.extend(hop.receipt);
            }
        }
        for receipt in &receipts {
            assert!(verify_receipt(&KEY, HISTORY, receipt));
            assert_eq!(receipt.length, data.len() as u64);
            assert_eq!(receipt.checksum, crc32c(data));
        }
        receipts
    }

    pub async fn wait(&self, what: &str, mut until: impl FnMut(&Told) -> bool) {
        let deadline = self.env.clock.now().plus(Duration::from_secs(10));
        while !until(&self.told.lock().unwrap()) {
            assert!(self.env.clock.now() < deadline, "in vain: {what}");
            self.env.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(&self) {
        for server in &self.servers {
            server.shutdown().await.unwrap();
        }
    }
}

pub struct Frame<'a> {
    pub chunk: u64,
    pub token: &'a Bytes,
    pub offset: u64,
    pub data: Bytes,
    pub last: bool,
    pub options: CallOptions,
}

/// The deletions that a heartbeat says are done.
pub fn deletions(beat: &Heartbeat) -> Vec<DeleteOrder> {
    let done = beat.acks.iter().filter(|ack| ack.code == 0);
    done.filter_map(|ack| ack.order.as_ref()?.as_delete().cloned())
        .collect()
}

pub fn crc32c(data: &[u8]) -> u32 {
    drystone_proto::checksum::combine(&block_checksums(data), data.len() as u64)
}

/// Bytes that differ from one 8-byte word to the next and from one `seed` to another.
pub fn data(seed: u64, length: usize) -> Bytes {
    let words = (0..length.div_ceil(8) as u64)
        .flat_map(|at| (at.wrapping_mul(0x9e37_79b9) ^ (seed << 40)).to_le_bytes());
    words.take(length).collect::<Vec<u8>>().into()
}
