//! A small cluster in memory behind the real wire: metadata servers that share one state, chunk servers that reach
//! each other's memory. It keeps the contract that the client relies on and can be made to fail.

#![allow(clippy::unwrap_used, reason = "a test double: a panic is the test's failure")]
#![allow(clippy::result_large_err, reason = "the error is the message of the wire")]

use bytes::Bytes;
use drystone_client::{Client, Options};
use drystone_env::{BoxFuture, BufferPool, Env};
use drystone_proto::cluster::{ClusterInfo, Empty, ErrorReply, Hello, HelloReply, Member};
use drystone_proto::command::{Command, Content, NewExtent, Op, Outcome, PublishMode, Receipt};
use drystone_proto::data::{
    Append, AppendReply, ChunkStatus, ChunkStatusRequest, CopyPrefix, Finish, FinishReply, HopState, Read,
    ReadReply, ReplicaState,
};
use drystone_proto::meta::{
    AbandonRequest, ChunkGrant, DamageReport, DiskLocation, GrantReply, GrantRequest, GrantedReplica,
    ListEntry, ListReply, ListRequest, LocatedExtent, LookupReply, LookupRequest, MutateReply, MutateRequest,
};
use drystone_proto::record::{
    ChunkRecord, HOLE, InodeKind, InodeRecord, PlacedReplica, PlacementState, PolicyRecord, ReplicaRecord,
};
use drystone_proto::{Kind, Message, checksum};
use drystone_rpc::{Reply, Request, ServerHandle, ServerIdentity, ServerOptions, Service, refusal, serve};
use drystone_types::{ClusterId, Code, HistoryId, Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const MINIMUM: u32 = 2;

#[derive(Clone, Default)]
pub(crate) struct Stored {
    pub(crate) data: Vec<u8>,
    pub(crate) sealed: bool,
}

#[derive(Default)]
pub(crate) struct FakeNode {
    pub(crate) replicas: Mutex<BTreeMap<u64, Stored>>,
    /// It takes requests and never answers.
    pub(crate) silent: AtomicBool,
    pub(crate) dead: AtomicBool,
    pub(crate) reads: AtomicU32,
    /// It falls silent after so many bytes of appends.
    pub(crate) silent_after: AtomicU64,
    address: Mutex<String>,
}

#[derive(Clone, Default)]
pub(crate) struct File {
    inode: u64,
    version: u64,
    inline: Option<Bytes>,
    extents: Vec<NewExtent>,
    size: u64,
}

#[derive(Default)]
pub(crate) struct Namespace {
    pub(crate) files: BTreeMap<String, File>,
    chunks: BTreeMap<u64, Vec<Receipt>>,
    pub(crate) sessions: BTreeSet<Bytes>,
    answers: BTreeMap<(Bytes, u64), Outcome>,
    /// Answers by idempotency key.
    keys: BTreeMap<String, Outcome>,
    index: u64,
    next_chunk: u64,
    pub(crate) staged: BTreeMap<u64, File>,
    pub(crate) applied: u64,
    pub(crate) reports: Vec<DamageReport>,
    pub(crate) grants: u64,
    /// Chunks below it can neither be written to nor committed.
    pub(crate) floor: u64,
    /// Times that something was staged.
    pub(crate) extended: u64,
    /// Chunks that their writers gave up.
    pub(crate) abandoned: BTreeSet<u64>,
}

/// Inodes by name, and whether they are directories.
type Names = BTreeMap<String, (u64, bool)>;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) nodes: Vec<FakeNode>,
    pub(crate) namespace: Mutex<Namespace>,
    pub(crate) inline_max: AtomicU32,
    /// So many commands are lost before they are applied, and nothing is answered.
    pub(crate) lose_commands: AtomicU32,
    /// So many answers to commands are lost after the command was applied.
    pub(crate) lose_answers: AtomicU32,
    /// So many commands are answered `busy` by apply, once no answer is to be lost any more.
    pub(crate) busy: AtomicU32,
    /// Times that somebody looked a path up.
    pub(crate) look_ups: AtomicU32,
    /// So many commands with inline content are refused before the sessions are looked at, once no answer is to be lost
    /// any more.
    pub(crate) refuse_early: AtomicU32,
    /// So many publications of chunks are told that another policy is in force.
    pub(crate) policy_differs: AtomicU32,
    /// So many times somebody adds a byte to an inline file right after its content was looked up.
    pub(crate) races: AtomicU32,
    /// The targets that grants were asked for.
    pub(crate) granted_at: Mutex<Vec<String>>,
    /// So many commands with inline content are synced by too few voters.
    pub(crate) short: AtomicU32,
    /// Directories by inode, for walks: names with their inodes, and whether they are directories.
    pub(crate) tree: Mutex<BTreeMap<u64, Names>>,
    /// A directory that nobody may list.
    pub(crate) locked: AtomicU64,
    /// Pages of directories that were asked for.
    pub(crate) lists: AtomicU32,
    /// Nobody may read a file.
    pub(crate) write_only: AtomicBool,
    /// Look-ups are refused as `busy`, and it is said why.
    pub(crate) overloaded: AtomicBool,
    leader: AtomicU64,
    members: Mutex<Vec<Member>>,
    pub(crate) chunk_bytes: AtomicU64,
    /// What grants say of their life.
    pub(crate) life_ms: AtomicU64,
}

pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) world: Arc<World>,
    pub(crate) metas: Vec<ServerHandle>,
    pub(crate) chunks: Vec<ServerHandle>,
}

fn identity(node: u64) -> ServerIdentity {
    ServerIdentity {
        cluster: ClusterId([1; 16]),
        history: HistoryId([2; 16]),
        node: NodeId(node),
        incarnation: Incarnation(1),
        software: String::new(),
    }
}

impl Cluster {
    pub(crate) async fn start(metas: usize, chunk_servers: usize) -> Self {
        let env = Env::os();
        let world = World {
            nodes: (0..chunk_servers).map(|_| FakeNode::default()).collect(),
            chunk_bytes: AtomicU64::new(1 << 20),
            leader: AtomicU64::new(1),
            ..World::default()
        };
        let world = Arc::new(world);
        let options = ServerOptions::new(BufferPool::new(16 << 20));
        let mut cluster = Self {
            env: env.clone(),
            world,
            metas: Vec::new(),
            chunks: Vec::new(),
        };
        for at in 0..metas {
            let listener = env.net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let service = Arc::new(FakeMeta {
                node: at as u64 + 1,
                world: cluster.world.clone(),
            });
            let handle = serve(env.clone(), listener, service, options.clone());
            let address = handle.address().to_string();
            let member = Member {
                node: at as u64 + 1,
                address,
                voter: true,
                ..Member::default()
            };
            cluster.world.members.lock().unwrap().push(member);
            cluster.metas.push(handle);
        }
        for at in 0..chunk_servers {
            let listener = env.net.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let service = Arc::new(FakeChunk {
                at,
                world: cluster.world.clone(),
                env: env.clone(),
            });
            let handle = serve(env.clone(), listener, service, options.clone());
            *cluster.world.nodes[at].address.lock().unwrap() = handle.address().to_string();
            cluster.chunks.push(handle);
        }
        cluster
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(|_| {}).await
    }

    pub(crate) async fn client_with(&self, change: impl FnOnce(&mut Options)) -> Client {
        let mut options = Options::new(self.metas.iter().map(|meta| meta.address().to_string()));
        change(&mut options);
        Client::connect(self.env.clone(), options).await.unwrap()
    }

    pub(crate) fn kill_chunk_server(&self, at: usize) {
        self.world.nodes[at].dead.store(true, SeqCst);
        self.chunks[at].shutdown();
    }

    /// From now on grants live for `life` and say so: the floor follows the chunks handed out.
    pub(crate) fn raise_floor_after(&self, life: Duration) {
        self.world.life_ms.store(life.as_millis() as u64, SeqCst);
        let (world, clock) = (Arc::downgrade(&self.world), self.env.clock.clone());
        let task = async move {
            let mut granted = VecDeque::new();
            while let Some(world) = world.upgrade() {
                let now = clock.now();
                {
                    let mut namespace = world.namespace.lock().unwrap();
                    granted.push_back((now.plus(life), namespace.next_chunk + 1));
                    while let Some(&(_, floor)) = granted.front().filter(|(at, _)| *at <= now) {
                        namespace.floor = floor;
                        granted.pop_front();
                    }
                }
                drop(world);
                clock.sleep(Duration::from_millis(20)).await;
            }
        };
        self.env.spawn.spawn("floor", Box::pin(task));
    }

