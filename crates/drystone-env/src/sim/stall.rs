//! Disk operations that wait until a test lets them go on: what a device does that hangs.

use crate::{BoxFuture, Disk, DiskFile, OpenOptions, Space};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Whoever comes while it lasts waits until it ends. It has not begun at first.
#[derive(Default)]
pub struct Stall {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lasts: bool,
    waiting: usize,
}

impl Stall {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everybody waits.
    pub fn begin(&self) {
        self.state().lasts = true;
    }

    /// Lets all go on.
    pub fn end(&self) {
        self.state().lasts = false;
        self.changed.notify_all();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Returns once so many wait.
    pub fn until_waiting(&self, least: usize) {
        let fewer = |state: &mut State| state.waiting < least;
        drop(self.changed.wait_while(self.state(), fewer));
    }

    /// Waits while it lasts.
    pub fn pass(&self) {
        let mut state = self.state();
        state.waiting += 1;
        self.changed.notify_all();
        let waited = self.changed.wait_while(state, |state| state.lasts);
        waited.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
    }
}

/// A disk that stalls in all that is done to files whose names begin with `prefix`.
pub struct StallingDisk {
    inner: Arc<dyn Disk>,
    prefix: &'static str,
    stall: Arc<Stall>,
    free: AtomicU64,
}

impl StallingDisk {
    /// `inner`, with `stall` in front of the files whose names begin with `prefix`.
    pub fn new(inner: Arc<dyn Disk>, prefix: &'static str, stall: Arc<Stall>) -> Self {
        Self {
            inner,
            prefix,
            stall,
            free: AtomicU64::new(u64::MAX),
        }
    }

    /// Says from now on that no more than so many bytes are free.
    pub fn limit_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }

    fn pass(&self, name: &str) {
        if name.starts_with(self.prefix) {
            self.stall.pass();
        }
    }
}

impl Disk for StallingDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        self.pass(name);
        let inner = self.inner.open(name, options)?;
        let is_stalling = name.starts_with(self.prefix);
        let stalling = || -> Arc<dyn DiskFile> {
            Arc::new(StallingFile {
                inner: Arc::clone(&inner),
                stall: Arc::clone(&self.stall),
            })
        };
        Ok(if is_stalling { stalling() } else { inner })
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.inner.create_dir(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.pass(from);
        self.inner.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.pass(name);
        self.inner.unlink(name)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }

    fn space(&self) -> io::Result<Space> {
        let space = self.inner.space()?;
        let free = space.free.min(self.free.load(Ordering::Relaxed));
        Ok(Space { free, ..space })
    }

    fn delay(&self) -> Option<BoxFuture<()>> {
        self.inner.delay()
    }
}

struct StallingFile {
    inner: Arc<dyn DiskFile>,
    stall: Arc<Stall>,
}

impl DiskFile for StallingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.stall.pass();
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.stall.pass();
        self.inner.write_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.stall.pass();
        self.inner.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.stall.pass();
        self.inner.allocate(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.stall.pass();
        self.inner.truncate(length)
    }

    fn delay(&self) -> Option<BoxFuture<()>> {
        self.inner.delay()
    }
}
