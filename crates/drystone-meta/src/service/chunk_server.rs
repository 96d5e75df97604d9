//! Chunk servers: registration and heartbeats.

use super::refused::Refused;
use crate::config::Config;
use crate::leader::office::Leader;
use crate::leader::orphan::Orphan;
use crate::leader::reservations::Reservations;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use crate::state::readers::Readers;
use drystone_env::Clock;
use drystone_env::planted::{Bug, planted};
use drystone_namespace::{NamespaceView, Recorded, StoreError};
use drystone_proto::cluster::{Empty, ErrorReply, Heartbeat, HeartbeatReply, Register, RegisterReply};
use drystone_proto::command::{Op, RegisterNode};
use drystone_proto::meta::DamageReport;
use drystone_proto::record::{NodeRecord, ReplicaRecord, role};
use drystone_rpc::{Request, refusal};
use drystone_types::{ChunkId, Code, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the disks say of their space counts what they took before.
fn note_space(reservations: &mut Reservations, beat: &Heartbeat) {
    for disk in &beat.disks {
        reservations.reported(disk.disk);
    }
    for status in &beat.open {
        if let Some(replica) = status.replica {
            reservations.begun(status.chunk, replica.disk);
        }
    }
}

/// Entries of one list of a heartbeat.
const MAX_LIST: usize = 4_096;

/// Answers chunk servers.
pub(crate) struct ChunkServers {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: Arc<Config>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) leader: Arc<Leader>,
    pub(crate) readers: Readers,
}

impl ChunkServers {
    pub(super) async fn register(
        &self,
        register: Register,
        request: &Request,
    ) -> Result<RegisterReply, Refused> {
        let mut node = register
            .node
            .ok_or_else(|| refusal(Code::Invalid, "no node in the registration"))?;
        if node.roles & role::CHUNK == 0 {
            return Err(refusal(Code::Invalid, format!("node {} is no chunk server", node.id)).into());
        }
        let known = self.state.read().node(NodeId(node.id)).cloned();
        if let Some(known) = &known {
            // These are the cluster's to say, not the node's.
            (node.since, node.draining) = (known.since, known.draining);
            (node.fenced, node.removing) = (known.fenced, known.removing);
            self.check_undecided(known, node.incarnation)?;
        }
        if known.as_ref() != Some(&node) || node.fenced {
            let propose = self.raft.propose(
                Op::RegisterNode(RegisterNode {
                    node: Some(node.clone()),
                }),
                None,
            );
            let applied = self.clock.until(request.deadline, propose).await;
            let outcome = applied
                .unwrap_or(Err(drystone_raft::DropReason::Unknown))?
                .outcome;
            if outcome.code != 0 {
                let code = Code::from_number(outcome.code).unwrap_or(Code::Stranger);
                let error = refusal(code, outcome.message);
                return Err(match &known {
                    Some(known) if code == Code::Stranger => self.another_boot(known, &node, error)?,
                    _ => error,
                }
                .into());
            }
            tracing::info!(
                server = node.id,
                name = node.name,
                address = node.address,
                disks = node.disks.len(),
                "chunk server registered"
            );
        }
        let now = self.clock.now();
        let term = self.leader.with(|office| {
            office.servers.register(node.id, now);
            office.term
        });
        Ok(RegisterReply {
            grant_floor: self.state.read().grant_floor().0,
            heartbeat_ms: self.config.heartbeat.as_millis() as u32,
            term: term.ok_or(Refused::NotLeader)?,
        })
    }

