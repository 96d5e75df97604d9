//! What may befall a seeded disk.

use super::SimDisk;
use super::inode::{BLOCK, Inode};
use super::state::{Armed, Names, State, parent};
use crate::rng::Rng;
use std::collections::BTreeSet;

impl SimDisk {
    /// Power is lost and comes back: a random subset of unsynced blocks (some torn at sectors) and of unsynced
    /// directory operations is kept. Armed faults are forgotten.
    pub fn crash(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.boot += 1;
        state.off = false;
        state.armed = Armed::default();
        let keep_percent = [0, 50, 100][state.rng.below(3) as usize];
        for op in std::mem::take(&mut state.pending) {
            if state.rng.chance(keep_percent, 100) {
                state.durable.apply(&op);
            }
        }
        // A file whose directory was lost is lost with it.
        let Names { files, directories } = &mut state.durable;
        files.retain(|name, _| parent(name).is_empty() || directories.contains(parent(name)));
        state.now = state.durable.clone();
        let linked: BTreeSet<u64> = state.now.files.values().copied().collect();
        state.inodes.retain(|number, _| linked.contains(number));
        for inode in state.inodes.values_mut() {
            state.stats.unsynced_at_crash += inode.unsynced();
            inode.crash(&mut state.rng);
        }
    }

    /// The process is killed: nothing is lost, but its handles are dead.
    pub fn kill(&self) {
        let mut state = self.state();
        state.boot += 1;
        state.off = false;
        state.armed = Armed::default();
    }

    /// Everything is gone, as after `mkfs`.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.boot += 1;
        (state.now, state.durable) = (Names::default(), Names::default());
        state.pending.clear();
        state.inodes.clear();
    }

    /// The power goes off during the `nth` operation that changes something from now on: it may have had an
    /// effect, its caller gets an error, and everything fails until [`SimDisk::crash`] (or [`SimDisk::kill`]).
    pub fn power_off_at(&self, nth: u64) {
        self.state().armed.off = Some(nth.max(1));
    }

    /// True after the power went off.
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// The `nth` sync of a file fails: of its unsynced blocks each has reached the disk or never will; the cache
    /// may go on showing them.
    pub fn fail_sync(&self, nth: u64) {
        self.state().armed.sync = Some(nth.max(1));
    }

    /// The `nth` write fails and has written any part of it, by whole blocks.
    pub fn fail_write(&self, nth: u64) {
        self.state().armed.write = Some(nth.max(1));
    }

    /// The `nth` write finds no space (ENOSPC) and has written any part of it, by whole blocks.
    pub fn fill_at_write(&self, nth: u64) {
        self.state().armed.no_room = Some(nth.max(1));
    }

    /// The `nth` read fails.
    pub fn fail_read(&self, nth: u64) {
        self.state().armed.read = Some(nth.max(1));
    }

    /// The `nth` write is reported as done and never happens.
    pub fn lose_write(&self, nth: u64) {
        self.state().armed.lost = Some(nth.max(1));
    }

    /// The `nth` write goes to another block of the same file, chosen at random.
    pub fn misdirect_write(&self, nth: u64) {
        self.state().armed.misdirected = Some(nth.max(1));
    }

    /// Forgets the armed faults that have not come to pass.
    pub fn disarm(&self) {
        self.state().armed = Armed::default();
    }

    /// While true, all that would change something fails with EROFS.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// The disk holds `capacity` bytes of files from now on.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// Changes bit `bit` of the byte at `offset`, on the disk and in the cache.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) {
        let mut state = self.state();
        let inode = state.now.files.get(name).copied().expect("the file exists");
        let inode = state.inodes.get_mut(&inode).expect("a named inode exists");
        assert!(offset < inode.length, "{name} has {} bytes", inode.length);
        inode.flip(offset, bit % 8);
    }

    /// The 4 KiB block at `offset` gives EIO when it is read, until it is written again.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn break_block(&self, name: &str, offset: u64) {
        let mut state = self.state();
        let inode = state.now.files.get(name).copied().expect("the file exists");
        state
            .inodes
            .get_mut(&inode)
            .expect("a named inode exists")
            .break_block(offset / BLOCK);
    }

    /// What a reader would see of a file; `None` if there is none.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.inodes.get(state.now.files.get(name)?)?;
        let mut bytes = vec![0; inode.length as usize];
        inode.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Bytes of a file; `None` if there is none.
    pub fn length(&self, name: &str) -> Option<u64> {
        let state = self.state();
        Some(state.inodes.get(state.now.files.get(name)?)?.length)
    }

    /// Replaces a file, durably, whatever was in it; makes it (and its directory) if there is none.
    pub fn set_contents(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let mut inode = Inode::default();
        inode.write(bytes, 0);
        inode.sync();
        let number = state.now.files.get(name).copied().unwrap_or(state.next_inode);
        state.next_inode = state.next_inode.max(number + 1);
        state.inodes.insert(number, inode);
        let State { now, durable, .. } = &mut *state;
        for names in [now, durable] {
            if !parent(name).is_empty() {
                names.directories.insert(parent(name).to_owned());
            }
            names.files.insert(name.to_owned(), number);
        }
    }

    /// Every file, with its directory, sorted.
    pub fn files(&self) -> Vec<String> {
        self.state().now.files.keys().cloned().collect()
    }
}
