//! What all writers of a process share: the budget, grants fetched ahead, who failed lately, policies, latencies.

use super::WriteOptions;
use super::chunk::{Grant, Member, Trouble};
use super::doubts::Doubts;
use crate::attributes::policy_record;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::latency::Latency;
use crate::meta::{Failed, Repeat};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::read::Consistency;
use drystone_env::Monotonic;
use drystone_proto::Kind;
use drystone_proto::command::Target;
use drystone_proto::meta::{ChunkGrant, GrantReply, GrantRequest, LookupRequest};
use drystone_proto::record::{InodeKind, PolicyRecord, ReplicaRecord};
use drystone_types::{Code, Policy, SizeClass};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A grant that lay unused for this long is dropped: its servers may have failed meanwhile.
const GRANT_AGE: Duration = Duration::from_secs(10);
/// How long a grant lives if its leader does not say: a third of what it does by default.
const LIFE_UNKNOWN: Duration = Duration::from_secs(300);
/// Only chunks of this size or less are granted ahead: ids are cheap, but so is one call per large chunk.
const AHEAD_BYTES: u64 = 8 << 20;
/// Kinds of grants kept at one time (class, policy, user); beyond it the oldest knowledge is dropped.
const MAX_SHELVES: usize = 64;
/// A directory's policy is believed for this long.
const POLICY_AGE: Duration = Duration::from_secs(5);
/// Directories whose policy is remembered.
const MAX_POLICIES: usize = 4096;

/// See the module.
pub(crate) struct WritePath {
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) latency: Latency,
    shelves: Mutex<BTreeMap<ShelfKey, Arc<tokio::sync::Mutex<Shelf>>>>,
    pub(crate) doubts: Doubts,
    policies: Mutex<BTreeMap<String, (Monotonic, PolicyRecord)>>,
    life_ms: AtomicU64,
}

type ShelfKey = (u64, [u64; 4], String);

/// Grants of one kind.
#[derive(Default)]
struct Shelf {
    grants: VecDeque<Grant>,
    asked_at: Option<Monotonic>,
    count: u32,
    // The servers that were to be left out, if there were others.
    avoid: Vec<u64>,
}

