use super::World;
use super::file::SimFile;
use super::state::{Armed, DirectoryOp, Names, State, Timing, parent};
use crate::BoxFuture;
use crate::disk::{Disk, DiskFile, OpenOptions, Space};
use crate::rng::{Rng, SeededRng};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A disk in memory that keeps apart what is durable and what only the page cache knows, per 4 KiB block and per
/// directory operation, and can fail in every way of the failure model. Clones see one disk.
///
/// Calls that take `nth` arm one fault: `1` is the next operation of that kind. File handles opened before a
/// [`SimDisk::crash`] or [`SimDisk::kill`] belong to the process that died and fail ever after.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Mutex<State>>,
}

/// What a disk has done so far, to prove that a test did what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SimDiskStats {
    /// Operations that change something: writes, syncs, lengths, names.
    pub operations: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Armed faults that came to pass.
    pub faults: u64,
    /// Unsynced blocks that a crash found.
    pub unsynced_at_crash: u64,
}

impl SimDisk {
    /// An empty disk of 1 TiB.
    pub fn new(seed: u64) -> Self {
        Self::with_capacity(seed, 1 << 40)
    }

    /// An empty disk that holds `capacity` bytes of files.
    pub fn with_capacity(seed: u64, capacity: u64) -> Self {
        let state = State {
            rng: SeededRng::new(seed).split("sim-disk"),
            capacity,
            device: SeededRng::new(seed).split("device").next_u64(),
            boot: 0,
            off: false,
            next_inode: 1,
            inodes: BTreeMap::new(),
            now: Names::default(),
            durable: Names::default(),
            pending: Vec::new(),
            armed: Armed::default(),
            read_only: false,
            timing: None,
            stats: SimDiskStats::default(),
        };
        Self {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// A disk of its own with the same contents, durable and not; it goes on with the randomness of `seed`. No
    /// handle is open on it and no fault armed.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let mut state = self.state().clone();
        state.rng = SeededRng::new(seed).split("sim-disk");
        state.armed = Armed::default();
        SimDisk {
            shared: Arc::new(Mutex::new(state)),
        }
    }

    /// From now on half an operation takes a time in `half`, in microseconds of the world's time. Faults that
    /// make a disk slow set it anew.
    pub fn set_timing(&self, world: &World, half: (u64, u64)) {
        self.state().timing = Some(Timing {
            world: world.clone(),
            half,
        });
    }

    pub(super) fn half_an_operation(&self) -> Option<BoxFuture<()>> {
        let mut state = self.state();
        let timing = state.timing.clone()?;
        let (low, high) = timing.half;
        let micros = low + state.rng.below(high.saturating_sub(low) + 1);
        drop(state);
        Some(timing.world.sleep(Duration::from_micros(micros)))
    }

    /// What it has done so far.
    pub fn stats(&self) -> SimDiskStats {
        self.state().stats
    }

    /// Blocks that a crash now may lose.
    pub fn unsynced(&self) -> u64 {
        self.state().inodes.values().map(|inode| inode.unsynced()).sum()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for one operation that changes something.
    pub(super) fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.read_only {
            return Err(io::Error::from_raw_os_error(30));
        }
        state.operation()?;
        Ok(state)
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.powered()?;
        let inode = match state.now.files.get(name).copied() {
            Some(_) if options.create && options.exclusive => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(inode) => inode,
            None if options.create => {
                state.check_directory(parent(name))?;
                drop(state);
                state = self.changing()?;
                // Another thread may have been faster.
                match state.find(name) {
                    Ok(inode) => inode,
                    Err(_) => state.create(name),
                }
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let file = SimFile {
            disk: self.clone(),
            inode,
            boot: state.boot,
            direct: options.direct,
        };
        state.ended(Arc::new(file) as Arc<dyn DiskFile>)
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.powered()?;
        if state.now.directories.contains(name) {
            return Ok(());
        }
        drop(state);
        state = self.changing()?;
        state.change(DirectoryOp::MakeDirectory {
            name: name.to_owned(),
        });
        state.ended(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        state.check_directory(parent(to))?;
        let inode = state.find(from)?;
        state.change(DirectoryOp::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            inode,
        });
        state.ended(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut state = self.changing()?;
        let inode = state.find(name)?;
        state.change(DirectoryOp::Unlink {
            name: name.to_owned(),
            inode,
        });
        state.ended(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let state = self.state();
        state.powered()?;
        state.check_directory(directory)?;
        let inside = state.now.files.keys().filter(|name| parent(name) == directory);
        Ok(inside
            .map(|name| {
                name.rsplit_once('/')
                    .map_or(name.as_str(), |(_, last)| last)
                    .to_owned()
            })
            .collect())
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        let mut guard = self.changing()?;
        guard.check_directory(directory)?;
        // If the power goes off during the sync the crash decides about each operation.
        if !guard.off {
            let state = &mut *guard;
            let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.pending)
                .into_iter()
                .partition(|op| op.directory() == directory);
            state.pending = rest;
            synced.iter().for_each(|op| state.durable.apply(op));
        }
        guard.ended(())
    }

    fn delay(&self) -> Option<BoxFuture<()>> {
        self.half_an_operation()
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        state.powered()?;
        let free = state.capacity.saturating_sub(state.used());
        Ok(Space {
            total: state.capacity,
            free,
            free_files: u64::MAX,
            device: state.device,
        })
    }
}
