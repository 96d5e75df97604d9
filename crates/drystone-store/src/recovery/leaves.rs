//! Reads the leaves that a checkpoint names.

use super::fault::{damaged, during};
use crate::checkpoint::{CheckpointImage, Places};
use crate::error::OpenError;
use crate::format::{CHECKPOINT_FILES, INDEX_FILES};
use crate::index::{LEAF_BYTES, Leaf, LeafImage};
use crate::input::RecoveryReport;
use drystone_env::{BufferPool, DiskFile};
use drystone_types::ChunkId;
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

/// The leaves that are named, in order. One that only one of the files has is to be written again.
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
        Leaf::decode(place, image, first, end)
    };
    let mut leaves: Vec<Option<Leaf>> = named.iter().map(|_| None).collect();
    // In the order of places, many at once.
    let mut order: Vec<usize> = (0..named.len()).collect();
    order.sort_unstable_by_key(|at| named[*at].1.place);
    let mut buffer = pool.take(READ_LEAVES as usize * LEAF_BYTES);
    let mut rest = &order[..];
    while let Some(begin) = rest.first().map(|at| named[*at].1.place) {
        let near = rest.partition_point(|at| named[*at].1.place - begin < READ_LEAVES);
        let (group, behind) = rest.split_at(near);
        rest = behind;
        let end = group.last().map_or(begin, |at| named[*at].1.place) + 1;
        let bytes = &mut buffer[..(end - begin) as usize * LEAF_BYTES];
        let is_read = files[0].read_at(bytes, Places::offset(begin)).is_ok();
        for at in group {
            let offset = (named[*at].1.place - begin) as usize * LEAF_BYTES;
            leaves[*at] = decode(*at, &bytes[offset..offset + LEAF_BYTES])
                .ok()
                .filter(|_| is_read);
        }
    }
    for (at, leaf) in leaves.iter_mut().enumerate().filter(|(_, leaf)| leaf.is_none()) {
        let place = named[at].1.place;
        let found = read_one(&files[1], place, &mut buffer).and_then(|bytes| {
            let found = decode(at, bytes);
            found.map_err(str::to_owned)
        });
        let where_it_is = format!("place {place} of {} and {}", INDEX_FILES[0], INDEX_FILES[1]);
        match found {
            Ok(mut found) => {
                report.checkpoint_damage = Some(format!("{}, place {place}", INDEX_FILES[0]));
                found.forget_image();
                *leaf = Some(found);
            }
            Err(fault) => return Err(damaged(where_it_is, "the leaf that a checkpoint names", fault)),
        }
    }
    let first = named.iter().map(|(first, _)| *first);
    Ok(first.zip(leaves.into_iter().flatten()).collect())
}

fn read_one<'a>(file: &Arc<dyn DiskFile>, place: u32, buffer: &'a mut [u8]) -> Result<&'a [u8], String> {
    let bytes = &mut buffer[..LEAF_BYTES];
    file.read_at(bytes, Places::offset(place))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
