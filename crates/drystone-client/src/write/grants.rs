//! Chunks to write to: asked for at the leader, small ones ahead and several at once.

use super::chunk::{ChainMember, GrantedChunk, Trouble};
use crate::locks;
use crate::meta::{Failed, Repeat};
use crate::metrics::Metrics;
use crate::requester::Requester;
use drystone_env::Monotonic;
use drystone_env::sync::Mutex;
use drystone_proto::Kind;
use drystone_proto::command::Target;
use drystone_proto::grant::BEGIN_WITHIN;
use drystone_proto::meta::{ChunkGrant, GrantReply, GrantRequest};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_types::{Code, MAX_CHUNK_BYTES, NodeId, Policy};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a grant lives if its leader does not say: a third of what it does by default.
const LIFE_UNKNOWN: Duration = Duration::from_secs(300);
/// Only chunks of this size or less are granted ahead: ids are cheap, but so is one call per large chunk.
const AHEAD_BYTES: u64 = 8 << 20;
/// Grants are for this much at least.
const LEAST_GRANTED_BYTES: u64 = 64 << 10;
/// Kinds of grants kept at one time (class, policy, user); beyond it the oldest knowledge is dropped.
const MAX_KINDS: usize = 64;
/// Grants that were fetched ahead, shared by all writers of a process.
pub(crate) struct GrantCache {
    kinds: Mutex<BTreeMap<GrantKind, Arc<tokio::sync::Mutex<GrantsOfKind>>>>,
    life_ms: AtomicU64,
}

type GrantKind = (u64, [u64; 4], String);

/// Grants of one kind.
#[derive(Default)]
struct GrantsOfKind {
    grants: VecDeque<GrantedChunk>,
    asked_at: Option<Monotonic>,
    count: u32,
    // The servers that were to be left out, if there were others.
    avoid: Vec<NodeId>,
}

/// What a writer wants to write to.
#[derive(Clone, Debug)]
pub(crate) struct WantedGrant {
    pub(crate) max_bytes: u64,
    pub(crate) policy: PolicyRecord,
    pub(crate) avoid: Vec<NodeId>,
    /// Not one fetched earlier.
    pub(crate) fresh: bool,
}

impl Default for GrantCache {
    fn default() -> Self {
        Self {
            kinds: Mutex::new(locks::GRANTS, BTreeMap::new()),
            life_ms: AtomicU64::new(LIFE_UNKNOWN.as_millis() as u64),
        }
    }
}

impl GrantCache {
    /// How long the newest grant lives.
    pub(crate) fn life(&self) -> Duration {
        Duration::from_millis(self.life_ms.load(Relaxed))
    }

    /// Every grant fetched ahead is useless (the floor has passed it).
    pub(crate) fn forget(&self) {
        self.kinds.lock().clear();
    }

    fn of_kind(&self, requester: &Requester, wanted: &WantedGrant) -> Arc<tokio::sync::Mutex<GrantsOfKind>> {
        let policy = wanted.policy;
        let bytes = granted_bytes(wanted.max_bytes);
        let numbers = [
            policy.replicas.into(),
            policy.ack.into(),
            policy.degraded_minimum.into(),
            policy.chunk_bytes,
        ];
        let mut kinds = self.kinds.lock();
        if kinds.len() >= MAX_KINDS {
            kinds.clear();
        }
        Arc::clone(
            kinds
                .entry((bytes, numbers, requester.caller().user.clone()))
                .or_default(),
        )
    }

    /// A chunk to write to: one fetched ahead, or one of several asked for now.
    pub(crate) async fn grant(
        &self,
        requester: &Requester,
        wanted: WantedGrant,
    ) -> Result<GrantedChunk, Trouble> {
        let clock = requester.clock();
        // One deadline for the queue and the question: waiters do not begin anew one after another.
        let deadline = requester.deadline();
        let kind = self.of_kind(requester, &wanted);
        let Some(mut kind) = clock.until(deadline, kind.lock()).await else {
            return Err(Trouble::new(Code::Unavailable, "no grant came in time"));
        };
        let now = requester.now();
        let GrantsOfKind { grants, avoid, .. } = &mut *kind;
        grants.retain(|grant| {
            // The leader knew no others if it named one in spite of the wish.
            let avoided = grant
                .members
                .iter()
                .any(|member| wanted.avoid.contains(&member.node) && !avoid.contains(&member.node));
            // Most of its time until a chunk is ended is still to come.
            let age = BEGIN_WITHIN.min(grant.life / 6);
            now.since(grant.asked_at) < age && !avoided && !wanted.fresh
        });
        if let Some(grant) = kind.grants.pop_front() {
            return Ok(grant);
        }
        let most = requester.options().grant_prefetch.clamp(1, 64);
        let hungry = kind
            .asked_at
            .is_some_and(|at| now.since(at) < Duration::from_secs(1));
        kind.count = match hungry && wanted.max_bytes <= AHEAD_BYTES && !wanted.fresh {
            true => (kind.count * 2).clamp(2, most.max(2)).min(most),
            false => 1,
        };
        kind.asked_at = Some(now);
        kind.avoid.clone_from(&wanted.avoid);
        let request = GrantRequest {
            count: kind.count,
            max_bytes: granted_bytes(wanted.max_bytes),
            policy: Some(wanted.policy),
            avoid: numbers(&wanted.avoid),
            ..GrantRequest::default()
        };
        let asked = clock
            .until(deadline, ask(requester, request, wanted.policy))
            .await;
        let late = || Trouble::new(Code::Unavailable, "no grant came in time");
        let mut grants = asked.ok_or_else(late)??.into_iter();
        let first = grants.next();
        if let Some(grant) = &first {
            self.life_ms.store(grant.life.as_millis() as u64, Relaxed);
        }
        kind.grants.extend(grants);
        first.ok_or_else(|| Trouble::new(Code::Unavailable, "the leader granted nothing"))
    }
}