    /// The leader dies; the other takes over.
    pub(crate) fn kill_leader(&self) {
        let leader = self.world.leader.load(SeqCst);
        self.metas[leader as usize - 1].shutdown();
        self.world.leader.store(3 - leader, SeqCst);
    }
}

struct FakeMeta {
    node: u64,
    world: Arc<World>,
}

impl Namespace {
    /// Chunks that are in files or staged.
    pub(crate) fn recorded(&self) -> BTreeSet<u64> {
        let files = self.files.values().chain(self.staged.values());
        let recorded = files.flat_map(|file| file.extents.iter().map(|extent| extent.chunk));
        recorded.collect()
    }
}

impl Service for FakeMeta {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        identity(self.node).answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let world = &self.world;
        let leader = world.leader.load(SeqCst);
        if leader != self.node && request.kind != Kind::ClusterInfo {
            let address = world.members.lock().unwrap()[leader as usize - 1].address.clone();
            let reply = ErrorReply {
                leader: address,
                ..refusal(Code::NotLeader, "not me")
            };
            return Box::pin(async move { Reply::error(reply) });
        }
        let mut lost = false;
        let mutate = (request.kind == Kind::Mutate).then(|| request.decode::<MutateRequest>().unwrap());
        let is_inline = mutate.as_ref().is_some_and(is_inline);
        let reply = match request.kind {
            Kind::Mutate
                if world
                    .lose_commands
                    .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                    .is_ok() =>
            {
                lost = true;
                Reply::ok(&Empty {})
            }
            Kind::ClusterInfo => Reply::ok(&ClusterInfo {
                cluster: Bytes::from_static(&[1; 16]),
                history: Bytes::from_static(&[2; 16]),
                leader,
                members: world.members.lock().unwrap().clone(),
                inline_max: world.inline_max.load(SeqCst),
                ..ClusterInfo::default()
            }),
            Kind::Mutate
                if is_inline
                    && world.lose_answers.load(SeqCst) == 0
                    && world
                        .refuse_early
                        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                        .is_ok() =>
            {
                Reply::refuse(Code::InlineRefused, "too few voters")
            }
            Kind::Mutate
                if world.lose_answers.load(SeqCst) == 0
                    && world
                        .busy
                        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                        .is_ok() =>
            {
                let outcome = Outcome {
                    code: Code::Busy.number(),
                    ..Outcome::default()
                };
                Reply::ok(&MutateReply {
                    outcome: Some(outcome),
                    ..MutateReply::default()
                })
            }
            Kind::Mutate => {
                let reply = world.mutate(mutate.unwrap());
                lost = world
                    .lose_answers
                    .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                    .is_ok();
                Reply::ok(&reply)
            }
            Kind::List => Reply::from_result(world.list(&request.decode().unwrap())),
            Kind::Lookup => Reply::from_result(world.look_up(&request.decode().unwrap())),
            Kind::Grant => Reply::from_result(world.grant(&request.decode().unwrap())),
            Kind::ReportDamage => {
                world
                    .namespace
                    .lock()
                    .unwrap()
                    .reports
                    .push(request.decode().unwrap());
                Reply::ok(&Empty {})
            }
            Kind::Abandon => {
                let request: AbandonRequest = request.decode().unwrap();
                let mut namespace = world.namespace.lock().unwrap();
                for token in request.grants {
                    let chunk = u64::from_le_bytes(token[..].try_into().unwrap());
                    namespace.abandoned.insert(chunk);
                }
                Reply::ok(&Empty {})
            }
            kind => Reply::refuse(Code::NotSupported, format!("{kind:?}")),
        };
        Box::pin(async move { if lost { std::future::pending().await } else { reply } })
    }
}

fn is_inline(request: &MutateRequest) -> bool {
    let op = Command::decode(request.command.clone()).unwrap().op;
    matches!(op, Some(Op::Publish(publish))
        if publish.content.as_ref().is_some_and(|content| content.inline.is_some()))
}

fn replica(at: usize) -> ReplicaRecord {
    ReplicaRecord {
        disk: at as u64 + 1,
        incarnation: 9,
        placement: 1,
    }
}

impl World {
    fn policy(&self) -> PolicyRecord {
        let chunk_bytes = self.chunk_bytes.load(SeqCst);
        PolicyRecord {
            replicas: 3,
            ack: 0,
            degraded_minimum: MINIMUM,
            chunk_bytes,
        }
    }

