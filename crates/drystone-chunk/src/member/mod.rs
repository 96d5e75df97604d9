//! Membership: registration with the metadata leader, heartbeats, and the orders that come back.
//!
//! Any metadata server is asked; it forwards to the leader. What is learned here is soft: the grant floor starts
//! unknown at each start, and until the first registration no client's grant is accepted. A leader that does not
//! know this server, or has a new term, is registered with at once. A cluster that calls this node a stranger
//! ends it, but for a boot that its disks may have missed: see [`boot_recovery`]. Any other refusal is waited out: `busy` is
//! what a server hears while its removal is being decided.
//!
//! Read this file, then [`leader_calls`], [`register`], [`report`] and [`load`] (what a heartbeat reports), [`orders`].

mod asked;
mod boot_recovery;
mod contact;
mod leader_calls;
mod load;
mod orders;
mod register;
mod report;

pub(crate) use asked::AskedReports;
pub(crate) use contact::LeaderContact;

use crate::chain::chains::Chains;
use crate::changes::{ChangeLog, MOST_REPORTED};
use crate::config::Config;
use crate::disk::disks::Disks;
use crate::error::StopReason;
use crate::grants::GrantFloor;
use crate::memory::budget::Budget;
use crate::memory::cache::Cache;
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::standing::Standing;
use boot_recovery::BootRecovery;
use contact::MISSES;
use drystone_env::Env;
use drystone_identity::Identity;
use drystone_proto::Kind;
use drystone_proto::cluster::{AskReport, Heartbeat, HeartbeatReply, RegisterReply};
use drystone_proto::record::NodeRecord;
use drystone_rpc::Channels;
use drystone_types::BootId;
use leader_calls::{Failure, LeaderCalls};
use load::LoadReport;
use orders::OrderQueue;
use report::ReplicaReport;
use std::sync::Arc;
use std::time::Duration;

/// The leader may ask for heartbeats within these bounds.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));
/// After a failure the next metadata server is asked this soon, more slowly each time.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What membership needs of the server.
pub(crate) struct MemberParts {
    pub(crate) env: Env,
    pub(crate) channels: Channels,
    pub(crate) disks: Arc<Disks>,
    pub(crate) chains: Arc<Chains>,
    pub(crate) changes: Arc<ChangeLog>,
    pub(crate) floor: Arc<GrantFloor>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) contact: Arc<LeaderContact>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) from_clients: Budget,
    pub(crate) asked: Arc<AskedReports>,
}

/// The state of the conversation with the leader.
pub(crate) struct Member {
    parts: MemberParts,
    record: NodeRecord,
    boot: BootId,
    boot_recovery: BootRecovery,
    leader: LeaderCalls,
    loads: LoadReport,
    replicas: ReplicaReport,
    orders: OrderQueue,
    term: u64,
    /// Of the last leader whose request for a report was followed.
    asked_term: u64,
    interval: Duration,
    failures: u32,
}

impl Member {
    /// `boot` is the one that the server started as, `address` where others reach it.
    pub(crate) fn new(
        parts: MemberParts,
        config: &Config,
        identity: &Identity,
        boot: BootId,
        address: &str,
    ) -> Self {
        let clock = || Arc::clone(&parts.env.clock);
        let (disks, metrics) = (|| Arc::clone(&parts.disks), || Arc::clone(&parts.metrics));
        let leader = LeaderCalls::new(
            clock(),
            parts.channels.clone(),
            config.metadata.clone(),
            config.heartbeat_timeout,
            &mut parts.env.rng("chunk-member"),
        );
        let replicas = ReplicaReport {
            clock: clock(),
            disks: disks(),
            changes: Arc::clone(&parts.changes),
            metrics: metrics(),
        };
        let (spawn, orders) = (Arc::clone(&parts.env.spawn), Arc::clone(&parts.orders));
        Self {
            record: register::record(identity, config, address, &parts.disks),
            boot,
            boot_recovery: BootRecovery::default(),
            leader,
            loads: LoadReport::new(clock(), disks(), metrics()),
            replicas,
            orders: OrderQueue::new(clock(), spawn, orders),
            term: 0,
            asked_term: 0,
            interval: config.heartbeat,
            failures: 0,
            parts,
        }
    }

