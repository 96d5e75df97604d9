//! The disk seam: one data directory with files in it, and what a crash may do to it.
//!
//! What callers may rely on, and no more: bytes are durable once [`DiskFile::sync_data`] returned after the
//! write did; names once [`Disk::sync_dir`] returned after the create, rename or unlink did. A crash before that
//! keeps any subset of unsynced 4 KiB blocks and of unsynced directory operations, and may tear a block at
//! 512-byte sectors. A failed sync is final: what it covered is unknown for ever and the file must not be
//! trusted to take writes again.

use crate::BoxFuture;
use std::io;
use std::sync::Arc;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenOptions {
    /// Create it if it does not exist.
    pub create: bool,
    /// Fail if it exists (with `create`).
    pub exclusive: bool,
    /// Bypass the page cache. Offsets and lengths must then be multiples of 4 KiB; memory that is not aligned
    /// is copied once. Where the file system cannot do it, the file is opened without it.
    pub direct: bool,
}

/// Space of the file system that holds a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this process can still allocate.
    pub free: u64,
    /// Files that can still be made; `u64::MAX` where the file system sets no number.
    pub free_files: u64,
    /// Identifies the device below among those of all machines that run: two disks with the same value fail together and
    /// have its space in common. Another when the machine is started again.
    pub device: u64,
}

/// One data directory. Names may hold one level of `/` for sub-directories made by [`Disk::create_dir`].
/// All calls block; they are made from threads that may block, or through [`crate::io`].
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system's; `NotFound` without `create`, `AlreadyExists` with `exclusive`.
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a sub-directory; succeeds if it exists.
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// Atomically gives `from` the name `to`, replacing what had it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name. Durable after [`Disk::sync_dir`].
    fn unlink(&self, name: &str) -> io::Result<()>;
    /// File names in `directory` (`""` for the data directory itself), sorted by bytes; no sub-directories.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Makes names in `directory` durable.
    fn sync_dir(&self, directory: &str) -> io::Result<()>;
    /// Space left and the device below.
    fn space(&self) -> io::Result<Space>;
    /// As [`DiskFile::delay`], for what concerns no open file.
    fn delay(&self) -> Option<BoxFuture<()>> {
        None
    }
}

/// An open file; shared, positional, no cursor. Closed when the last handle is dropped.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; whatever the device says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`; durable after [`DiskFile::sync_data`].
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes every write that returned before this call durable, and the length with it.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves space for `length` bytes and sets the length; the new part reads as zeros.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the length is zero.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file at `length`.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// A part of the time that an operation takes, to be awaited before and after it; `None` where the operation
    /// itself takes its time, which is everywhere but in simulations.
    fn delay(&self) -> Option<BoxFuture<()>> {
        None
    }
}