    /// The refusal of a boot that is over, with the boot that the server may take instead if its disks may have
    /// missed some, and for how long the recorded process still counts as alive.
    fn another_boot(
        &self,
        known: &NodeRecord,
        node: &NodeRecord,
        mut error: ErrorReply,
    ) -> Result<ErrorReply, Refused> {
        let Some(above) = drystone_namespace::may_have_missed_boots(known, node) else {
            return Ok(error);
        };
        let now = self.clock.now();
        let config = &self.config;
        let holds = self
            .leader
            .with(|office| office.servers.holds_for(node.id, now, office.begun, config));
        error.expected = above.saturating_add(1);
        // In whole milliseconds, and not 0 while it holds.
        let wait = holds.ok_or(Refused::NotLeader)?.as_micros().div_ceil(1000);
        error.retry_after_ms = wait.try_into().unwrap_or(u32::MAX);
        Ok(error)
    }

    /// Lets a server wait while its removal is being decided: it goes on if that is refused. It may ask often, and for as
    /// long as an operator takes, so nothing of it is logged.
    fn check_undecided(&self, known: &NodeRecord, incarnation: u64) -> Result<(), Refused> {
        if !known.removing {
            return Ok(());
        }
        if incarnation == known.incarnation {
            let now = self.clock.now();
            self.leader
                .with(|office| office.servers.note_waiting(known.id, now));
        }
        let heartbeat = self.config.heartbeat.as_millis();
        Err(Refused::Error(ErrorReply {
            retry_after_ms: heartbeat.try_into().unwrap_or(u32::MAX),
            ..refusal(Code::Busy, drystone_namespace::removing(NodeId(known.id)))
        }))
    }

    pub(super) async fn heartbeat(&self, beat: Heartbeat) -> Result<HeartbeatReply, Refused> {
        let (known, floor, held) = {
            let state = self.state.read();
            let held = state.deletion_held();
            (
                state.node(NodeId(beat.node)).cloned(),
                state.grant_floor().0,
                held,
            )
        };
        let term = self.leader.with(|office| office.term).ok_or(Refused::NotLeader)?;
        let mut reply = HeartbeatReply {
            grant_floor: floor,
            orders: Vec::new(),
            term,
            register: true,
            heartbeat_ms: self.config.heartbeat.as_millis() as u32,
        };
        let Some(known) = known else { return Ok(reply) };
        let stranger = |message: String| Refused::Error(refusal(Code::Stranger, message));
        if known.removed {
            return Err(stranger(drystone_namespace::removed(NodeId(known.id))));
        }
        if known.incarnation != beat.incarnation {
            return Err(stranger(format!(
                "node {} was formatted anew: it needs a new id",
                beat.node
            )));
        }
        if beat.boot_counter < known.boot_counter {
            return Err(stranger(format!(
                "boot {} of node {} is over",
                beat.boot_counter, beat.node
            )));
        }
        self.check_undecided(&known, beat.incarnation)?;
        if known.fenced {
            return Err(stranger(format!(
                "node {} is fenced until an operator decides",
                beat.node
            )));
        }
        if (beat.boot_counter, beat.boot_random) != (known.boot_counter, known.boot_random) {
            // A newer boot registers first; a clone is found out when it does.
            return Ok(reply);
        }
        if beat.open.len() > MAX_LIST || beat.acks.len() > MAX_LIST {
            return Err(refusal(Code::TooLarge, "a heartbeat's list is too long").into());
        }
        let now = self.clock.now();
        let disks: Vec<(u64, u64)> = known
            .disks
            .iter()
            .map(|disk| (disk.id, disk.incarnation))
            .collect();
        let used = beat.disks.iter().map(|disk| disk.used_bytes);
        let used = used.fold(0u64, u64::saturating_add);
        // Noted before anything is waited for: a server is not suspect because its orphans take long to judge.
        let noted = self.leader.with(|office| {
            let noted = office.servers.heartbeat(beat.node, beat.disks.clone(), now);
            if noted {
                note_space(&mut office.reservations, &beat);
                office.reclaim.acknowledge(&beat.acks, now);
            }
            noted
        });
        if !noted.ok_or(Refused::NotLeader)? {
            return Ok(reply);
        }
        let orphans = self.orphans(&beat, &disks, floor).await?;
        let outcome = self.leader.with(|office| {
            if held {
                // What the restored state does not know may be all that is left of what it lacks.
                return Vec::new();
            }
            let mut delete = office.reclaim.orders_for(&disks, now, MAX_LIST);
            let room = MAX_LIST - delete.len();
            delete.extend(office.reclaim.admit((beat.node, used), now, orphans, room));
            delete
        });
        let delete = outcome.ok_or(Refused::NotLeader)?;
        assert!(
            delete.len() <= MAX_LIST && (!held || delete.is_empty()),
            "orders within their bounds"
        );
        let is_its_own = |replica: &ReplicaRecord| disks.contains(&(replica.disk, replica.incarnation));
        assert!(
            delete.iter().all(|(_, replica)| is_its_own(replica)),
            "a server is ordered to delete on its own disks only"
        );
        reply.register = false;
        reply.orders = delete
            .into_iter()
            .map(|(chunk, replica)| self.leader.sign(chunk, replica))
            .collect();
        Ok(reply)
    }

