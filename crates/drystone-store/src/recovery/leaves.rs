//! Reads the leaves that a checkpoint names.

use super::fault::{damaged, during};
use crate::checkpoint::{CheckpointImage, Places};
use crate::error::OpenError;
use crate::format::{CHECKPOINT_FILES, INDEX_FILES};
use crate::index::{LEAF_BYTES, Leaf, LeafImage};
use crate::input::RecoveryReport;
use drystone_env::{BufferPool, DiskFile};
use drystone_types::ChunkId;
use std::ops::Range;
use std::sync::Arc;

/// Leaves read at once: 1 MiB, so that whoever watches whether the disk answers sees that it does.
const READ_LEAVES: u32 = (1 << 20) / LEAF_BYTES as u32;

/// Places in the longer of both files.
pub(super) fn places_in(files: &[Arc<dyn DiskFile>; 2]) -> Result<u32, OpenError> {
    let mut places = 0;
    for file in files {
        let bytes = file.len().map_err(during("asking for the length of the index"))?;
        places = places.max(u32::try_from(bytes.div_ceil(LEAF_BYTES as u64)).unwrap_or(u32::MAX));
    }
    Ok(places)
}

/// The checkpoint from which recovery begins.
pub(super) struct Newest {
    pub(super) copy: usize,
    pub(super) image: CheckpointImage,
    pub(super) leaves: Vec<(ChunkId, Leaf)>,
}

/// The newest of `images`, which are in this order, of which all leaves are there. If a copy
/// could not be read for a while, its leaves may have been written over; then the journal still holds what the other one needs.
///
/// # Errors
/// If there is none: what is wrong with the newest.
pub(super) fn read_newest(
    images: Vec<(usize, CheckpointImage)>,
    files: &[Arc<dyn DiskFile>; 2],
    pool: &BufferPool,
    report: &mut RecoveryReport,
) -> Result<Newest, OpenError> {
    let mut fault = None;
    for (copy, image) in images {
        match read_leaves(files, &image.leaves, pool, report) {
            Ok(leaves) => {
                return Ok(Newest { copy, image, leaves });
            }
            Err(error) => {
                report.checkpoint_damage = Some(format!("{}: {error}", CHECKPOINT_FILES[copy]));
                fault.get_or_insert(error);
            }
        }
    }
    Err(fault.unwrap_or_else(|| damaged("checkpoints", "one", "none")))
}

/// The leaves that are named, in order. Both files are read whole: what one of them lacks is to be written again, while the
/// other has it.
///
/// # Errors
/// If neither file has a leaf.
fn read_leaves(
    files: &[Arc<dyn DiskFile>; 2],
    named: &[(ChunkId, LeafImage)],
    pool: &BufferPool,
    report: &mut RecoveryReport,
) -> Result<Vec<(ChunkId, Leaf)>, OpenError> {
    let decode = |at: usize, place: &[u8]| {
        let (first, image) = named[at];
        let end = named.get(at + 1).map(|(next, _)| *next);
        Leaf::decode(place, image, first, end).map_err(str::to_owned)
    };
    let mut leaves: Vec<Option<Leaf>> = named.iter().map(|_| None).collect();
    // In the order of places, many at once.
    let mut order: Vec<usize> = (0..named.len()).collect();
    order.sort_unstable_by_key(|at| named[*at].1.place);
    let place_of = |at: usize| named[at].1.place;
    let mut buffers = [0, 1].map(|_| pool.take(READ_LEAVES as usize * LEAF_BYTES));
    let mut rest = &order[..];
    while let Some(begin) = rest.first().map(|at| place_of(*at)) {
        let near = rest.partition_point(|at| place_of(*at) - begin < READ_LEAVES);
        let (group, behind) = rest.split_at(near);
        rest = behind;
        let end = group.last().map_or(begin, |at| place_of(*at)) + 1;
        let [one, two] = &mut buffers;
        read_places(&files[0], begin..end, one);
        read_places(&files[1], begin..end, two);
        for at in group {
            let offset = (place_of(*at) - begin) as usize * LEAF_BYTES;
            let (one, two) = (
                &one[offset..offset + LEAF_BYTES],
                &two[offset..offset + LEAF_BYTES],
            );
            let (found, lacks) = match decode(*at, one) {
                // Equal bytes need not be looked at twice.
                Ok(leaf) => (leaf, (one != two).then_some(1)),
                Err(fault) => match decode(*at, two) {
                    Ok(leaf) => (leaf, Some(0)),
                    Err(_) => {
                        let [one, two] = INDEX_FILES;
                        let place = format!("place {} of {one} and {two}", place_of(*at));
                        return Err(damaged(place, "the leaf that a checkpoint names", fault));
                    }
                },
            };
            let leaf = leaves[*at].insert(found);
            if let Some(file) = lacks {
                report.checkpoint_damage = Some(format!("{}, place {}", INDEX_FILES[file], place_of(*at)));
                leaf.forget_image();
            }
        }
    }
    let first = named.iter().map(|(first, _)| *first);
    Ok(first.zip(leaves.into_iter().flatten()).collect())
}

/// Reads places in a row; those that cannot be read are zeros, which are no leaf.
fn read_places(file: &Arc<dyn DiskFile>, places: Range<u32>, buffer: &mut [u8]) {
    let bytes = &mut buffer[..places.len() * LEAF_BYTES];
    if file.read_at(bytes, Places::offset(places.start)).is_ok() {
        return;
    }
    for (place, bytes) in places.zip(bytes.chunks_mut(LEAF_BYTES)) {
        if let Err(error) = file.read_at(bytes, Places::offset(place)) {
            tracing::warn!(place, %error, "a leaf of the index cannot be read");
            bytes.fill(0);
        }
    }
}
