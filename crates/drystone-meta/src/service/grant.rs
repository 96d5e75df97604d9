//! Chunks to write to.

use super::inline::policy_of;
use super::mutate::DISK_FULL;
use super::refused::{Refused, unknown};
use crate::config::Config;
use crate::leader::office::Leader;
use crate::leader::reservations::taken_by;
use crate::metrics::Metrics;
use crate::state::cell::StateReader;
use drystone_env::planted::{Bug, planted};
use drystone_env::{Clock, Rng};
use drystone_identity::Identity;
use drystone_placement::{Demand, DiskView, PlacementError, plan_replicas};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::grant::{WriteGrant, sign_grant};
use drystone_proto::meta::{ChunkGrant, DiskLocation, GrantReply, GrantRequest, GrantedReplica};
use drystone_proto::record::{PolicyRecord, ReplicaRecord};
use drystone_rpc::{Request, refusal};
use drystone_types::{
    ByteCount, ChunkId, Code, DiskId, DiskRef, Epoch, Incarnation, MAX_CHUNK_BYTES, NodeId, Policy,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Chunks in one answer.
const MAX_GRANTS: u32 = 64;
/// Grants beyond the first of a request take no more than such a part of what is left.
const AHEAD_PART: u64 = 16;
/// A small file, as the status asks for one.
const SMALL_BYTES: u64 = 64 << 10;
/// Lists in a request are cut here: more servers never fail one client at a time.
const MAX_LIST: usize = 1_024;

fn disk_of(replica: &ReplicaRecord) -> DiskRef {
    DiskRef {
        disk: DiskId(replica.disk),
        incarnation: Incarnation(replica.incarnation),
    }
}

/// How long a new leader waits for servers without which a write has less than full redundancy, if its policy allows
/// that: a server that is well reports within some round trips of being asked.
const FULL_REDUNDANCY_WAIT: Duration = Duration::from_millis(500);

/// How often a new leader looks whether its servers have come: a tenth of what a failover takes.
const SETTLE_POLL: Duration = Duration::from_millis(20);

/// Why new data of the default policy would be refused now, if it would: all of it, or what needs a whole chunk. While a
/// new leader waits for its servers nothing is refused.
pub(super) fn writes_refused(leader: &Leader, state: &StateReader) -> Option<String> {
    if leader.settling()?.is_some() {
        return None;
    }
    let policy = policy_of(&state.read().default_policy()).ok()?;
    let refused = |bytes: u64| -> Option<ErrorReply> {
        place(leader, &GrantRequest::default(), &policy, bytes, None)?.err()
    };
    if let Some(error) = refused(SMALL_BYTES) {
        return Some(with_deletions(error, state).message);
    }
    let error = with_deletions(refused(policy.chunk_bytes.0)?, state);
    let chunk = policy.chunk_bytes;
    Some(format!(
        "files of {chunk} and more, smaller ones may have room: {}",
        error.message
    ))
}

/// The answer that there is no space says what is going to be free.
fn with_deletions(mut error: ErrorReply, state: &StateReader) -> ErrorReply {
    let doomed = state.read().counters().doomed;
    if error.code == Code::NoSpace.number() && doomed > 0 {
        error.message.push_str(&format!(
            "; chunks that are being deleted: {doomed}, try again in a minute"
        ));
    }
    error
}

/// Chooses disks that have so many bytes; those of a chunk that is named are taken for it, as many as it may
/// become. `None` if this server holds no office.
fn place(
    leader: &Leader,
    ask: &GrantRequest,
    policy: &Policy,
    bytes: u64,
    chunk: Option<(u64, u64)>,
) -> Option<Result<Vec<DiskRef>, ErrorReply>> {
    let have: Vec<DiskRef> = ask.have.iter().map(disk_of).collect();
    let replacing = ask.replace_in != 0;
    let demand = Demand {
        replicas: if replacing {
            have.len() as u32 + 1
        } else {
            policy.replicas
        },
        minimum: if replacing { 0 } else { policy.minimum() },
        bytes: ByteCount(taken_by(bytes)),
        near_host: ask.host.clone(),
        avoid: ask.avoid.iter().map(|node| NodeId(*node)).collect(),
        have: if replacing { have } else { Vec::new() },
    };
    let wanted = demand.replicas as usize - demand.have.len();
    let plan = |views: &[DiskView], draws: &mut dyn Rng| {
        let found = plan_replicas(&demand, views, draws);
        if demand.avoid.is_empty() || found.as_ref().map_or(0, Vec::len) >= wanted {
            return found;
        }
        // What failed the client lately is still better than too little redundancy.
        let demand = Demand {
            avoid: Vec::new(),
            ..demand.clone()
        };
        plan_replicas(&demand, views, draws)
    };
    let found = leader.place(chunk, plan)?;
    Some(found.map_err(|error| {
        let code = match error {
            PlacementError::NotEnoughDomains { .. } => Code::NotEnoughDomains,
            // No other attempt helps until somebody frees or adds space.
            PlacementError::NoSpace { .. } => Code::NoSpace,
        };
        refusal(code, error.to_string())
    }))
}

/// Grants chunks.
pub(crate) struct Grants {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) identity: Identity,
    pub(crate) state: StateReader,
    pub(crate) leader: Arc<Leader>,
    pub(crate) metrics: Metrics,
    /// What is written could not be committed.
    pub(crate) disk_full: Arc<AtomicBool>,
}

