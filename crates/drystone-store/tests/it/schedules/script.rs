//! What is done in schedules, and on which disks.

use super::known::Known;
use crate::harness::{How, tiny};
use drystone_env::sim::SimDisk;
use drystone_store::StoreConfig;
use drystone_store::format::UNIT;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const MOST: u64 = 130_000;

pub(super) fn config() -> StoreConfig {
    StoreConfig {
        // Two arenas of four units, of which repair keeps a part of one.
        capacity: Some(8 * UNIT),
        arena_bytes: Some(4 * UNIT),
        spare_bytes: UNIT,
        segment_bytes: 64 << 10,
        batch_bytes: 16 << 10,
        small_bytes: 8 << 10,
        ..tiny()
    }
}

/// Three arenas of four units; one that is nearly empty is emptied at the second look.
pub(super) fn emptying() -> StoreConfig {
    StoreConfig {
        capacity: Some(12 * UNIT),
        remove_after: Duration::from_millis(10),
        ..config()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Append(u64, u64, (usize, usize), How),
    Finish(u64, u64, u64),
    Fence(u64),
    Delete(u64, u64),
    Read(u64, u64, u32),
    Checkpoint,
    Tick,
}

use Act::{Append, Checkpoint, Delete, Fence, Finish, Read, Tick};

pub(super) const LAST: How = How::Last(None);

/// What is done on a disk.
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) config: StoreConfig,
    pub(super) disk: SimDisk,
    pub(super) known: BTreeMap<u64, Known>,
    pub(super) threads: Threads,
}

/// Lists of which each is done in its order, the lists in any.
pub(super) type Threads = Vec<Vec<Act>>;

/// On a new disk.
pub(super) fn scripts() -> Vec<(&'static str, Threads)> {
    vec![
        (
            "sealed shorter than what is being written",
            vec![
                vec![
                    Append(1, 1, (0, 70_000), How::Sync),
                    Append(1, 1, (70_000, 120_000), How::Received),
                    Finish(1, 1, 50_000),
                ],
                vec![Append(2, 1, (0, 120_000), LAST), Append(3, 1, (0, 60_000), LAST)],
                vec![Checkpoint],
            ],
        ),
        (
            "deleted and placed again",
            vec![
                vec![
                    Append(1, 1, (0, 60_000), LAST),
                    Delete(1, 1),
                    Append(1, 2, (0, 20_000), How::Sync),
                ],
                vec![Append(2, 1, (0, 5_000), LAST), Tick, Delete(2, 1)],
                vec![Checkpoint],
            ],
        ),
        (
            "bytes that only a checkpoint holds",
            vec![
                vec![
                    Append(1, 1, (0, 5_000), How::Sync),
                    Append(1, 1, (5_000, 6_000), LAST),
                    Fence(1),
                ],
                vec![Checkpoint, Tick, Checkpoint],
                vec![Append(2, 1, (0, 100_000), LAST), Delete(2, 1)],
            ],
        ),
        (
            "what a deletion frees",
            vec![
                vec![Append(1, 1, (0, 100_000), LAST), Delete(1, 1)],
                vec![
                    Append(2, 1, (0, 100_000), LAST),
                    Append(3, 1, (0, 5_000), LAST),
                    Tick,
                ],
            ],
        ),
        (
            "given up while it is written",
            vec![
                vec![Append(1, 1, (0, 100_000), How::Received), Delete(1, 1)],
                vec![
                    Append(2, 1, (0, 100_000), LAST),
                    Append(3, 1, (0, 100_000), LAST),
                    Delete(2, 1),
                ],
                vec![Append(4, 1, (0, 100_000), LAST)],
            ],
        ),
    ]
}

/// On the disk of [`nearly_empty`].
pub(super) fn moving_scripts() -> Vec<(&'static str, Threads)> {
    vec![
        (
            "moved, then deleted",
            vec![
                vec![Tick, Tick, Tick, Tick],
                vec![Delete(5, 1), Append(5, 2, (0, 5_000), LAST)],
                vec![Fence(5)],
                vec![Read(5, 1, 60_000)],
                vec![Checkpoint],
            ],
        ),
        (
            "moved while space runs short",
            vec![
                vec![Tick, Tick, Read(5, 1, 60_000), Tick],
                vec![
                    Append(20, 1, (0, 100_000), LAST),
                    Append(21, 1, (0, 100_000), LAST),
                ],
            ],
        ),
    ]
}
