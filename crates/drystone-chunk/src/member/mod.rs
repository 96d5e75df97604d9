//! Membership: registration with the metadata leader, heartbeats, and the orders that come back.
//!
//! Any metadata server is asked; it forwards to the leader. What is learned here is soft: the grant floor starts
//! unknown at each start, and until the first registration no client's grant is accepted. A leader that does not
//! know this server, or has a new term, is registered with at once. A cluster that calls this node a stranger
//! ends it, but for a boot that its disks may have missed: see `missed`.

mod boot_recovery;

use crate::changes::{Name, SWEEP, Told};
use crate::error::StopReason;
use crate::member::boot_recovery::MissedBoots;
use crate::node::SharedNode;
use crate::service::replica as orders;
use drystone_env::{Monotonic, Rng};
use drystone_proto::cluster::{DiskLoad, ErrorReply, Heartbeat, HeartbeatReply, Register, RegisterReply};
use drystone_proto::data::{ChunkStatus, DeleteOrder, ReplicaState};
use drystone_proto::record::{DiskRecord, NodeRecord, role};
use drystone_proto::{Kind, Message, Priority};
use drystone_rpc::{CallError, CallOptions, refusal};
use drystone_types::{BootId, Code};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The leader may ask for heartbeats within these bounds.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// After a failure the next metadata server is asked this soon, more slowly each time.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A disk that does not tell its usage by then is reported with what it told last, and is asked nothing else for
/// this heartbeat. For all disks together: a heartbeat must leave whatever they do.
const USAGE_PATIENCE: Duration = Duration::from_millis(300);
/// Replicas whose disk does not tell by then how they stand are told of with a later heartbeat.
const STATUS_PATIENCE: Duration = Duration::from_millis(300);
/// The first registration waits this long for the disks to be looked through; that goes on beside it.
const FIND_PATIENCE: Duration = Duration::from_secs(1);
/// Replicas that a disk is asked for at once while it is looked through.
const FIND_PAGE: u32 = 10_000;
/// Heartbeats that may go unanswered before the server calls itself not ready.
const MISSES: u32 = 10;

/// When a leader last answered.
#[derive(Default)]
pub(crate) struct Pulse {
    answered: AtomicU64,
    interval_us: AtomicU64,
}

impl Pulse {
    fn beat(&self, now: Monotonic, interval: Duration) {
        self.answered.store(now.0.max(1), Relaxed);
        self.interval_us.store(interval.as_micros() as u64, Relaxed);
    }

    /// True if a leader has answered lately.
    pub(crate) fn is_alive(&self, now: Monotonic) -> bool {
        let answered = self.answered.load(Relaxed);
        let patience = self.interval_us.load(Relaxed).saturating_mul(u64::from(MISSES));
        answered != 0 && now.0.saturating_sub(answered) <= patience
    }
}

/// Why a call to the leader brought nothing.
enum Failure {
    Again,
    /// The cluster's verdict, in its words.
    Stranger(ErrorReply),
}

/// The state of the conversation with the leader.
pub(crate) struct Member {
    node: SharedNode,
    addresses: Vec<String>,
    at: usize,
    boot: BootId,
    missed: MissedBoots,
    /// Where the last refusal said that the leader is; asked for as long as it answers.
    hint: Option<String>,
    term: u64,
    interval: Duration,
    loads: BTreeMap<u64, DiskLoad>,
    /// Errors of device and checksums by disk since the start: now, and as the leader has heard.
    errors: BTreeMap<u64, (u64, u64)>,
    told_errors: BTreeMap<u64, (u64, u64)>,
    /// Disks with orders to delete under way.
    deleting: Arc<Mutex<BTreeSet<u64>>>,
    failures: u32,
    /// Connections refused as a stranger's in a row.
    strangers: usize,
}

impl Member {
    pub(crate) fn new(node: SharedNode) -> Self {
        let addresses = node.config.metadata.clone();
        let mut rng = node.env.rng("chunk-member");
        let at = rng.below(addresses.len().max(1) as u64) as usize;
        let interval = node.config.heartbeat;
        Self {
            boot: node.boot,
            node,
            missed: MissedBoots::default(),
            addresses,
            at,
            hint: None,
            term: 0,
            interval,
            loads: BTreeMap::new(),
            errors: BTreeMap::new(),
            told_errors: BTreeMap::new(),
            deleting: Arc::default(),
            failures: 0,
            strangers: 0,
        }
    }

