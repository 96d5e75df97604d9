//! Checkpoint files as they are found, and the files of a new store.

use super::fault::{damaged, during};
use crate::checkpoint::{self, CheckpointEncoder, CheckpointFiles, CheckpointHead, CheckpointImage, Places};
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::format::{ARENA_DIRECTORY, BLOCK, CHECKPOINT_FILES, INDEX_FILES, JOURNAL_DIRECTORY};
use crate::input::RecoveryReport;
use crate::space::{Arenas, is_full};
use bytes::Bytes;
use drystone_env::{BufferPool, Disk, IoOp, IoRequest, IoToken, OpenOptions};
use drystone_types::{ChunkId, DiskRef};
use drystone_wal::Lsn;
use std::io;
use std::sync::Arc;

/// Where versions before arenas kept chunks.
const OLD_DIRECTORY: &str = "slots";
/// A checkpoint file longer than this is damaged: leaves for 100 billion chunks.
const MOST_CHECKPOINT_BYTES: u64 = 4 << 30;
/// Read at once: whoever watches whether the disk answers sees that it does.
const READ_STEP: usize = 1 << 20;

/// The checkpoints that are whole, each with the number of its copy; the newest first.
pub(super) fn read_checkpoints(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
    report: &mut RecoveryReport,
) -> Vec<(usize, CheckpointImage)> {
    let mut found = Vec::new();
    for (copy, name) in CHECKPOINT_FILES.into_iter().enumerate() {
        match read_checkpoint(disk, config, name) {
            Ok(image) => found.push((copy, image)),
            Err(fault) => report.checkpoint_damage = Some(format!("{name}: {fault}")),
        }
    }
    found.sort_by_key(|(_, image)| std::cmp::Reverse(image.generation));
    found
}

fn read_checkpoint(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
    name: &str,
) -> Result<CheckpointImage, String> {
    let words = |e: io::Error| e.to_string();
    // Past the cache: after a sync that failed it may hold what the disk never got.
    let options = OpenOptions {
        direct: config.direct,
        ..OpenOptions::default()
    };
    let file = disk.open(name, options).map_err(words)?;
    // What is behind the last whole block is of no checkpoint.
    let length = file.len().map_err(words)? / BLOCK * BLOCK;
    if length > MOST_CHECKPOINT_BYTES {
        return Err(format!("{length} bytes long"));
    }
    // If the process ended before its sync, it may be nowhere for good, and the other copy is about to be written over.
    file.sync_data().map_err(words)?;
    let mut bytes = vec![0; length as usize];
    let mut at = 0;
    for part in bytes.chunks_mut(READ_STEP) {
        file.read_at(part, at).map_err(words)?;
        at += part.len() as u64;
    }
    checkpoint::decode(&bytes).map_err(str::to_owned)
}

/// Makes the checkpoints of a new store, if nothing says that there was one.
pub(super) fn first_checkpoint(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
    me: DiskRef,
    damage: Option<String>,
) -> Result<CheckpointImage, OpenError> {
    for directory in [JOURNAL_DIRECTORY, ARENA_DIRECTORY, OLD_DIRECTORY] {
        let files = match disk.list(directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(during(format!("listing {directory}"))(error)),
        };
        if let Some(file) = files.first() {
            let found = format!(
                "none that is whole ({}), but {directory}/{file}",
                damage.unwrap_or_default()
            );
            return Err(damaged("checkpoints", "one", found));
        }
    }
    let bytes = empty_checkpoint(1, me);
    write_checkpoints(disk, config, &bytes)?;
    checkpoint::decode(&bytes).map_err(|fault| damaged("checkpoint", "what was written", fault))
}

/// Of a store in which nothing is.
pub(super) fn empty_checkpoint(generation: u64, me: DiskRef) -> Bytes {
    let head = CheckpointHead {
        generation,
        me,
        replay_from: Lsn(1),
        floor: ChunkId(0),
        next_arena: 0,
    };
    CheckpointEncoder::new(head).finish()
}

/// The files of checkpoints, made where they are missing.
pub(super) fn checkpoint_files(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
) -> Result<CheckpointFiles, OpenError> {
    let options = OpenOptions {
        create: true,
        exclusive: false,
        direct: config.direct,
    };
    let open = |name: &str| {
        disk.open(name, options)
            .map_err(during(format!("opening {name}")))
    };
    let [one, two] = CHECKPOINT_FILES;
    let copies = [open(one)?, open(two)?];
    let [one, two] = INDEX_FILES;
    let index = [open(one)?, open(two)?];
    disk.sync_dir("").map_err(during("syncing the data directory"))?;
    Ok(CheckpointFiles { copies, index })
}

/// Makes the files as long as the next checkpoint may need. On a full disk they stay as they are.
pub(super) fn make_room(files: &CheckpointFiles, places: &mut Places, pool: &BufferPool) {
    for op in files.room(places, 0) {
        let token = IoToken::default();
        if let Err(error) = (IoRequest { token, op }).execute(pool).result {
            tracing::warn!(%error, "no room is kept for the next checkpoint");
            return;
        }
    }
    places.grown(places.wanted());
}

pub(super) fn write_checkpoints(
    disk: &Arc<dyn Disk>,
    config: &StoreConfig,
    bytes: &[u8],
) -> Result<(), OpenError> {
    for file in checkpoint_files(disk, config)?.copies {
        file.write_at(bytes, 0)
            .and_then(|()| file.sync_data())
            .map_err(during("writing a checkpoint"))?;
    }
    Ok(())
}

/// The first arena of a new store, so that the first chunks need not wait.
pub(super) fn first_arena(disk: &Arc<dyn Disk>, config: &StoreConfig) -> Result<(), OpenError> {
    disk.create_dir(ARENA_DIRECTORY)
        .and_then(|()| disk.sync_dir(""))
        .map_err(during("making the directory of arenas"))?;
    let mut arenas = Arenas::open(disk, config, 0).map_err(during("opening arenas"))?;
    let Some(bytes) = arenas.plan(config, 1) else {
        return Ok(());
    };
    let (_, op) = arenas.make(disk, config, bytes);
    let IoOp::CreateWithin {
        name, room, options, ..
    } = op
    else {
        return Ok(());
    };
    match drystone_env::io::create_within(&**disk, &name, room, options) {
        Ok(_) => Ok(()),
        // A small disk begins with less.
        Err(error) if is_full(&error) => Ok(()),
        Err(error) => Err(during(format!("making {name}"))(error)),
    }
}

#[cfg(test)]
mod tests;