    fn location(&self, at: usize) -> DiskLocation {
        DiskLocation {
            disk: at as u64 + 1,
            incarnation: 9,
            node: at as u64 + 100,
            address: self.nodes[at].address.lock().unwrap().clone(),
            ..DiskLocation::default()
        }
    }

    fn mutate(&self, request: MutateRequest) -> MutateReply {
        let mut ns = self.namespace.lock().unwrap();
        let inline = is_inline(&request);
        let origin = request.origin.unwrap();
        let op = Command::decode(request.command).unwrap().op.unwrap();
        ns.index += 1;
        let (index, key) = (ns.index, (origin.client.clone(), origin.sequence));
        let outcome = match (&op, ns.answers.get(&key)) {
            (Op::OpenSession(_), _) => {
                ns.sessions.insert(origin.client);
                Outcome::default()
            }
            (Op::CloseSession(_), _) => {
                ns.sessions.remove(&origin.client);
                Outcome::default()
            }
            _ if !ns.sessions.contains(&origin.client) => Outcome {
                code: Code::SessionUnknown.number(),
                ..Outcome::default()
            },
            (_, Some(answer)) => answer.clone(),
            (Op::Publish(publish), _)
                if (publish.staged > 0
                    || publish
                        .content
                        .as_ref()
                        .is_some_and(|content| !content.chunks.is_empty()))
                    && self
                        .policy_differs
                        .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                        .is_ok() =>
            {
                Outcome {
                    code: Code::PolicyDiffers.number(),
                    ..Outcome::default()
                }
            }
            _ => {
                let known = ns.keys.get(&origin.key).cloned();
                let outcome = known.unwrap_or_else(|| ns.apply(op, index));
                ns.applied += 1;
                ns.answers.insert(key, outcome.clone());
                let code = Code::from_number(outcome.code);
                if !origin.key.is_empty() && matches!(code, None | Some(Code::PreconditionFailed)) {
                    ns.keys.insert(origin.key, outcome.clone());
                }
                outcome
            }
        };
        let short = inline
            && self
                .short
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .is_ok();
        MutateReply {
            outcome: Some(outcome),
            index,
            voters: 1,
            short,
        }
    }

    fn list(&self, request: &ListRequest) -> Result<ListReply, ErrorReply> {
        self.lists.fetch_add(1, SeqCst);
        let tree = self.tree.lock().unwrap();
        let target = request.target.clone().unwrap();
        assert_eq!(target.path, "", "directories are listed by inode");
        if target.base == self.locked.load(SeqCst) {
            return Err(refusal(Code::Denied, "locked"));
        }
        let directory = tree
            .get(&target.base)
            .ok_or_else(|| refusal(Code::NotFound, "no directory"))?;
        let above = (
            std::ops::Bound::Excluded(request.after.clone()),
            std::ops::Bound::Unbounded,
        );
        let after = directory
            .range::<String, _>(above)
            .filter(|(name, _)| !name.is_empty());
        let entry = |(name, &(id, is_directory)): (&String, &(u64, bool))| ListEntry {
            name: name.clone(),
            inode: Some(InodeRecord {
                id,
                kind: if is_directory {
                    InodeKind::Directory as i32
                } else {
                    0
                },
                ..InodeRecord::default()
            }),
        };
        let entries: Vec<ListEntry> = after.clone().take(request.limit as usize).map(entry).collect();
        Ok(ListReply {
            more: after.count() > entries.len(),
            entries,
            index: 0,
        })
    }