    /// Runs until the node is called a stranger.
    pub(crate) async fn run(mut self) -> StopReason {
        self.find_open().await;
        loop {
            match self.round().await {
                Ok(()) => self.failures = 0,
                Err(Failure::Again) => self.failures += 1,
                Err(Failure::Stranger(reply)) => match self.missed.judge(&self.node, &reply, self.boot).await
                {
                    Ok(boot) => self.boot = boot,
                    Err(reason) => return reason,
                },
            }
            let wait = if self.failures == 0 {
                self.interval
            } else {
                self.retry_wait()
            };
            self.node.env.clock.sleep(wait).await;
        }
    }

    fn retry_wait(&self) -> Duration {
        (RETRY.0 * 2u32.saturating_pow(self.failures.min(10) - 1))
            .min(RETRY.1)
            .min(self.interval)
    }

    /// Registers if need be, otherwise tells the leader how things stand.
    async fn round(&mut self) -> Result<(), Failure> {
        if self.term == 0 {
            self.register().await?;
        }
        let told = self.node.changes().tell();
        let (disks, answering) = self.loads().await;
        let (statuses, open, sweep) = self.statuses(&told, &answering).await;
        self.show_open(&statuses);
        let node = &self.node;
        let heartbeat = Heartbeat {
            node: node.identity.node.0,
            incarnation: node.identity.node_incarnation.0,
            boot_counter: self.boot.counter,
            boot_random: self.boot.random,
            disks,
            open: statuses,
            deleted: told.deleted.clone(),
        };
        let reply: HeartbeatReply = self.call(Kind::Heartbeat, &heartbeat).await?;
        if !reply.register {
            self.node.changes().heard(&told, &open, sweep);
            self.told_errors.clone_from(&self.errors);
        }
        self.taken();
        self.set_interval(reply.heartbeat_ms);
        self.node.learn_floor(reply.grant_floor);
        self.execute(reply.delete);
        self.node.chains.sweep(self.node.env.clock.now());
        if reply.register || reply.term > self.term {
            self.term = 0;
            return self.register().await;
        }
        Ok(())
    }

    /// Finds the replicas that are not sealed, of which the leader is to hear first: at the same time on all disks,
    /// and beside the heartbeats where it takes long.
    async fn find_open(&self) {
        let clock = &self.node.env.clock;
        let deadline = clock.now().plus(FIND_PATIENCE);
        let disks: Vec<u64> = self.node.disks.keys().copied().collect();
        let ends: Vec<_> = disks
            .into_iter()
            .map(|disk| {
                let (ended, end) = oneshot::channel::<()>();
                let node = SharedNode::clone(&self.node);
                let find = async move {
                    find_open_on(&node, disk).await;
                    drop(ended);
                };
                self.node.env.spawn.spawn("chunk-find-open", Box::pin(find));
                end
            })
            .collect();
        for end in ends {
            let _ = clock.until(deadline, end).await;
        }
    }

    async fn register(&mut self) -> Result<(), Failure> {
        let node = &self.node;
        let disks = node.disks.iter().map(|(id, entry)| DiskRecord {
            id: *id,
            incarnation: entry.runner.me.incarnation.0,
            device: entry.device,
            path: entry.runner.path.clone(),
        });
        let name = &node.identity.name;
        let record = NodeRecord {
            id: node.identity.node.0,
            incarnation: node.identity.node_incarnation.0,
            roles: role::CHUNK,
            name: name.clone(),
            address: node.address.clone(),
            rack: node.config.rack.clone(),
            zone: node.config.zone.clone(),
            host: if node.config.host.is_empty() {
                name.clone()
            } else {
                node.config.host.clone()
            },
            disks: disks.collect(),
            boot_counter: self.boot.counter,
            boot_random: self.boot.random,
            admin: node.config.admin.clone(),
            ..NodeRecord::default()
        };
        let reply: RegisterReply = self
            .call(Kind::Register, &Register { node: Some(record) })
            .await?;
        self.missed.over();
        self.term = reply.term.max(1);
        self.set_interval(reply.heartbeat_ms);
        self.node.learn_floor(reply.grant_floor);
        self.taken();
        self.node
            .standing
            .send_if_modified(|standing| !std::mem::replace(&mut standing.registered, true));
        tracing::info!(
            node = self.node.identity.node.0,
            term = reply.term,
            "registered with the metadata leader"
        );
        Ok(())
    }

    fn taken(&self) {
        self.node.pulse.beat(self.node.env.clock.now(), self.interval);
        self.node.metrics.registered.set(1);
    }

    fn set_interval(&mut self, told_ms: u32) {
        if told_ms != 0 {
            self.interval = Duration::from_millis(u64::from(told_ms)).clamp(INTERVALS.0, INTERVALS.1);
        }
    }

