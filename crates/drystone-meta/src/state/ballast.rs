//! A file that takes a little of the file system while there is enough, so that there is some when others have filled it.
//!
//! A metadata server refuses what takes space long before its file system is full (`disk-reserve`). Another program does not. Then
//! deletions, which would free space, could not be written any more: the store, which cannot bear a write that fails,
//! has to wait. So the ballast goes when nothing else has been left for some seconds (before, whoever fills the file system
//! would take it with the rest), and comes back when there is more than the reserve.

use drystone_env::{Disk, OpenOptions, Space};
use std::sync::Arc;

const NAME: &str = "ballast";
/// Its length, but at most one of so many parts of the file system.
const MOST_BYTES: u64 = 128 << 20;
const PART: u64 = 128;

/// See the module.
pub(crate) struct Ballast {
    disk: Arc<dyn Disk>,
    is_here: bool,
}

impl Ballast {
    /// The one of this directory, if it is there.
    pub(crate) fn of(disk: &Arc<dyn Disk>) -> Self {
        let names = disk.list("").unwrap_or_default();
        Self {
            disk: Arc::clone(disk),
            is_here: names.iter().any(|name| name == NAME),
        }
    }

    fn bytes(space: Space) -> u64 {
        MOST_BYTES.min(space.total / PART) / 4096 * 4096
    }

    /// Gives it up: others have left nothing, and something must be written. Not before they have had the time to find that
    /// nothing is left, or they take this, too.
    pub(crate) fn give_up(&mut self) {
        if !std::mem::take(&mut self.is_here) {
            return;
        }
        let gone = self.disk.unlink(NAME).and_then(|()| self.disk.sync_dir(""));
        tracing::warn!(?gone, "the file system is full: the ballast is given up");
    }

    /// Makes it if there is room for it beyond `reserve` bytes. Blocks.
    pub(crate) fn take_if_possible(&mut self, space: Space, reserve: u64) {
        let bytes = Self::bytes(space);
        if self.is_here || bytes == 0 || space.free < reserve.saturating_add(bytes) {
            return;
        }
        let options = OpenOptions {
            create: true,
            ..OpenOptions::default()
        };
        let made = self.disk.open(NAME, options).and_then(|file| {
            file.allocate(bytes)?;
            file.sync_data()?;
            self.disk.sync_dir("")
        });
        match made {
            Ok(()) => self.is_here = true,
            Err(error) => {
                tracing::warn!(%error, "no ballast can be made");
                // A part of it helps nobody.
                let _ = self.disk.unlink(NAME);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_env::sim::SimDisk;

    const TOTAL: u64 = 1 << 30;

    #[test]
    fn it_goes_when_others_fill_the_disk_and_comes_back() {
        let sim = SimDisk::with_capacity(1, TOTAL);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let mut ballast = Ballast::of(&disk);
        let reserve = TOTAL / 40;
        ballast.take_if_possible(disk.space().unwrap(), reserve);
        let left = disk.space().unwrap().free;
        assert_eq!(left, TOTAL - TOTAL / 128);
        // It is still there after a start.
        let mut ballast = Ballast::of(&disk);
        sim.set_capacity(TOTAL - left);
        assert_eq!(disk.space().unwrap().free, 0);
        ballast.give_up();
        assert!(disk.space().unwrap().free > 0);
        // Not while there is less than the reserve.
        sim.set_capacity(reserve);
        ballast.take_if_possible(disk.space().unwrap(), reserve);
        assert_eq!(disk.space().unwrap().free, reserve);
        sim.set_capacity(2 * TOTAL);
        ballast.take_if_possible(disk.space().unwrap(), reserve);
        assert!(disk.space().unwrap().free < 2 * TOTAL);
    }
}