    fn look_up(&self, request: &LookupRequest) -> Result<LookupReply, ErrorReply> {
        self.look_ups.fetch_add(1, SeqCst);
        if self.overloaded.load(SeqCst) {
            return Err(refusal(Code::Busy, "the log is full"));
        }
        let mut ns = self.namespace.lock().unwrap();
        let target = request.target.clone().unwrap();
        let policy = Some(self.policy());
        let listed = self.tree.lock().unwrap().contains_key(&target.base);
        if listed || target.base == 0 && target.path.trim_matches('/').is_empty() {
            let inode = InodeRecord {
                id: target.base.max(1),
                kind: InodeKind::Directory as i32,
                ..InodeRecord::default()
            };
            return Ok(LookupReply {
                inode: Some(inode),
                policy,
                index: ns.index,
                ..LookupReply::default()
            });
        }
        let file = match target.base {
            0 => ns.files.get(target.path.trim_matches('/')),
            base => ns.files.values().find(|file| file.inode == base),
        };
        let file = file
            .ok_or_else(|| refusal(Code::NotFound, "no such file"))?
            .clone();
        if request.content && !request.to_convert && self.write_only.load(SeqCst) {
            return Err(refusal(Code::Denied, "it may not be read"));
        }
        if request.content
            && file.inline.is_some()
            && self
                .races
                .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                .is_ok()
        {
            ns.index += 1;
            let index = ns.index;
            let mut files = ns.files.values_mut();
            let raced = files.find(|other| other.inode == file.inode).unwrap();
            raced.inline = raced
                .inline
                .take()
                .map(|inline| [&inline[..], b"x"].concat().into());
            (raced.version, raced.size) = (index, raced.size + 1);
        }
        if request
            .pinned
            .is_some_and(|pin| (pin.inode, pin.version) != (file.inode, file.version))
        {
            return Err(refusal(Code::Changed, "another version"));
        }
        let (mut extents, mut offset, mut next_offset) = (Vec::new(), 0, 0);
        for extent in &file.extents {
            // Two extents a page, so that pages are crossed.
            if offset + extent.length > request.offset {
                if extents.len() == 2 {
                    next_offset = offset;
                    break;
                }
                let NewExtent {
                    length,
                    chunk,
                    chunk_offset,
                } = *extent;
                extents.push(LocatedExtent {
                    offset,
                    length,
                    chunk,
                    chunk_offset,
                });
            }
            offset += extent.length;
        }
        let chunk = |extent: &LocatedExtent| ChunkRecord {
            id: extent.chunk,
            replicas: ns.chunks[&extent.chunk]
                .iter()
                .filter_map(|receipt| receipt.replica)
                .map(|replica| PlacedReplica::new(replica, PlacementState::Verified))
                .collect(),
            ..ChunkRecord::default()
        };
        let inode = InodeRecord {
            id: file.inode,
            size: file.size,
            version: file.version,
            inline: file.inline.clone(),
            ..InodeRecord::default()
        };
        Ok(LookupReply {
            inode: Some(inode),
            chunks: extents
                .iter()
                .filter(|extent| extent.chunk != HOLE)
                .map(chunk)
                .collect(),
            extents,
            disks: (0..self.nodes.len()).map(|at| self.location(at)).collect(),
            next_offset,
            index: ns.index,
            policy,
        })
    }

    fn grant(&self, request: &GrantRequest) -> Result<GrantReply, ErrorReply> {
        let mut ns = self.namespace.lock().unwrap();
        ns.grants += 1;
        if let Some(target) = &request.target {
            self.granted_at.lock().unwrap().push(target.path.clone());
        }
        let taken: BTreeSet<u64> = request.have.iter().map(|replica| replica.disk).collect();
        let mut free: Vec<usize> = (0..self.nodes.len())
            .filter(|&at| !taken.contains(&(at as u64 + 1)))
            .collect();
        free.sort_by_key(|&at| request.avoid.contains(&(at as u64 + 100)));
        free.truncate(if request.replace_in > 0 { 1 } else { 3 });
        if free.is_empty() {
            return Err(refusal(Code::NotEnoughDomains, "nowhere else"));
        }
        let member = |&at: &usize| GrantedReplica {
            replica: Some(replica(at)),
            location: Some(self.location(at)),
        };
        let mut grant = |_| {
            ns.next_chunk += 1;
            let chunk = if request.replace_in > 0 {
                request.replace_in
            } else {
                ns.next_chunk
            };
            ChunkGrant {
                chunk,
                // Only the fake reads it again.
                token: Bytes::copy_from_slice(&chunk.to_le_bytes()),
                replicas: free.iter().map(member).collect(),
                epoch: 1,
                capacity: request.max_bytes.max(1),
                policy: request.policy.or(Some(self.policy())),
                life_ms: self.life_ms.load(SeqCst),
            }
        };
        Ok(GrantReply {
            grants: (0..request.count).map(&mut grant).collect(),
        })
    }
}

/// The part of `extents` between two offsets of the file.
fn cut(extents: &[NewExtent], from: u64, to: u64) -> Vec<NewExtent> {
    let (mut at, mut cut) = (0, Vec::new());
    for extent in extents {
        let (start, end) = (from.max(at), to.min(at + extent.length));
        if start < end {
            cut.push(NewExtent {
                length: end - start,
                chunk: extent.chunk,
                chunk_offset: extent.chunk_offset + start - at,
            });
        }
        at += extent.length;
    }
    cut
}

