//! From the records on disk to a member that stands ready.

use super::delivery::Delivery;
use super::proposals::Proposals;
use super::reads::Reads;
use super::snapshots::Snapshots;
use super::{LogStore, LogWriter, RaftNode};
use crate::codec::conf_to_proto;
use crate::log::{Apply, Base, Record, Replay, reaches};
use crate::{BOOTSTRAP_INDEX, BOOTSTRAP_TERM, OpenError, Opened, OpenedEntry, Output, RaftConfig, Start};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk, Monotonic, SeededRng};
use drystone_proto::raft::{RaftConfState, RaftHardState};
use drystone_types::{LogIndex, NodeId, Term};
use drystone_wal::{Lsn, Wal, WalError, tools};
use raft::{Config, RawNode, ReadOnlyOption, StateRole};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

impl RaftNode {
    /// Opens or begins the log, blocking, and stands ready; the first call of [`RaftNode::on_batch`] delivers what
    /// is committed. All that the state machine lacks is in memory then: for small logs, see
    /// [`RaftNode::open_applying`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        config: RaftConfig,
        rng: SeededRng,
        pool: BufferPool,
    ) -> Result<(RaftNode, Opened), OpenError> {
        Self::open_with(disk, config, rng, pool, None)
    }

    /// As [`RaftNode::open`], with [`RaftConfig::log_memory_bytes`] of entries in memory however long the log is: beyond
    /// that `apply` is given what the state machine lacks, in order and without gaps, and [`Opened::applied`] says how far
    /// it came. What it is given is committed, also if the log does not open in the end. A state machine that lacks
    /// purged entries is given nothing.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::NotApplied`] with what `apply` said.
    pub fn open_applying(
        disk: Arc<dyn Disk>,
        config: RaftConfig,
        rng: SeededRng,
        pool: BufferPool,
        apply: &mut dyn FnMut(OpenedEntry) -> Result<(), String>,
    ) -> Result<(RaftNode, Opened), OpenError> {
        Self::open_with(disk, config, rng, pool, Some(apply))
    }

    fn open_with(
        disk: Arc<dyn Disk>,
        mut config: RaftConfig,
        rng: SeededRng,
        pool: BufferPool,
        apply: Option<Apply<'_>>,
    ) -> Result<(RaftNode, Opened), OpenError> {
        config.validate()?;
        let mut replay = Replay::new(config.log_memory_bytes, config.applied, apply);
        let mut visit = |lsn: Lsn, record: Bytes| replay.take(lsn, &record);
        let opened = Wal::open(disk, config.log.clone(), pool.clone(), &mut visit);
        if let Some((index, reason)) = replay.refused() {
            return Err(OpenError::NotApplied { index, reason });
        }
        let (mut wal, recovered) = opened?;
        let fresh = replay.is_empty();
        if fresh {
            replay = begin(&config, &mut wal, &pool)?;
        }
        let found = replay.finish(config.id)?;
        config.applied = found.applied;
        let base = LogIndex(found.store.base().0);
        let gap = !reaches(config.applied, base);
        if gap && found.store.latest_conf().voters == [config.id.0] {
            return Err(OpenError::StateBehindLog {
                applied: config.applied,
                first: base,
            });
        }
        let commit = LogIndex(found.hard.commit);
        let opened = Opened {
            fresh,
            purged: found.purged,
            last: found.last,
            applied: found.applied,
            commit,
            needs_snapshot: gap,
            torn: recovered.torn,
        };
        tracing::info!(
            node = config.id.0,
            term = found.hard.term,
            purged = found.purged.0,
            in_memory_after = base.0,
            last = found.last.0,
            commit = commit.0,
            applied = config.applied.0,
            needs_snapshot = gap,
            "raft log opened"
        );
        let hard = RaftHardState {
            term: found.hard.term,
            vote: found.hard.vote,
            commit: found.hard.commit,
        };
        let node = RaftNode::stand(config, LogWriter::new(wal), found.store, hard, gap, rng)?;
        Ok((node, opened))
    }

    fn stand(
        config: RaftConfig,
        log: LogWriter,
        store: LogStore,
        hard: RaftHardState,
        gap: bool,
        rng: SeededRng,
    ) -> Result<RaftNode, OpenError> {
        let base = store.base().0;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config(&config, base), store, &logger)
            .map_err(|error| OpenError::Refused(error.to_string()))?;
        let conf = conf_to_proto(&raw.raft.prs().conf().to_conf_state());
        let mut node = RaftNode {
            delivery: Delivery::new(base, config.applied.0, gap),
            snapshots: Snapshots::default(),
            proposals: Proposals::new(config.max_proposals, config.proposal_timeout_ticks),
            reads: Reads::new(&config),
            log,
            rng,
            next_tick: None,
            ticks: 0,
            election_timeout: config.election_ticks as usize,
            seen: (raw.raft.term, StateRole::Follower, 0),
            told: (None, Term(raw.raft.term)),
            hard,
            logged: hard,
            urgent: Lsn(0),
            outstanding: VecDeque::new(),
            purge_asked: None,
            mail: BTreeMap::new(),
            io: Vec::new(),
            out: vec![Output::ConfChanged(conf)],
            failed: false,
            raw,
            config,
        };
        node.draw_election_timeout();
        node.after_call();
        // Membership changes between the base and the commit index take effect before anything else happens.
        node.drive()
            .map_err(|error| OpenError::Refused(error.to_string()))?;
        Ok(node)
    }
}

// Writes what a log begins with, durably.
fn begin<'a>(config: &RaftConfig, wal: &mut Wal, pool: &BufferPool) -> Result<Replay<'a>, OpenError> {
    let (index, term, voters) = match &config.start {
        Start::Existing => return Err(OpenError::NoLog { id: config.id }),
        Start::FirstBoot { voters } => (BOOTSTRAP_INDEX, BOOTSTRAP_TERM, voters.as_slice()),
        Start::Join => (LogIndex(0), Term(0), [].as_slice()),
        Start::Restored { index, term } => (*index, *term, std::slice::from_ref(&config.id)),
    };
    let mut voters: Vec<u64> = voters.iter().map(|NodeId(id)| *id).collect();
    voters.sort_unstable();
    let conf = RaftConfState {
        voters,
        ..RaftConfState::default()
    };
    let records = [
        Record::Base(Base {
            node: config.id,
            index,
            term,
            conf,
            reset: true,
        }),
        Record::State(RaftHardState {
            term: term.0,
            vote: 0,
            commit: index.0,
        }),
    ];
    let mut replay = Replay::new(config.log_memory_bytes, config.applied, None);
    let failed = |reason: String| OpenError::Log(WalError::Failed { reason });
    for record in &records {
        let parts = record.encode();
        let lsn = wal.append(&parts).map_err(|error| failed(error.to_string()))?;
        replay.take(lsn, &parts.concat()).map_err(failed)?;
    }
    tools::drain(wal, Monotonic(0), pool)?;
    Ok(replay)
}

fn raft_config(config: &RaftConfig, base: u64) -> Config {
    Config {
        id: config.id.0,
        election_tick: config.election_ticks as usize,
        heartbeat_tick: config.heartbeat_ticks as usize,
        applied: base,
        max_size_per_msg: config.max_message_bytes,
        max_inflight_msgs: config.max_inflight_messages as usize,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        batch_append: true,
        max_uncommitted_size: config.max_uncommitted_bytes,
        max_committed_size_per_ready: config.max_committed_bytes,
        ..Config::default()
    }
}