    async fn call<Req: Message, Rep: Message + Default>(
        &mut self,
        kind: Kind,
        request: &Req,
    ) -> Result<Rep, Failure> {
        let hint = self.hint.take();
        let address = hint
            .clone()
            .unwrap_or_else(|| self.addresses[self.at % self.addresses.len()].clone());
        let clock = &self.node.env.clock;
        let deadline = clock.now().plus(self.node.config.heartbeat_timeout);
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let error = match self
            .node
            .channels
            .to(&address)
            .call::<Req, Rep>(kind, request, None, options)
            .await
        {
            Ok(answer) => {
                self.strangers = 0;
                self.hint = hint;
                return Ok(answer.body);
            }
            Err(error) => error,
        };
        let code = error.code();
        if code == Code::Stranger {
            // One address that leads elsewhere is a mistake in a list; all of them are a verdict.
            self.strangers += 1;
            let verdict =
                matches!(error, CallError::Refused(_)) || self.strangers >= self.addresses.len().max(3);
            if verdict {
                let reply = error.reply().cloned();
                return Err(Failure::Stranger(
                    reply.unwrap_or_else(|| refusal(code, error.to_string())),
                ));
            }
        } else {
            self.strangers = 0;
        }
        if let CallError::Refused(reply) = &error
            && code == Code::NotLeader
            && !reply.leader.is_empty()
            && reply.leader != address
        {
            self.hint = Some(reply.leader.clone());
        } else {
            self.at = (self.at + 1) % self.addresses.len();
        }
        if self.failures == MISSES {
            self.node.metrics.registered.set(0);
            tracing::warn!(%address, %error, "no metadata leader has answered for a while");
        }
        Err(Failure::Again)
    }

    /// How the replicas stand of which the leader is to hear, some others in turn, those to tell again, and where
    /// the sweep goes on once this is heard. Only disks that are `answering` are asked: questions would pile up in
    /// the others.
    async fn statuses(
        &self,
        told: &Told,
        answering: &BTreeSet<u64>,
    ) -> (Vec<ChunkStatus>, BTreeSet<Name>, Name) {
        let clock = &self.node.env.clock;
        let deadline = clock.now().plus(STATUS_PATIENCE);
        let mut open = BTreeSet::new();
        let mut asked = Vec::with_capacity(told.names.len());
        for ((disk, chunk), _) in &told.names {
            if !answering.contains(disk) {
                open.insert((*disk, *chunk));
            } else if let Ok(runner) = self.node.disk_by_id(*disk) {
                asked.push(((*disk, *chunk), runner.status(*chunk)));
            }
        }
        let mut statuses = Vec::with_capacity(asked.len());
        for (name, answer) in asked {
            match clock.until(deadline, answer).await {
                Some(Ok(status)) if status.state != ReplicaState::Absent as i32 => {
                    if status.state != ReplicaState::Sealed as i32 {
                        open.insert(name);
                    }
                    statuses.push(status);
                }
                Some(Ok(_)) => {}
                // The disk is busy or gone: again with the next heartbeat.
                Some(Err(_)) | None => {
                    open.insert(name);
                }
            }
        }
        let (swept, sweep) = self.sweep(answering, deadline).await;
        statuses.extend(swept);
        (statuses, open, sweep)
    }

    fn show_open(&self, statuses: &[ChunkStatus]) {
        let is_open = |status: &&ChunkStatus| status.state != ReplicaState::Sealed as i32;
        let received = statuses.iter().filter(is_open).map(|status| status.received);
        let sum = received.fold(0u64, u64::saturating_add);
        self.node.metrics.open.set(i64::try_from(sum).unwrap_or(i64::MAX));
    }

    /// The next replicas of the slow sweep over all disks, and where it goes on. Those that are not sealed are noted
    /// for the next time: after a start that is how they are found.
    async fn sweep(&self, answering: &BTreeSet<u64>, deadline: Monotonic) -> (Vec<ChunkStatus>, Name) {
        let (disk, after) = self.node.changes().sweep();
        let Some((&disk, entry)) = self
            .node
            .disks
            .range(disk..)
            .next()
            .or_else(|| self.node.disks.first_key_value())
        else {
            return (Vec::new(), (0, 0));
        };
        let next_disk = (disk.wrapping_add(1), 0);
        let listed = if answering.contains(&disk) {
            let list = entry.runner.list(after, SWEEP as u32);
            self.node.env.clock.until(deadline, list).await
        } else {
            None
        };
        let Some(Ok((chunks, more))) = listed else {
            return (Vec::new(), next_disk);
        };
        let next = match chunks.last() {
            Some(last) if more => (disk, last.chunk),
            _ => next_disk,
        };
        let mut changes = self.node.changes();
        for status in chunks
            .iter()
            .filter(|status| status.state != ReplicaState::Sealed as i32)
        {
            changes.note((disk, status.chunk));
        }
        let sealed = chunks
            .into_iter()
            .filter(|status| status.state == ReplicaState::Sealed as i32);
        (sealed.collect(), next)
    }

