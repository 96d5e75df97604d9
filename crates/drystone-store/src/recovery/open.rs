//! Opening: the newest checkpoint with its leaves, then the journal behind it.
//!
//! A new store is made in this order: directories, both checkpoints (generation 1), journal, both checkpoints
//! (generation 2), first arena. So a journal without a checkpoint, or a new journal under a later checkpoint,
//! is a loss and refused.

use super::adopt::{Adopted, adopt_all};
use super::fault::{damaged, during};
use super::files::{
    checkpoint_files, empty_checkpoint, first_arena, first_checkpoint, make_room, read_checkpoints,
    write_checkpoints,
};
use super::leaves::{Newest, places_in, read_newest};
use super::replay::JournalReplay;
use crate::active::ActiveChunks;
use crate::checkpoint::{Checkpoint, Places};
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::format::{ARENA_DIRECTORY, JOURNAL_DIRECTORY};
use crate::index::Index;
use crate::input::RecoveryReport;
use crate::journal::Journal;
use crate::space::{Arenas, ChunkSpace};
use crate::write::Mover;
use drystone_env::{BufferPool, Disk};
use drystone_types::DiskRef;
use drystone_wal::{Wal, WalConfig};
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
    let mut images = read_checkpoints(disk, config, &mut report);
    if let Some((_, image)) = images.iter().find(|(_, image)| image.me != me) {
        return Err(OpenError::OtherDisk {
            expected: me,
            found: image.me,
        });
    }
    if images.is_empty() {
        let damage = report.checkpoint_damage.take();
        images.push((0, first_checkpoint(disk, config, me, damage)?));
    }
    let mut files = checkpoint_files(disk, config)?;
    // What the older copy names stays until that copy is written: recovery may have to go back to it.
    let named = images.iter().flat_map(|(_, image)| &image.leaves);
    let mut places = Places::new(named.map(|(_, leaf)| leaf.place), places_in(&files.index)?);
    make_room(&files, &mut places, pool);
    let Newest { copy, image, leaves } = read_newest(images, &files.index, pool, &mut report)?;
    let mut generation = image.generation;
    let replay_from = image.replay_from;
    let wal_config = WalConfig {
        directory: JOURNAL_DIRECTORY.into(),
        identity: me.incarnation.0 ^ me.disk.0.rotate_left(32),
        segment_bytes: config.segment_bytes,
        batch_bytes: config.batch_bytes,
        direct: config.direct,
        leave_bytes: config.journal_leaves(disk.space().map_err(during("looking for space"))?.total),
        ..WalConfig::default()
    };
    let mut replay = JournalReplay::new(image, leaves, config.leaf_bytes);
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
        write_checkpoints(disk, config, &empty_checkpoint(generation, me))?;
        first_arena(disk, config)?;
        report.fresh = recovered.fresh;
    }
    disk.create_dir(ARENA_DIRECTORY)
        .map_err(during("making the directory of arenas"))?;
    let mut arenas = Arenas::open(disk, config, replay.next_arena).map_err(during("opening arenas"))?;
    arenas.set_index_bytes(places.file_bytes());
    if copy == 0 {
        // The other copy may be torn: it is overwritten first.
        files.copies.reverse();
    }
    report.checkpoint = generation;
    report.records = replay.records;
    report.torn = recovered
        .torn
        .map(|t| format!("{} at {}: {}", t.file, t.offset, t.reason));
    let checkpoint = Checkpoint::new(files, generation, places, config.leaf_step_bytes);
    let JournalReplay {
        mut index,
        parts,
        floor,
        ..
    } = replay;
    index.raise_floor(floor);
    let mut adopted = Adopted {
        config,
        me,
        arenas,
        active: ActiveChunks::default(),
        mover: Mover::default(),
    };
    adopt_all(&mut adopted, &index, parts)?;
    let counts = index.counts();
    (report.chunks, report.open_chunks) = (counts.chunks, counts.open_chunks);
    report.arenas = adopted.arenas.count();
    Ok(RecoveredParts {
        journal: Journal::new(wal),
        index,
        active: adopted.active,
        space: ChunkSpace::new(Arc::clone(disk), adopted.arenas),
        mover: adopted.mover,
        checkpoint,
        report,
    })
}