/// What a writer wants to write to.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) max_bytes: u64,
    pub(crate) policy: PolicyRecord,
    pub(crate) avoid: Vec<u64>,
    /// Not one fetched earlier.
    pub(crate) fresh: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WritePath {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            budget: Arc::new(Semaphore::new(options.unacknowledged.0 as usize)),
            latency: Latency::default(),
            shelves: Mutex::default(),
            doubts: Doubts::default(),
            policies: Mutex::default(),
            life_ms: AtomicU64::new(LIFE_UNKNOWN.as_millis() as u64),
        }
    }

    /// How long the newest grant lives.
    pub(crate) fn life(&self) -> Duration {
        Duration::from_millis(self.life_ms.load(Relaxed))
    }

    pub(crate) fn forget_policies(&self) {
        lock(&self.policies).clear();
    }

    /// Every grant fetched ahead is useless (the floor has passed it).
    pub(crate) fn forget_grants(&self) {
        lock(&self.shelves).clear();
    }

    fn shelf(&self, client: &Client, wanted: &Wanted) -> Arc<tokio::sync::Mutex<Shelf>> {
        let policy = wanted.policy;
        let class = SizeClass::for_bytes(wanted.max_bytes).map_or(wanted.max_bytes, SizeClass::bytes);
        let numbers = [
            policy.replicas.into(),
            policy.ack.into(),
            policy.degraded_minimum.into(),
            policy.chunk_bytes,
        ];
        let mut shelves = lock(&self.shelves);
        if shelves.len() >= MAX_SHELVES {
            shelves.clear();
        }
        Arc::clone(
            shelves
                .entry((class, numbers, client.caller().user.clone()))
                .or_default(),
        )
    }

    /// A chunk to write to: one fetched ahead, or one of several asked for now.
    pub(crate) async fn grant(&self, client: &Client, wanted: Wanted) -> Result<Grant, Trouble> {
        let clock = &client.shared.env.clock;
        // One deadline for the queue and the question: waiters do not begin anew one after another.
        let deadline = client.deadline();
        let shelf = self.shelf(client, &wanted);
        let Some(mut shelf) = clock.until(deadline, shelf.lock()).await else {
            return Err(Trouble::new(Code::Unavailable, "no grant came in time"));
        };
        let now = client.shared.env.clock.now();
        let Shelf { grants, avoid, .. } = &mut *shelf;
        grants.retain(|grant| {
            // The leader knew no others if it named one in spite of the wish.
            let avoided = grant
                .members
                .iter()
                .any(|member| wanted.avoid.contains(&member.node) && !avoid.contains(&member.node));
            // Most of its time until a chunk is ended is still to come.
            let age = GRANT_AGE.min(grant.life / 6);
            now.since(grant.asked_at) < age && !avoided && !wanted.fresh
        });
        if let Some(grant) = shelf.grants.pop_front() {
            return Ok(grant);
        }
        let most = client.shared.options.grant_prefetch.clamp(1, 64);
        let hungry = shelf
            .asked_at
            .is_some_and(|at| now.since(at) < Duration::from_secs(1));
        shelf.count = match hungry && wanted.max_bytes <= AHEAD_BYTES && !wanted.fresh {
            true => (shelf.count * 2).clamp(2, most.max(2)).min(most),
            false => 1,
        };
        shelf.asked_at = Some(now);
        shelf.avoid.clone_from(&wanted.avoid);
        let request = GrantRequest {
            count: shelf.count,
            max_bytes: wanted.max_bytes,
            policy: Some(wanted.policy),
            avoid: wanted.avoid,
            ..GrantRequest::default()
        };
        let asked = clock.until(deadline, ask(client, request, wanted.policy)).await;
        let late = || Trouble::new(Code::Unavailable, "no grant came in time");
        let mut grants = asked.ok_or_else(late)??.into_iter();
        let first = grants.next();
        if let Some(grant) = &first {
            self.life_ms.store(grant.life.as_millis() as u64, Relaxed);
        }
        shelf.grants.extend(grants);
        first.ok_or_else(|| Trouble::new(Code::Unavailable, "the leader granted nothing"))
    }

    /// A replacement in a chunk that is still private.
    pub(crate) async fn replacement(
        &self,
        client: &Client,
        grant: &Grant,
        length: u64,
        have: Vec<ReplicaRecord>,
        avoid: Vec<u64>,
    ) -> Result<Grant, Trouble> {
        let request = GrantRequest {
            count: 1,
            max_bytes: length.max(grant.capacity),
            policy: Some(grant.policy),
            avoid,
            replace_in: grant.chunk,
            have,
            ..GrantRequest::default()
        };
        let grants = ask(client, request, grant.policy).await?;
        grants
            .into_iter()
            .next()
            .ok_or_else(|| Trouble::new(Code::NotEnoughDomains, "no replacement was granted"))
    }

    /// The policy for the next content of `path`: the file's own, or that of the directory it will be made in. The
    /// command that publishes says with which policy it was written, and nobody compares that with the file's: hence
    /// a file that may be there is looked at each time, and only directories are remembered.
    pub(crate) async fn policy(
        &self,
        client: &Client,
        path: &str,
        options: &WriteOptions,
    ) -> Result<PolicyRecord, Error> {
        const WRITE: &str = "write";
        let ask = async |path: &str| -> Result<(PolicyRecord, bool), Failed> {
            let place = Target {
                base: 0,
                path: path.to_owned(),
            };
            let reply = client
                .look_up(WRITE, place, Consistency::Linearizable, LookupRequest::default())
                .await?;
            let policy = reply.policy.filter(|policy| policy.replicas > 0);
            let directory = reply
                .inode
                .is_some_and(|inode| inode.kind == InodeKind::Directory as i32);
            Ok((
                policy.unwrap_or_else(|| policy_record(&Policy::default())),
                directory,
            ))
        };
        // One that must not be there needs no look: the publication is refused if it is.
        if !options.precondition.absent {
            match ask(path).await {
                Ok((_, true)) => return Err(Error::new(ErrorKind::IsADirectory, WRITE, path)),
                Ok((policy, false)) => return Ok(policy),
                Err(failed) if failed.code == Code::NotFound => {}
                Err(failed) => return Err(failed.error.about(path)),
            }
        }
        let mut above = path;
        loop {
            above = super::sealed::above(above);
            let now = client.shared.env.clock.now();
            let known = lock(&self.policies).get(above).copied();
            if let Some((at, policy)) = known
                && now.since(at) < POLICY_AGE
            {
                return Ok(policy);
            }
            match ask(above).await {
                Ok((policy, true)) => {
                    let mut policies = lock(&self.policies);
                    if policies.len() >= MAX_POLICIES {
                        policies.clear();
                    }
                    policies.insert(above.to_owned(), (now, policy));
                    return Ok(policy);
                }
                Ok((_, false)) => return Err(Error::new(ErrorKind::NotADirectory, WRITE, above)),
                Err(failed) if failed.code == Code::NotFound && options.parents && !above.is_empty() => {}
                Err(failed) => return Err(failed.error.about(above)),
            }
        }
    }
}

async fn ask(
    client: &Client,
    mut request: GrantRequest,
    policy: PolicyRecord,
) -> Result<Vec<Grant>, Trouble> {
    request.host = client.shared.options.host.clone();
    request.user = client.caller().user.clone();
    Metrics::add(&client.shared.metrics.grant_requests, 1);
    let asked_at = client.shared.env.clock.now();
    let reply: Result<GrantReply, Failed> = client.ask("grant", Kind::Grant, Repeat::Read, &request).await;
    match reply {
        Ok(reply) => Ok(reply
            .grants
            .into_iter()
            .filter_map(|grant| understand(grant, policy, asked_at))
            .collect()),
        Err(failed) => Err(Trouble::new(failed.code, failed.error.context())),
    }
}

/// A grant with everything that is needed to use it.
fn understand(grant: ChunkGrant, policy: PolicyRecord, asked_at: Monotonic) -> Option<Grant> {
    let member = |granted: drystone_proto::meta::GrantedReplica| {
        let location = granted.location?;
        Some(Member {
            replica: granted.replica?,
            node: location.node,
            address: location.address,
        })
    };
    let members: Option<Vec<Member>> = grant.replicas.into_iter().map(member).collect();
    Some(Grant {
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