    /// How loaded the disks are, and which of them have answered in time.
    async fn loads(&mut self) -> (Vec<DiskLoad>, BTreeSet<u64>) {
        let node = SharedNode::clone(&self.node);
        let clock = &node.env.clock;
        let deadline = clock.now().plus(USAGE_PATIENCE);
        let mut answering = BTreeSet::new();
        // All are asked before the first is waited for.
        let asked: Vec<_> = (node.disks.iter())
            .map(|(id, entry)| (*id, entry, entry.runner.usage()))
            .collect();
        for (id, entry, answer) in asked {
            let usage = match answer {
                Ok(answer) => clock.until(deadline, answer).await.and_then(Result::ok),
                Err(_) => None,
            };
            let now = clock.now();
            let counted = entry.runner.load();
            let load = self.loads.entry(id).or_insert_with(|| DiskLoad {
                disk: id,
                ..DiskLoad::default()
            });
            if let Some(usage) = usage {
                answering.insert(id);
                usage.fill(load, self.told_errors.get(&id).copied().unwrap_or_default());
                self.errors
                    .insert(id, (usage.0.io_errors, usage.0.checksum_errors));
            }
            if entry.runner.is_closed() {
                load.read_only = true;
                load.reason = "the disk is not served any more".into();
            }
            load.queue = counted.queue.load(Relaxed);
            load.write_p99_us = counted.writes.p99(now).as_micros().min(u128::from(u32::MAX)) as u32;
            node.metrics.disk(load);
        }
        node.metrics.cached.set(node.cache.bytes() as i64);
        node.metrics.in_flight.set(node.heads.used() as i64);
        (self.loads.values().cloned().collect(), answering)
    }

    /// Executes orders beside the heartbeats, one batch at a time for each disk: the leader repeats what was not
    /// done. A disk that does not answer holds up its own orders alone, and gets no more of them until it has
    /// answered these: repeated ones would pile up in its store.
    fn execute(&self, orders: Vec<DeleteOrder>) {
        let mut by_disk: BTreeMap<u64, Vec<DeleteOrder>> = BTreeMap::new();
        for order in orders {
            let disk = order.replica.map_or(0, |replica| replica.disk);
            by_disk.entry(disk).or_default().push(order);
        }
        for (disk, orders) in by_disk {
            if !lock(&self.deleting).insert(disk) {
                continue;
            }
            let (node, deleting) = (SharedNode::clone(&self.node), Arc::clone(&self.deleting));
            self.node.env.spawn.spawn(
                "chunk-delete",
                Box::pin(async move {
                    execute_on(&node, disk, orders).await;
                    lock(&deleting).remove(&disk);
                }),
            );
        }
    }
}

async fn find_open_on(node: &SharedNode, disk: u64) {
    let Ok(runner) = node.disk_by_id(disk) else { return };
    let mut after = 0;
    while let Ok((chunks, more)) = runner.list(after, FIND_PAGE).await {
        let mut changes = node.changes();
        for status in chunks
            .iter()
            .filter(|status| status.state != ReplicaState::Sealed as i32)
        {
            changes.note((disk, status.chunk));
        }
        match chunks.last() {
            Some(last) if more => after = last.chunk,
            _ => break,
        }
    }
}

async fn execute_on(node: &SharedNode, disk: u64, orders: Vec<DeleteOrder>) {
    let clock = &node.env.clock;
    let mut work = std::pin::pin!(orders::execute(node, orders, None));
    let codes = match clock
        .until(clock.now().plus(orders::PATIENCE), work.as_mut())
        .await
    {
        Some(codes) => codes,
        None => {
            tracing::warn!(disk, "the disk does not answer orders to delete");
            work.await
        }
    };
    let refused = codes.iter().filter(|code| **code != 0).count();
    if refused > 0 {
        tracing::warn!(disk, refused, of = codes.len(), "orders to delete were refused");
    }
}

fn lock(disks: &Mutex<BTreeSet<u64>>) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
    disks.lock().unwrap_or_else(PoisonError::into_inner)
}