impl Grants {
    pub(super) async fn grant(&self, ask: GrantRequest, request: &Request) -> Result<GrantReply, Refused> {
        let invalid = |message: &str| refusal(Code::Invalid, message);
        // Before bytes are sent to chunk servers, whose disk may be the same one.
        if self.disk_full.load(Ordering::Relaxed) {
            return Err(refusal(Code::NoSpace, DISK_FULL).into());
        }
        let record = self.grant_policy(&ask)?;
        let policy = policy_of(&record)?;
        let bytes = if ask.max_bytes == 0 {
            policy.chunk_bytes.0
        } else {
            ask.max_bytes
        };
        if bytes > MAX_CHUNK_BYTES {
            return Err(invalid("a chunk holds at most 64 MiB").into());
        }
        if ask.avoid.len() > MAX_LIST || ask.have.len() > 8 {
            return Err(invalid("a list is too long").into());
        }
        let chunks = if ask.replace_in == 0 {
            if !(1..=MAX_GRANTS).contains(&ask.count) {
                return Err(invalid("1 to 64 chunks at once").into());
            }
            let ids = self
                .clock
                .until(request.deadline, self.leader.take_ids(ask.count))
                .await;
            ids.unwrap_or_else(|| Err(Refused::Error(unknown())))?
        } else {
            vec![(ask.replace_in, self.replaceable(&ask)?)]
        };
        self.settle(&ask, &policy, bytes).await?;
        let mut grants = Vec::with_capacity(chunks.len());
        for (chunk, placement) in chunks {
            let is_ahead = !grants.is_empty();
            let least = if is_ahead { bytes * AHEAD_PART } else { bytes };
            let placed = place(&self.leader, &ask, &policy, least, Some((chunk, bytes)));
            let disks = match placed.ok_or(Refused::NotLeader)? {
                Ok(disks) => disks,
                // There is no room for more in advance.
                Err(_) if is_ahead => break,
                Err(error) => return Err(with_deletions(error, &self.state).into()),
            };
            let grant = self.grant_on(chunk, placement, &disks, bytes, record, ask.replace_in != 0);
            grants.push(grant.inspect_err(|_| self.leader.abandon(chunk))?);
        }
        self.metrics.grants.inc_by(grants.len() as u64);
        Ok(GrantReply { grants })
    }

    /// The policy that a grant is under: the one in force where the content goes, or, if no place is named, the one
    /// that was asked for.
    fn grant_policy(&self, ask: &GrantRequest) -> Result<PolicyRecord, ErrorReply> {
        match (&ask.target, ask.policy) {
            (Some(target), _) => {
                let policy = self.state.read().policy_at(target);
                policy.map_err(|error| self.state.store_error(&error))
            }
            (None, Some(policy)) => Ok(policy),
            (None, None) => Err(refusal(Code::Invalid, "a grant needs a target or a policy")),
        }
    }