/// A chunk for content of `target`, under the policy in force there, which the leader looks up: a file's own, or that
/// of the nearest directory on the way to it. Not one fetched earlier.
pub(crate) async fn granted_at(
    requester: &Requester,
    target: Target,
    max_bytes: u64,
    avoid: Vec<NodeId>,
) -> Result<GrantedChunk, Trouble> {
    let request = GrantRequest {
        count: 1,
        max_bytes,
        avoid: numbers(&avoid),
        target: Some(target),
        ..GrantRequest::default()
    };
    let grants = ask(requester, request, PolicyRecord::from(&Policy::default())).await?;
    let first = grants.into_iter().next();
    first.ok_or_else(|| Trouble::new(Code::Unavailable, "the leader granted nothing"))
}

/// A replacement in a chunk that is still private.
pub(crate) async fn replacement(
    requester: &Requester,
    grant: &GrantedChunk,
    length: u64,
    have: Vec<ReplicaRecord>,
    avoid: Vec<NodeId>,
) -> Result<GrantedChunk, Trouble> {
    let request = GrantRequest {
        count: 1,
        max_bytes: length.max(grant.capacity),
        policy: Some(grant.policy),
        avoid: numbers(&avoid),
        replace_in: grant.chunk,
        have,
        ..GrantRequest::default()
    };
    let grants = ask(requester, request, grant.policy).await?;
    grants
        .into_iter()
        .next()
        .ok_or_else(|| Trouble::new(Code::NotEnoughDomains, "no replacement was granted"))
}

async fn ask(
    requester: &Requester,
    mut request: GrantRequest,
    policy: PolicyRecord,
) -> Result<Vec<GrantedChunk>, Trouble> {
    request.host = requester.options().host.clone();
    request.user = requester.caller().user.clone();
    Metrics::add(&requester.metrics().grant_requests, 1);
    let asked_at = requester.now();
    let reply: Result<GrantReply, Failed> = requester.ask("grant", Kind::Grant, Repeat::Read, &request).await;
    match reply {
        Ok(reply) => Ok(reply
            .grants
            .into_iter()
            .filter_map(|grant| understand(grant, policy, asked_at))
            .collect()),
        Err(failed) => Err(Trouble::new(failed.code, failed.error.context())),
    }
}

/// What is asked for where `wanted` bytes are to be written: a power of two, so that grants which were fetched ahead suit
/// contents that differ a little. Servers keep space for as much until the chunk is sealed.
fn granted_bytes(wanted: u64) -> u64 {
    let least = wanted.clamp(LEAST_GRANTED_BYTES, MAX_CHUNK_BYTES);
    least.next_power_of_two().max(wanted)
}

/// Node ids as the wire has them.
fn numbers(nodes: &[NodeId]) -> Vec<u64> {
    nodes.iter().map(|node| node.0).collect()
}

/// A grant with everything that is needed to use it.
fn understand(grant: ChunkGrant, policy: PolicyRecord, asked_at: Monotonic) -> Option<GrantedChunk> {
    let member = |granted: drystone_proto::meta::GrantedReplica| {
        let location = granted.location?;
        Some(ChainMember {
            replica: granted.replica?,
            node: NodeId(location.node),
            address: location.address,
        })
    };
    let members: Option<Vec<ChainMember>> = grant.replicas.into_iter().map(member).collect();
    Some(GrantedChunk {
        chunk: grant.chunk,
        token: grant.token,
        epoch: grant.epoch,
        capacity: grant.capacity,
        members: members?,
        policy: grant.policy.unwrap_or(policy),
        asked_at,
        life: match grant.life_ms {
            0 => LIFE_UNKNOWN,
            life => Duration::from_millis(life),
        },
    })
}