impl Namespace {
    fn take(&mut self, content: Content) -> (Option<Bytes>, Vec<NewExtent>, u64) {
        for chunk in content.chunks {
            assert!(chunk.receipts.len() as u32 >= MINIMUM, "the policy's receipts");
            assert!(
                chunk
                    .receipts
                    .windows(2)
                    .all(|pair| { (pair[0].length, pair[0].checksum) == (pair[1].length, pair[1].checksum) })
            );
            self.chunks.insert(chunk.chunk, chunk.receipts);
        }
        let inline = content.inline.as_ref().map_or(0, |inline| inline.len() as u64);
        let size = inline + content.extents.iter().map(|extent| extent.length).sum::<u64>();
        (content.inline, content.extents, size)
    }

    fn expired(&self, content: &Content) -> bool {
        content.chunks.iter().any(|chunk| chunk.chunk < self.floor)
    }

    fn apply(&mut self, op: Op, index: u64) -> Outcome {
        let refused = |code: Code| Outcome {
            code: code.number(),
            ..Outcome::default()
        };
        match op {
            Op::Publish(publish) => {
                let target = publish.target.unwrap();
                let mut path = target.path.trim_matches('/').to_owned();
                if target.base != 0 {
                    let mut files = self.files.iter();
                    let Some((name, _)) = files.find(|(_, file)| file.inode == target.base) else {
                        return refused(Code::NotFound);
                    };
                    path = name.clone();
                }
                assert!(
                    publish.staged == 0 || publish.content.is_none(),
                    "staged content comes alone"
                );
                let content = publish.content.unwrap_or_default();
                if self.expired(&content) {
                    return refused(Code::GrantExpired);
                }
                let (inline, extents, size) = self.take(content);
                let before = self.files.get(&path).cloned();
                let versions = publish.precondition.clone().unwrap_or_default().versions;
                let version = before.as_ref().map_or(0, |file| file.version);
                if publish.precondition.as_ref().is_some_and(|wanted| wanted.absent) && before.is_some() {
                    return refused(Code::Exists);
                }
                if !versions.is_empty() && !versions.iter().any(|tag| tag.version == version) {
                    return refused(Code::PreconditionFailed);
                }
                let created = before.is_none();
                let mut file = before.unwrap_or(File {
                    inode: index + 1000,
                    ..File::default()
                });
                let mut offset = 0;
                if publish.mode == PublishMode::Append as i32 {
                    offset = file.size;
                    if inline.is_some() != file.inline.is_some() && file.size > 0 {
                        return refused(Code::InlineRefused);
                    }
                    let parts = [file.inline.take(), inline]
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>();
                    file.inline = (!parts.is_empty()).then(|| parts.concat().into());
                    file.extents.extend(extents);
                    file.size += size;
                } else if publish.mode == PublishMode::Range as i32 {
                    if file.inline.is_some() || inline.is_some() {
                        return refused(Code::InlineRefused);
                    }
                    (offset, file.size) = (publish.offset, file.size.max(publish.offset + size));
                    let before = cut(&file.extents, 0, offset);
                    let behind = cut(&file.extents, offset + size, u64::MAX);
                    file.extents = [before, extents, behind].concat();
                } else {
                    let staged = self.staged.remove(&publish.staged).unwrap_or_default();
                    (file.inline, file.extents, file.size) = (inline, staged.extents, staged.size + size);
                    file.extents.extend(extents);
                }
                file.version = index;
                let redundancy = file
                    .extents
                    .iter()
                    .filter_map(|extent| self.chunks.get(&extent.chunk))
                    .map(Vec::len);
                let outcome = Outcome {
                    inode: file.inode,
                    version: index,
                    created,
                    size: file.size,
                    offset,
                    redundancy: match publish.staged {
                        0 => redundancy.min().unwrap_or(0) as u32,
                        _ => 0,
                    },
                    ..Outcome::default()
                };
                self.files.insert(path, file);
                outcome
            }
            // There are no directories but the root and what publications make.
            Op::Stage(stage)
                if stage
                    .target
                    .as_ref()
                    .is_some_and(|to| to.path.trim_matches('/').contains('/')) =>
            {
                refused(Code::NotFound)
            }
            Op::Stage(_) => {
                self.staged.insert(index, File::default());
                Outcome {
                    inode: index,
                    ..Outcome::default()
                }
            }
            Op::StageAbandon(abandon) => match self.staged.remove(&abandon.inode) {
                Some(_) => Outcome::default(),
                None => refused(Code::NotFound),
            },
            Op::StageExtend(extend) => {
                let content = extend.content.unwrap();
                if self.expired(&content) {
                    return refused(Code::GrantExpired);
                }
                self.extended += 1;
                let receipts = content.chunks.iter().map(|chunk| chunk.receipts.len());
                let redundancy = receipts.min().unwrap_or(0) as u32;
                let (_, extents, size) = self.take(content);
                let file = self.staged.get_mut(&extend.inode).unwrap();
                assert_eq!(file.size, extend.offset);
                file.extents.extend(extents);
                file.size += size;
                Outcome {
                    redundancy,
                    ..Outcome::default()
                }
            }
            Op::ConvertInline(convert) => {
                let content = convert.content.unwrap();
                let Some(name) = self
                    .files
                    .iter()
                    .find(|(_, file)| file.inode == convert.inode)
                    .map(|(name, _)| name.clone())
                else {
                    return refused(Code::NotFound);
                };
                let file = &self.files[&name];
                if file.version != convert.version || file.inline.is_none() {
                    return refused(Code::PreconditionFailed);
                }
                let inline = file.inline.as_ref().unwrap();
                let sums = content.chunks[0].receipts.iter().map(|receipt| receipt.checksum);
                assert!(
                    sums.into_iter().all(|sum| sum == crc32c::crc32c(inline)),
                    "the same bytes"
                );
                let receipts = content.chunks.iter().map(|chunk| chunk.receipts.len());
                let redundancy = receipts.min().unwrap() as u32;
                let (_, extents, size) = self.take(content);
                let file = self.files.get_mut(&name).unwrap();
                assert_eq!(file.size, size);
                (file.inline, file.extents) = (None, extents);
                Outcome {
                    inode: file.inode,
                    version: file.version,
                    size,
                    redundancy,
                    ..Outcome::default()
                }
            }
            Op::MakeDirectory(_) => Outcome {
                created: true,
                ..Outcome::default()
            },
            _ => Outcome {
                code: Code::NotSupported.number(),
                ..Outcome::default()
            },
        }
    }
}

