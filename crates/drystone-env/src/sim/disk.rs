use super::inode::{BLOCK, Inode};
use crate::disk::{Disk, DiskFile, OpenOptions, Space};
use crate::rng::{Rng, SeededRng};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

#[derive(Clone)]
struct State {
    rng: SeededRng,
    capacity: u64,
    boot: u64,
    // Set when the power is off: everything fails until the crash is carried out.
    off: bool,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    now: Names,
    durable: Names,
    pending: Vec<DirectoryOp>,
    armed: Armed,
    read_only: bool,
    stats: SimDiskStats,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<String, u64>,
    directories: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Armed {
    off: Option<u64>,
    sync: Option<u64>,
    write: Option<u64>,
    read: Option<u64>,
    lost: Option<u64>,
    misdirected: Option<u64>,
}

#[derive(Clone, Debug)]
enum DirectoryOp {
    MakeDirectory { name: String },
    Link { name: String, inode: u64 },
    Unlink { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
}

impl DirectoryOp {
    fn directory(&self) -> &str {
        match self {
            DirectoryOp::MakeDirectory { .. } => "",
            DirectoryOp::Link { name, .. } | DirectoryOp::Unlink { name, .. } => parent(name),
            DirectoryOp::Rename { to, .. } => parent(to),
        }
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// Counts an armed fault down; true when it fires.
fn fires(armed: &mut Option<u64>) -> bool {
    match armed {
        Some(1) => {
            *armed = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Names {
    fn apply(&mut self, op: &DirectoryOp) {
        match op {
            DirectoryOp::MakeDirectory { name } => {
                self.directories.insert(name.clone());
            }
            DirectoryOp::Link { name, inode } => {
                self.files.insert(name.clone(), *inode);
            }
            DirectoryOp::Unlink { name, inode } => {
                if self.files.get(name) == Some(inode) {
                    self.files.remove(name);
                }
            }
            DirectoryOp::Rename { from, to, inode } => {
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
        }
    }
}

impl State {
    /// One operation that changes something.
    fn operation(&mut self) -> io::Result<()> {
        self.powered()?;
        self.stats.operations += 1;
        if fires(&mut self.armed.off) {
            self.stats.faults += 1;
            self.off = true;
        }
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        if self.off {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    /// After an operation: if the power went off during it, its caller hears of no success.
    fn ended<T>(&self, value: T) -> io::Result<T> {
        self.powered().map(|()| value)
    }

    fn used(&self) -> u64 {
        let linked: BTreeSet<&u64> = self.now.files.values().collect();
        linked
            .into_iter()
            .filter_map(|inode| self.inodes.get(inode))
            .map(|inode| inode.length)
            .sum()
    }

    fn change(&mut self, op: DirectoryOp) {
        self.now.apply(&op);
        self.pending.push(op);
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.now
            .files
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check_directory(&self, directory: &str) -> io::Result<()> {
        let exists = directory.is_empty() || self.now.directories.contains(directory);
        if exists {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn fault(&mut self) -> io::Error {
        self.stats.faults += 1;
        input_output_error()
    }
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
            boot: 0,
            off: false,
            next_inode: 1,
            inodes: BTreeMap::new(),
            now: Names::default(),
            durable: Names::default(),
            pending: Vec::new(),
            armed: Armed::default(),
            read_only: false,
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

    /// What it has done so far.
    pub fn stats(&self) -> SimDiskStats {
        self.state().stats
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, for one operation that changes something.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
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
                let inode = state.next_inode;
                state.next_inode += 1;
                state.inodes.insert(inode, Inode::default());
                state.change(DirectoryOp::Link {
                    name: name.to_owned(),
                    inode,
                });
                inode
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

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        state.powered()?;
        let free = state.capacity.saturating_sub(state.used());
        Ok(Space {
            total: state.capacity,
            free,
            device: Arc::as_ptr(&self.shared) as usize as u64,
        })
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    boot: u64,
    direct: bool,
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
        let failed = fires(&mut state.armed.write);
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