    /// Waits for disks. A new leader knows none, which says nothing of the cluster: it has asked
    /// its servers, and waits for them while they would not do and may still come. For full redundancy it waits a
    /// moment only, if the policy allows less; two replicas never share a host because another is not there yet
    /// (`drystone_placement`). The request's deadline ends the wait.
    async fn settle(&self, ask: &GrantRequest, policy: &Policy, bytes: u64) -> Result<(), Refused> {
        let wanted = if ask.replace_in == 0 {
            policy.replicas as usize
        } else {
            1
        };
        loop {
            let settling = self.leader.settling().ok_or(Refused::NotLeader)?;
            let Some(lasted) = settling else {
                return Ok(());
            };
            let placed = place(&self.leader, ask, policy, bytes, None).ok_or(Refused::NotLeader)?;
            let found = placed.map_or(0, |disks| disks.len());
            if found >= wanted || (found > 0 && lasted >= FULL_REDUNDANCY_WAIT) {
                return Ok(());
            }
            self.clock.sleep(SETTLE_POLL).await;
        }
    }

    /// Checks that a chunk is still private, and gives the log index that placed it.
    fn replaceable(&self, ask: &GrantRequest) -> Result<u64, ErrorReply> {
        let state = self.state.read();
        let chunk = ask.replace_in;
        if chunk < state.grant_floor().0 {
            return Err(refusal(
                Code::GrantExpired,
                format!("chunk {chunk} is below the grant floor"),
            ));
        }
        if chunk >= state.next_chunk().0 {
            return Err(refusal(Code::Invalid, format!("chunk {chunk} was never granted")));
        }
        if state
            .chunk(ChunkId(chunk))
            .map_err(|error| self.state.store_error(&error))?
            .is_some()
        {
            return Err(refusal(
                Code::Conflict,
                format!("chunk {chunk} is recorded: it is not private any more"),
            ));
        }
        let placement = ask.have.first().map(|replica| replica.placement);
        placement.ok_or_else(|| {
            refusal(
                Code::Invalid,
                "a replacement is apart from the replicas that are kept",
            )
        })
    }

    fn grant_on(
        &self,
        chunk: u64,
        placement: u64,
        disks: &[DiskRef],
        bytes: u64,
        policy: PolicyRecord,
        replacement: bool,
    ) -> Result<ChunkGrant, ErrorReply> {
        let identity = &self.identity;
        let distinct: BTreeSet<&DiskRef> = disks.iter().collect();
        assert!(
            !disks.is_empty() && distinct.len() == disks.len(),
            "a chunk is granted on distinct disks: {disks:?}"
        );
        assert!(
            chunk != 0 && placement != 0,
            "a granted id is from a logged range"
        );
        let records: Vec<ReplicaRecord> = disks
            .iter()
            .map(|disk| ReplicaRecord {
                disk: disk.disk.0,
                incarnation: disk.incarnation.0,
                placement,
            })
            .collect();
        let grant = WriteGrant {
            chunk,
            epoch: Epoch::FIRST.0,
            replicas: records.clone(),
            max_bytes: bytes,
            policy: Some(policy),
            expires: 0,
            replacement,
            signature: bytes::Bytes::new(),
        };
        let state = self.state.read();
        let floor = state.grant_floor().0;
        if chunk < floor && !planted(Bug::ChunkIdsAgain) {
            // The request waited for servers longer than a grant lives.
            let message = format!("chunk {chunk} is below the grant floor {floor}");
            return Err(refusal(Code::GrantExpired, message));
        }
        let replicas = disks.iter().zip(records).map(|(disk, record)| {
            let node = state.node_of_disk(*disk);
            let location = node.map(|node| DiskLocation {
                disk: disk.disk.0,
                incarnation: disk.incarnation.0,
                node: node.id,
                address: node.address.clone(),
                server: node.name.clone(),
                rack: node.rack.clone(),
                suspect: false,
            });
            let gone = || refusal(Code::Unavailable, "a disk left while it was chosen");
            Ok(GrantedReplica {
                replica: Some(record),
                location: Some(location.ok_or_else(gone)?),
            })
        });
        let replicas = replicas.collect::<Result<Vec<_>, ErrorReply>>()?;
        drop(state);
        // The floor passes an id no sooner than this after it was handed out (`leader::ranges`).
        let life = self.config.grant_age.as_millis();
        Ok(ChunkGrant {
            chunk,
            token: sign_grant(&identity.key, identity.history, grant),
            replicas,
            epoch: Epoch::FIRST.0,
            capacity: bytes,
            policy: Some(policy),
            life_ms: if replacement {
                0
            } else {
                u64::try_from(life).unwrap_or(0)
            },
        })
    }
}