struct FakeChunk {
    at: usize,
    world: Arc<World>,
    env: Env,
}

impl Service for FakeChunk {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        identity(self.at as u64 + 100).answer(hello)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        if self.world.nodes[self.at].silent.load(SeqCst) {
            return Box::pin(std::future::pending());
        }
        let silent_hop = AtomicBool::new(false);
        let reply = match request.kind {
            Kind::Append => self.append(&request, &silent_hop),
            Kind::Finish => {
                let finish: Finish = request.decode().unwrap();
                let receipt = self.world.finish(self.at, finish.chunk, finish.length);
                Reply::from_result(receipt.map(|receipt| FinishReply {
                    receipt: Some(receipt),
                }))
            }
            Kind::ChunkStatus => Reply::ok(&self.status(&request.decode().unwrap())),
            Kind::CopyPrefix => Reply::from_result(self.copy(&request.decode().unwrap())),
            Kind::Read => self.read(&request.decode().unwrap()),
            kind => Reply::refuse(Code::NotSupported, format!("{kind:?}")),
        };
        let clock = self.env.clock.clone();
        Box::pin(async move {
            if silent_hop.into_inner() {
                clock.sleep(std::time::Duration::from_secs(60)).await;
            }
            reply
        })
    }
}

impl World {
    fn expired(&self, chunk: u64) -> bool {
        chunk < self.namespace.lock().unwrap().floor
    }

    fn finish(&self, at: usize, chunk: u64, length: u64) -> Result<Receipt, ErrorReply> {
        if self.expired(chunk) {
            return Err(refusal(Code::GrantExpired, "below the floor"));
        }
        let mut replicas = self.nodes[at].replicas.lock().unwrap();
        let kept = replicas
            .get_mut(&chunk)
            .ok_or_else(|| refusal(Code::NotFound, "not here"))?;
        if !kept.sealed {
            assert!(kept.data.len() as u64 >= length);
            kept.data.truncate(length as usize);
            kept.sealed = true;
        }
        let receipt = Receipt {
            chunk,
            epoch: 1,
            length: kept.data.len() as u64,
            checksum: crc32c::crc32c(&kept.data),
            replica: Some(replica(at)),
            signature: Bytes::new(),
        };
        match receipt.length == length {
            true => Ok(receipt),
            false => Err(ErrorReply {
                receipt: Some(receipt),
                ..refusal(Code::Conflict, "final at another length")
            }),
        }
    }
}

