//! An open file of a seeded disk.

use super::SimDisk;
use super::inode::BLOCK;
use super::state::{State, fires, input_output_error, no_space};
use crate::BoxFuture;
use crate::disk::DiskFile;
use crate::rng::Rng;
use std::io;
use std::sync::MutexGuard;

pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) inode: u64,
    pub(super) boot: u64,
    pub(super) direct: bool,
}

impl SimFile {
    fn check<'a>(&self, state: MutexGuard<'a, State>) -> io::Result<MutexGuard<'a, State>> {
        if state.boot != self.boot {
            return Err(io::Error::other("this handle's process has died"));
        }
        Ok(state)
    }

    fn check_alignment(&self, offset: u64, length: usize) -> io::Result<()> {
        let aligned = offset.is_multiple_of(BLOCK) && (length as u64).is_multiple_of(BLOCK);
        if self.direct && !aligned {
            Err(io::ErrorKind::InvalidInput.into())
        } else {
            Ok(())
        }
    }

    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        drop(self.check(self.disk.state())?);
        self.disk.changing()
    }

    fn set_length(&self, length: u64, shrink: bool) -> io::Result<()> {
        let mut state = self.changing()?;
        let free = state.capacity.saturating_sub(state.used());
        let inode = state.inodes.get_mut(&self.inode).ok_or_else(input_output_error)?;
        if length > inode.length.saturating_add(free) {
            return Err(no_space());
        }
        if shrink || length > inode.length {
            inode.truncate(length);
        }
        state.ended(())
    }
}

impl DiskFile for SimFile {
    fn delay(&self) -> Option<BoxFuture<()>> {
        self.disk.half_an_operation()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check_alignment(offset, buffer.len())?;
        let mut state = self.check(self.disk.state())?;
        state.powered()?;
        state.stats.reads += 1;
        state.stats.read_bytes += buffer.len() as u64;
        if fires(&mut state.armed.read) {
            return Err(state.fault());
        }
        let inode = state.inodes.get(&self.inode).ok_or_else(input_output_error)?;
        if offset
            .checked_add(buffer.len() as u64)
            .is_none_or(|end| end > inode.length)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if inode.is_broken(offset, buffer.len()) {
            return Err(input_output_error());
        }
        inode.read(buffer, offset);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_alignment(offset, data.len())?;
        let mut guard = self.changing()?;
        let state = &mut *guard;
        state.stats.writes += 1;
        state.stats.written_bytes += data.len() as u64;
        let free = state.capacity.saturating_sub(state.used());
        let lost = fires(&mut state.armed.lost);
        let misdirected = fires(&mut state.armed.misdirected);
        let no_room = fires(&mut state.armed.no_room);
        let failed = fires(&mut state.armed.write) || no_room;
        state.stats.faults += u64::from(lost) + u64::from(misdirected) + u64::from(failed);
        let inode = state.inodes.get_mut(&self.inode).ok_or_else(input_output_error)?;
        let end = offset.checked_add(data.len() as u64).ok_or_else(no_space)?;
        if end > inode.length.saturating_add(free) {
            return Err(no_space());
        }
        if lost {
            return Ok(());
        }
        let mut offset = offset;
        if misdirected && inode.length >= BLOCK + data.len() as u64 {
            let places = (inode.length - data.len() as u64) / BLOCK;
            let elsewhere = state.rng.below(places) * BLOCK;
            offset = if elsewhere == offset {
                places * BLOCK
            } else {
                elsewhere
            };
        }
        let mut data = data;
        if failed {
            let whole = state.rng.below(data.len() as u64 / BLOCK + 1) * BLOCK;
            data = data.get(..whole as usize).unwrap_or(data);
        }
        inode.write(data, offset);
        if no_room {
            return Err(no_space());
        }
        if failed {
            return Err(input_output_error());
        }
        guard.ended(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.changing()?;
        let state = &mut *guard;
        state.stats.syncs += 1;
        let failed = fires(&mut state.armed.sync);
        state.stats.faults += u64::from(failed);
        let inode = state.inodes.get_mut(&self.inode).ok_or_else(input_output_error)?;
        if failed {
            inode.sync_failed(&mut state.rng);
            return Err(input_output_error());
        }
        // If the power goes off during the sync the crash decides about each block.
        if !state.off {
            inode.sync();
        }
        guard.ended(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.set_length(length, false)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.check(self.disk.state())?;
        state.powered()?;
        Ok(state
            .inodes
            .get(&self.inode)
            .ok_or_else(input_output_error)?
            .length)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_length(length, true)
    }
}