    /// Runs until the node is called a stranger.
    pub(crate) async fn run(mut self) -> StopReason {
        self.replicas.find_open(&self.parts.env).await;
        loop {
            // The leader that is being called may be dead: a new one that asks is not kept waiting for that.
            let asked = Arc::clone(&self.parts.asked);
            let newer = asked.later_than(self.term, self.asked_term);
            let result = tokio::select! {
                biased;
                asked = newer => {
                    self.follow(asked);
                    continue;
                }
                result = self.round() => result,
            };
            match result {
                Ok(()) => self.failures = 0,
                Err(Failure::Again(address, error)) => {
                    if self.failures == MISSES {
                        self.parts.metrics.registered.set(0);
                        tracing::warn!(%address, %error, "no metadata leader takes this server for a while");
                    }
                    self.failures += 1;
                }
                Err(Failure::Stranger(reply)) => {
                    let (env, disks) = (&self.parts.env, &self.parts.disks);
                    match self.boot_recovery.judge(env, disks, &reply, self.boot).await {
                        Ok(boot) => self.boot = boot,
                        Err(reason) => return reason,
                    }
                }
            }
            let wait = match self.failures {
                // It must register: how things stand is told right after.
                0 if self.term == 0 => RETRY.0,
                0 => self.interval,
                _ => self.retry_wait(),
            };
            self.wait(wait).await;
        }
    }

    /// Waits for the time of the next heartbeat, or until a new leader asks for a report.
    async fn wait(&mut self, wait: Duration) {
        let clock = &self.parts.env.clock;
        let asked = self.parts.asked.later_than(self.term, self.asked_term);
        if let Some(asked) = clock.until(clock.now().plus(wait), asked).await {
            self.follow(asked);
        }
    }

    /// Registers with the leader that asked next.
    fn follow(&mut self, asked: AskReport) {
        tracing::debug!(
            node = self.record.id,
            term = asked.term,
            leader = asked.leader,
            "a new leader asks"
        );
        self.asked_term = asked.term;
        self.leader.try_next(asked.leader);
        self.term = 0;
    }

    fn retry_wait(&self) -> Duration {
        (RETRY.0 * 2u32.saturating_pow(self.failures.min(10) - 1))
            .min(RETRY.1)
            .min(self.interval)
    }

    /// Registers if need be, and sends a heartbeat.
    async fn round(&mut self) -> Result<(), Failure> {
        if self.term == 0 {
            self.register().await?;
        }
        let batch = self.parts.changes.lock().next_batch();
        let (disks, answering) = self.loads.collect().await;
        self.parts.metrics.cached.set(self.parts.cache.bytes() as i64);
        self.parts
            .metrics
            .in_flight
            .set(self.parts.from_clients.used() as i64);
        let (statuses, open, sweep) = self.replicas.collect(&batch, &answering).await;
        let heartbeat = Heartbeat {
            node: self.record.id,
            incarnation: self.record.incarnation,
            boot_counter: self.boot.counter,
            boot_random: self.boot.random,
            disks,
            open: statuses,
            acks: batch.acks.clone(),
        };
        assert!(
            heartbeat.open.len() <= MOST_REPORTED && heartbeat.acks.len() <= MOST_REPORTED,
            "a heartbeat of {} replicas and {} acknowledgements",
            heartbeat.open.len(),
            heartbeat.acks.len()
        );
        let reply: HeartbeatReply = self.leader.call(Kind::Heartbeat, &heartbeat).await?;
        if !reply.register {
            self.parts.changes.lock().acknowledge(&batch, &open, sweep);
            self.loads.acknowledge();
        }
        self.taken();
        self.set_interval(reply.heartbeat_ms);
        self.parts.floor.learn(reply.grant_floor);
        self.orders.execute(reply.orders);
        self.parts.chains.sweep(self.parts.env.clock.now());
        if reply.register || reply.term > self.term {
            self.term = 0;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result<(), Failure> {
        let registration = register::registration(&self.record, self.boot);
        let reply: RegisterReply = self.leader.call(Kind::Register, &registration).await?;
        self.boot_recovery.close();
        self.term = reply.term.max(1);
        self.set_interval(reply.heartbeat_ms);
        self.parts.floor.learn(reply.grant_floor);
        self.taken();
        self.parts.standing.registered();
        tracing::info!(
            node = self.record.id,
            term = reply.term,
            "registered with the metadata leader"
        );
        Ok(())
    }

    fn taken(&self) {
        self.parts
            .contact
            .answered(self.parts.env.clock.now(), self.interval);
        self.parts.metrics.registered.set(1);
    }

    fn set_interval(&mut self, asked_ms: u32) {
        if asked_ms != 0 {
            self.interval = Duration::from_millis(u64::from(asked_ms)).clamp(INTERVALS.0, INTERVALS.1);
        }
    }
}