impl FakeChunk {
    fn append(&self, request: &Request, silent_hop: &AtomicBool) -> Reply {
        let append: Append = request.decode().unwrap();
        if self.world.expired(append.chunk) {
            return Reply::refuse(Code::GrantExpired, "below the floor");
        }
        let chain = append.chain.iter().filter_map(|hop| hop.replica);
        let mut hops = Vec::new();
        for replica in append.replica.into_iter().chain(chain) {
            let at = replica.disk as usize - 1;
            let node = &self.world.nodes[at];
            let mut hop = HopState {
                replica: Some(replica),
                ..HopState::default()
            };
            if node.dead.load(SeqCst) {
                hop.code = Code::Unavailable.number();
                hops.push(hop);
                break;
            }
            let after = node.silent_after.load(SeqCst);
            let total: usize = node
                .replicas
                .lock()
                .unwrap()
                .values()
                .map(|kept| kept.data.len())
                .sum();
            if node.silent.load(SeqCst) || after > 0 && total as u64 >= after {
                node.silent.store(true, SeqCst);
                silent_hop.store(true, SeqCst);
                break;
            }
            let mut replicas = node.replicas.lock().unwrap();
            let kept = replicas.entry(append.chunk).or_default();
            if kept.data.len() as u64 != append.offset || kept.sealed {
                hop.code = Code::Conflict.number();
                hops.push(hop);
                break;
            }
            kept.data.extend_from_slice(&request.payload);
            let length = kept.data.len() as u64;
            drop(replicas);
            (hop.received, hop.durable) = (length, length);
            if append.last {
                hop.receipt = Some(self.world.finish(at, append.chunk, length).unwrap());
                assert_eq!(
                    hop.receipt.as_ref().map(|receipt| receipt.checksum),
                    append.checksum
                );
            }
            hops.push(hop);
        }
        Reply::ok(&AppendReply { hops })
    }

    fn status(&self, request: &ChunkStatusRequest) -> ChunkStatus {
        let replicas = self.world.nodes[self.at].replicas.lock().unwrap();
        replicas
            .get(&request.chunk)
            .map_or(ChunkStatus::default(), |kept| ChunkStatus {
                state: if kept.sealed {
                    ReplicaState::Sealed
                } else {
                    ReplicaState::Open
                } as i32,
                received: kept.data.len() as u64,
                durable: kept.data.len() as u64,
                ..ChunkStatus::default()
            })
    }

    fn copy(&self, request: &CopyPrefix) -> Result<FinishReply, ErrorReply> {
        let to = request.to.as_ref().and_then(|to| to.replica).unwrap().disk as usize - 1;
        let node = &self.world.nodes[to];
        if node.dead.load(SeqCst) || node.silent.load(SeqCst) {
            return Err(refusal(Code::Unavailable, "the replacement does not answer"));
        }
        let from = self.world.nodes[self.at].replicas.lock().unwrap()[&request.chunk].clone();
        let copy = Stored {
            data: from.data[..request.length as usize].to_vec(),
            sealed: false,
        };
        node.replicas.lock().unwrap().insert(request.chunk, copy);
        let receipt = self.world.finish(to, request.chunk, request.length)?;
        Ok(FinishReply {
            receipt: Some(receipt),
        })
    }

    fn read(&self, request: &Read) -> Reply {
        let node = &self.world.nodes[self.at];
        node.reads.fetch_add(1, SeqCst);
        let replicas = node.replicas.lock().unwrap();
        let Some(kept) = replicas.get(&request.chunk) else {
            return Reply::refuse(Code::NotFound, "not here");
        };
        let (from, to) = (
            request.offset as usize,
            request.offset as usize + request.length as usize,
        );
        // Damage is an empty replica here.
        let Some(data) = kept.data.get(from..to) else {
            return Reply::refuse(Code::Corrupt, "damaged");
        };
        let sums = checksum::block_checksums(data);
        let reply = ReadReply {
            chunk_length: kept.data.len() as u64,
        };
        Reply::with_payload(&reply, Bytes::copy_from_slice(data), Some(sums.into()))
    }
}
