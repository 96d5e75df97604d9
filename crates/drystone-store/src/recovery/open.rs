//! Opening: the newest checkpoint, then the journal behind it.
//!
//! A new store is made in this order: directories, both checkpoints (generation 1), journal, both checkpoints
//! (generation 2), first arena. So a journal without a checkpoint, or a new journal under a later checkpoint,
//! is a loss and refused.

use super::adopt::{Adopted, adopt};
use super::fault::{damaged, during};
use super::files::{checkpoint_files, first_arena, first_checkpoint, read_checkpoints, write_checkpoints};
use super::replay::JournalReplay;
use crate::active::ActiveChunks;
use crate::checkpoint::{Checkpoint, CheckpointEncoder};
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::format::{ARENA_DIRECTORY, JOURNAL_DIRECTORY};
use crate::index::Index;
use crate::input::RecoveryReport;
use crate::journal::Journal;
use crate::space::{Arenas, ChunkSpace};
use crate::write::Mover;
use drystone_env::{BufferPool, Disk};
use drystone_types::{ChunkId, DiskRef};
use drystone_wal::{Lsn, Wal, WalConfig};
use std::sync::Arc;

/// The parts of a store as they are on the disk.
pub(crate) struct RecoveredParts {
    pub(crate) journal: Journal,
    pub(crate) index: Index,
    pub(crate) active: ActiveChunks,
    pub(crate) space: ChunkSpace,
    pub(crate) mover: Mover,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) report: RecoveryReport,
}

pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
    me: DiskRef,
    pool: &BufferPool,
) -> Result<RecoveredParts, OpenError> {
    let mut report = RecoveryReport::default();
    let (found, newest) = read_checkpoints(disk, &mut report);
    if let Some(snapshot) = found.as_ref().filter(|s| s.me != me) {
        return Err(OpenError::OtherDisk {
            expected: me,
            found: snapshot.me,
        });
    }
    let snapshot = match found {
        Some(snapshot) => snapshot,
        None => first_checkpoint(disk, me, report.checkpoint_damage.take())?,
    };
    let mut generation = snapshot.generation;
    let replay_from = snapshot.replay_from;
    let wal_config = WalConfig {
        directory: JOURNAL_DIRECTORY.into(),
        identity: me.incarnation.0 ^ me.disk.0.rotate_left(32),
        segment_bytes: config.segment_bytes,
        batch_bytes: config.batch_bytes,
        direct: config.direct,
        ..WalConfig::default()
    };
    let mut replay = JournalReplay::new(snapshot);
    let (wal, recovered) = Wal::open(Arc::clone(disk), wal_config, pool.clone(), &mut |lsn, bytes| {
        replay.visit(lsn, &bytes)
    })?;
    if recovered.fresh && generation > 1 {
        return Err(damaged(
            JOURNAL_DIRECTORY,
            "the journal of this store",
            "a new one",
        ));
    }
    if recovered.first > replay_from || recovered.last.next() < replay_from {
        let found = format!("records {} to {}", recovered.first, recovered.last);
        return Err(damaged(
            JOURNAL_DIRECTORY,
            format!("records from {replay_from} on"),
            found,
        ));
    }
    if generation == 1 {
        generation = 2;
        let bytes = CheckpointEncoder::new(0).finish(generation, me, Lsn(1), ChunkId(0), 0);
        write_checkpoints(disk, &bytes)?;
        first_arena(disk, config)?;
        report.fresh = recovered.fresh;
    }
    disk.create_dir(ARENA_DIRECTORY)
        .map_err(during("making the directory of arenas"))?;
    let arenas = Arenas::open(disk, config, replay.next_arena).map_err(during("opening arenas"))?;
    let mut files = checkpoint_files(disk)?;
    if newest == 0 {
        // The other copy may be torn: it is overwritten first.
        files.reverse();
    }
    report.checkpoint = generation;
    report.records = replay.records;
    report.torn = recovered
        .torn
        .map(|t| format!("{} at {}: {}", t.file, t.offset, t.reason));
    let checkpoint = Checkpoint::new(files, generation);
    let JournalReplay {
        entries,
        mut parts,
        floor,
        ..
    } = replay;
    let mut adopted = Adopted {
        config,
        me,
        arenas,
        index: Index::default(),
        active: ActiveChunks::default(),
        mover: Mover::default(),
    };
    adopted.index.raise_floor(floor);
    for (chunk, entry) in entries {
        adopt(
            &mut adopted,
            chunk,
            entry,
            parts.remove(&chunk).unwrap_or_default(),
        )?;
    }
    let counts = adopted.index.counts();
    (report.chunks, report.open_chunks) = (counts.chunks, counts.open_chunks);
    report.arenas = adopted.arenas.count();
    Ok(RecoveredParts {
        journal: Journal::new(wal),
        index: adopted.index,
        active: adopted.active,
        space: ChunkSpace::new(Arc::clone(disk), adopted.arenas),
        mover: adopted.mover,
        checkpoint,
        report,
    })
}
