//! Background work: introducing this server to the leader, and what a leader does by itself.
//!
//! Everything here is a proposal or soft state; a step that is lost is simply done again.

use crate::leader::Health;
use crate::message::RaftView;
use crate::service::{MetaService, own_record};
use crate::shared::Shared;
use drystone_env::Monotonic;
use drystone_proto::cluster::{Join, JoinReply, Ping};
use drystone_proto::command::{ForgetReplicas, Housekeep, Initialize, Op, RaiseGrantFloor};
use drystone_proto::record::{NodeRecord, PolicyRecord};
use drystone_proto::{Kind, Priority};
use drystone_rpc::{CallError, CallOptions};
use drystone_types::{Code, NodeId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Between rounds of a leader's work.
const ROUND: Duration = Duration::from_millis(500);
/// Housekeeping without a reason: sessions and keys expire by log time alone.
const HOUSEKEEP_IDLE: Duration = Duration::from_secs(30);
/// Records that one step of housekeeping touches: some milliseconds of apply.
const HOUSEKEEP_LIMIT: u32 = 1_000;
/// Steps in a row before others get their turn.
const HOUSEKEEP_STEPS: usize = 16;
/// Deletions logged with one entry.
const FORGET: usize = 4_096;
/// Chunk records looked at under one lock.
const SLICE: usize = 1_000;
/// Doomed chunks read per round.
const DOOMED: usize = 16_384;
/// Up to this many chunks every round counts redundancy anew; beyond, every tenth of a million costs one more.
const SCAN_EACH_ROUND: u64 = 100_000;
/// Addresses asked in one attempt to introduce this server.
const ATTEMPTS: usize = 16;
/// A server that hears of no leader for so long introduces itself again: many elections.
const FORGOTTEN: Duration = Duration::from_secs(5);
/// Between attempts to introduce this server.
const INTRODUCE: Duration = Duration::from_millis(300);

/// How often every other member is asked for a sign of life, and how long it has for it: a connection on which nothing
/// comes back is then given up and made again. Raft's messages are not answered on the connection that they take, so
/// one that swallows them would be used for ever.
const PULSE: Duration = Duration::from_secs(2);

async fn feel_pulses(shared: &Arc<Shared>) {
    let me = shared.identity.node;
    loop {
        let members = shared.raft_view().member_ids();
        let addresses = members
            .into_iter()
            .filter(|node| *node != me.0)
            .filter_map(|node| {
                let node = NodeId(node);
                Some((node, shared.peers.address(node)?))
            });
        let next = shared.env.clock.now().plus(PULSE);
        for (node, address) in addresses {
            let channel = shared.channels.to_node(&address, node);
            let options = CallOptions::until(next).priority(Priority::Control);
            shared.spawn("meta-pulse-of", async move {
                // What it says does not matter; that nothing came is seen by the connection.
                let _ = channel
                    .call::<Ping, Ping>(Kind::Ping, &Ping { nonce: 0 }, None, options)
                    .await;
            });
        }
        shared.env.clock.sleep_until(next).await;
    }
}

/// Starts the tasks.
pub(crate) fn start(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let (inner, to) = (Arc::clone(shared), Arc::clone(service));
    shared.spawn("meta-introduce", async move { introduce(&inner, &to).await });
    let inner = Arc::clone(shared);
    shared.spawn("meta-pulse", async move { feel_pulses(&inner).await });
    let (inner, to) = (Arc::clone(shared), Arc::clone(service));
    shared.spawn("meta-steward", async move { serve_terms(&inner, &to).await });
}

/// Tells the leader this server's address (and asks to be admitted, if it is no member) until it is known; again
/// when for a while no leader was heard of or this server was no member, because another process of this node may have
/// been let in instead.
async fn introduce(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let me = shared.identity.node;
    let record = own_record(shared);
    let mut view = shared.view.subscribe();
    loop {
        let known = if shared.office().is_some() {
            service.admit(record.clone()).await.is_ok()
        } else {
            ask_members(shared, &record, me).await
        };
        if !known {
            shared.env.clock.sleep(INTRODUCE).await;
            continue;
        }
        loop {
            let is_forgotten = |view: &RaftView| view.leader.is_none() || view.is_removed(me);
            if view.wait_for(is_forgotten).await.is_err() {
                return;
            }
            let patience = shared.env.clock.now().plus(FORGOTTEN);
            let led = view.wait_for(|view| !is_forgotten(view));
            if shared.env.clock.until(patience, led).await.is_none() {
                break;
            }
        }
    }
}

async fn ask_members(shared: &Arc<Shared>, record: &NodeRecord, me: NodeId) -> bool {
    let leader = shared.raft_view().leader.filter(|leader| *leader != me);
    let mut addresses: VecDeque<String> = leader
        .and_then(|leader| shared.peers.address(leader))
        .into_iter()
        .collect();
    if addresses.is_empty() {
        if shared.identity.joining {
            addresses.extend(shared.config.join.iter().cloned());
        }
        addresses.extend(
            shared
                .peers
                .all()
                .into_iter()
                .filter(|(node, _)| *node != me)
                .map(|(_, address)| address),
        );
    }
    // A server that is not the leader may name it.
    for _ in 0..ATTEMPTS {
        let Some(address) = addresses.pop_front() else {
            break;
        };
        let deadline = shared.env.clock.now().plus(Duration::from_secs(3));
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let join = Join {
            node: Some(record.clone()),
        };
        match shared
            .channels
            .to(&address)
            .call::<Join, JoinReply>(Kind::Join, &join, None, options)
            .await
        {
            Ok(answer) => {
                // Of a voter that has moved since this one was here, and leads, nothing else can tell.
                if !shared.take_records(&answer.body.records) {
                    return false;
                }
                for member in answer.body.members {
                    if member.node != me.0 {
                        shared.peers.learn(NodeId(member.node), &member.address);
                    }
                }
                return true;
            }
            Err(CallError::Refused(error)) if !error.leader.is_empty() => {
                addresses.push_front(error.leader);
            }
            Err(error) if error.code() == Code::Stranger && is_voter(shared, me) => {
                shared.fail(format!("the cluster refuses this server: {error}"));
                return false;
            }
            Err(error) if error.code() == Code::Stranger => {
                tracing::warn!(node = %me, %error, "the cluster does not take this server");
                shared.env.clock.sleep(FORGOTTEN).await;
                return false;
            }
            Err(error) => tracing::debug!(address, %error, "could not introduce this server"),
        }
    }
    false
}

/// True if this server takes itself for a voter: one that was replaced knows better, and only waits.
fn is_voter(shared: &Shared, me: NodeId) -> bool {
    let view = shared.view.borrow();
    view.conf.voters.is_empty() || view.conf.voters.contains(&me.0)
}

/// Runs the leader's rounds while this server holds an office.
async fn serve_terms(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let mut watch = shared.view.subscribe();
    loop {
        let Ok(term) = watch
            .wait_for(|view| view.office.is_some())
            .await
            .map(|view| view.office.unwrap_or(0))
        else {
            return;
        };
        tracing::info!(node = %shared.identity.node, term, "leading");
        shared.metrics.leading.set(1);
        serve_term(shared, service, term).await;
        shared.metrics.leading.set(0);
    }
}

async fn serve_term(shared: &Arc<Shared>, service: &Arc<MetaService>, term: u64) {
    let now = shared.env.clock.now();
    // The ids of earlier leaders begin to age now.
    service.leader.with(shared, |_| ());
    initialize(shared).await;
    let mut rounds = Rounds {
        housekept: None,
        seen: 0,
        scan: Scan::default(),
        doomed_after: 0,
        log_time: (0, now),
    };
    while shared.office() == Some(term) {
        service.return_vote().await;
        raise_floor(shared, service).await;
        forget(shared, service).await;
        rounds.housekeep(shared).await;
        rounds.doomed(shared, service);
        rounds.scan(shared, service);
        shared.env.clock.sleep(ROUND).await;
    }
}

async fn initialize(shared: &Arc<Shared>) {
    if shared.read().initialized() {
        return;
    }
    let policy = shared.config.policy.policy();
    let policy = PolicyRecord {
        replicas: policy.replicas,
        ack: policy.ack.number(),
        degraded_minimum: policy.degraded_minimum,
        chunk_bytes: policy.chunk_bytes.0,
    };
    let initialize = Initialize {
        policy: Some(policy),
        owner: shared.config.owner.clone(),
        mode: 0,
    };
    if let Err(reason) = shared.propose(Op::Initialize(initialize), None).await {
        tracing::warn!(
            ?reason,
            "the first command was dropped; the next leader proposes it"
        );
    }
}

async fn raise_floor(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let now = shared.env.clock.now();
    let age = shared.config.grant_age;
    let floor = service
        .leader
        .with(shared, |office| office.ranges.floor(now, age))
        .flatten();
    let Some(floor) = floor else { return };
    if floor > shared.read().grant_floor().0
        && shared
            .propose(Op::RaiseGrantFloor(RaiseGrantFloor { floor }), None)
            .await
            .is_err()
    {
        return;
    }
    service.leader.with(shared, |office| office.ranges.raised(floor));
}

async fn forget(shared: &Arc<Shared>, service: &Arc<MetaService>) {
    let replicas = service
        .leader
        .with(shared, |office| office.reclaim.to_log(FORGET))
        .unwrap_or_default();
    if replicas.is_empty() {
        return;
    }
    let command = ForgetReplicas {
        replicas: replicas.clone(),
    };
    if shared.propose(Op::ForgetReplicas(command), None).await.is_ok() {
        service
            .leader
            .with(shared, |office| office.reclaim.logged(&replicas));
    }
}

struct Rounds {
    housekept: Option<Monotonic>,
    /// Applied index after the last housekeeping.
    seen: u64,
    scan: Scan,
    doomed_after: u64,
    /// Log time when it was last seen to change, and when that was.
    log_time: (u64, Monotonic),
}

#[derive(Default)]
struct Scan {
    after: u64,
    health: Health,
}

impl Rounds {
    async fn housekeep(&mut self, shared: &Arc<Shared>) {
        let now = shared.env.clock.now();
        let changed = shared.gate.applied() > self.seen;
        let waited = self.housekept.map(|last| now.since(last));
        if !changed && waited.is_some_and(|waited| waited < HOUSEKEEP_IDLE) {
            return;
        }
        for _ in 0..HOUSEKEEP_STEPS {
            let step = shared
                .propose(
                    Op::Housekeep(Housekeep {
                        limit: HOUSEKEEP_LIMIT,
                    }),
                    None,
                )
                .await;
            let Ok(applied) = step else { return };
            self.seen = applied.index;
            if !applied.outcome.more {
                self.housekept = Some(now);
                return;
            }
        }
        // There is more: the next round goes on.
        self.seen = 0;
    }

    fn doomed(&mut self, shared: &Arc<Shared>, service: &Arc<MetaService>) {
        let grace = shared.config.doomed_grace.as_micros() as u64;
        let state = shared.read();
        if state.counters().doomed == 0 {
            self.doomed_after = 0;
            return;
        }
        let Ok(mut chunks) = state.doomed(self.doomed_after, DOOMED) else {
            return;
        };
        self.doomed_after = if chunks.len() < DOOMED {
            0
        } else {
            chunks.last().map_or(0, |chunk| chunk.id)
        };
        // Log time goes on between entries, by the leader's clock: this is that clock or a little behind it.
        let now = shared.env.clock.now();
        if self.log_time.0 != state.log_time() {
            self.log_time = (state.log_time(), now);
        }
        let (last, seen) = self.log_time;
        let time = last.saturating_add(now.since(seen).as_micros() as u64);
        // Reads that began before it was doomed may end.
        chunks.retain(|chunk| chunk.doomed_at.saturating_add(grace) <= time);
        let held = |disk: u64, incarnation: u64| {
            let disk = drystone_types::DiskRef {
                disk: drystone_types::DiskId(disk),
                incarnation: drystone_types::Incarnation(incarnation),
            };
            state.node_of_disk(disk).is_some()
        };
        service
            .leader
            .with(shared, |office| office.reclaim.doom(&chunks, held));
    }

    /// Goes on with the count of redundancy; a small namespace is counted whole each round.
    fn scan(&mut self, shared: &Arc<Shared>, service: &Arc<MetaService>) {
        let now = shared.env.clock.now();
        let live = {
            let state = shared.read();
            service.leader.with(shared, |office| {
                office
                    .servers
                    .live_disks(state.nodes(), now, office.begun, &shared.config)
            })
        };
        let Some(live) = live else { return };
        for _ in 0..SCAN_EACH_ROUND / SLICE as u64 {
            let Ok(chunks) = shared.read().chunks(self.scan.after, SLICE) else {
                return;
            };
            chunks
                .iter()
                .for_each(|chunk| self.scan.health.count(chunk, &live));
            match chunks.last() {
                Some(last) if chunks.len() == SLICE => self.scan.after = last.id,
                _ => {
                    let health = std::mem::take(&mut self.scan).health;
                    shared
                        .metrics
                        .chunks_under_redundant
                        .set(health.under_redundant as i64);
                    shared.metrics.exposure_bytes.set(health.exposure_bytes as i64);
                    service.leader.with(shared, |office| office.health = health);
                    return;
                }
            }
        }
    }
}