    /// Replicas that this server holds and that can never be committed: below the floor, and in no record.
    async fn orphans(
        &self,
        beat: &Heartbeat,
        disks: &[(u64, u64)],
        floor: u64,
    ) -> Result<Vec<Orphan>, Refused> {
        let now = self.clock.now();
        let reported = beat.open.iter().filter_map(|status| {
            Some(Orphan {
                chunk: status.chunk,
                replica: status.replica?,
                bytes: status.received.max(status.durable),
            })
        });
        let remembered = self.leader.with(|office| {
            // While the deletion limit is reached they would all be refused.
            let limit = if office.reclaim.deletion_limit().stops(beat.node, now) {
                0
            } else {
                MAX_LIST
            };
            office.reclaim.due_orphans(disks, floor, now, limit)
        });
        let mut seen = BTreeSet::new();
        let candidates = reported.chain(remembered.ok_or(Refused::NotLeader)?);
        let candidates = candidates.filter(|Orphan { chunk, replica, .. }| {
            let ours = disks.contains(&(replica.disk, replica.incarnation));
            ours && seen.insert((*chunk, replica.disk, replica.placement))
        });
        let candidates: Vec<Orphan> = candidates.collect();
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        // From a view: these may be thousands of look-ups. What is recorded nowhere and below the floor in it stays so:
        // nothing below the floor is published any more.
        let judged = move |view: NamespaceView| {
            let judge = |orphan: Orphan| {
                let recorded = view.is_recorded(ChunkId(orphan.chunk), &orphan.replica)?;
                Ok::<_, StoreError>((orphan, recorded))
            };
            candidates.into_iter().map(judge).collect::<Result<Vec<_>, _>>()
        };
        let judged = self.readers.read(&self.state, judged).await?;
        let mut orphans = Vec::new();
        let (mut later, mut recorded_ones) = (Vec::new(), Vec::new());
        for (orphan, recorded) in judged.map_err(|error| self.state.store_error(&error))? {
            match recorded {
                Recorded::Named => recorded_ones.push((orphan.chunk, orphan.replica)),
                Recorded::Never => orphans.push(orphan),
                Recorded::Undecided if planted(Bug::OrphanAboveFloor) => orphans.push(orphan),
                Recorded::Undecided => later.push(orphan),
            }
        }
        self.leader.with(|office| {
            office.reclaim.add_orphans(later);
            for (chunk, replica) in &recorded_ones {
                office.reclaim.remove_orphan(*chunk, replica);
            }
        });
        Ok(orphans)
    }

    /// A client met damage in a replica.
    pub(super) async fn report_damage(&self, report: DamageReport) -> Result<Empty, Refused> {
        tracing::warn!(
            chunk = report.chunk,
            disk = report.replica.map_or(0, |replica| replica.disk),
            offset = report.offset,
            code = report.code,
            detail = report.detail,
            "damage reported"
        );
        self.leader
            .with(|office| office.damage_reports += 1)
            .ok_or(Refused::NotLeader)?;
        Ok(Empty {})
    }
}
