//! Places in the local file system that bytes of the cluster go to.
//!
//! A place is a name in an open directory, so that it can be deeper than a path can be long, and so that no link that
//! lies in a tree leads out of it. A file is written under another name until it is whole; what is not whole when the
//! command ends, for whatever reason, is removed.

use anyhow::{Context as _, bail};
use drystone_client::Attributes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Zeros in a row, at such a boundary, that become a hole: the block of common file systems.
const BLOCK: usize = 4096;

/// Links that are followed before they are taken for a circle, as the kernel does.
const MAX_LINKS: usize = 40;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A name in an open directory.
#[derive(Clone)]
pub struct Place {
    directory: Arc<OwnedFd>,
    name: String,
    /// The path as people see it.
    pub path: PathBuf,
}

/// What is at a place, links not followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Present {
    /// Nothing.
    Nothing,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, a pipe or a socket.
    Special,
}

/// Where the bytes of a file that was named on the command line go.
pub enum Destination {
    /// A new file takes the place of what is there.
    Replace(Place),
    /// The bytes go into what is there: a device, a pipe, or a file that a process has open.
    Into(PathBuf),
}

impl Destination {
    /// What `path` stands for: links are followed, also one that leads to nothing yet.
    ///
    /// # Errors
    /// Its directory cannot be opened, or it is a directory.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let place = Place::of(&path)?;
            match place.present()? {
                Present::Special => return Ok(Self::Into(path)),
                Present::Directory => bail!(io::Error::from(ErrorKind::IsADirectory)),
                Present::Nothing | Present::File => return Ok(Self::Replace(place)),
                Present::Link => {}
            }
            // What /dev/stdout leads to is open already: only its own bytes can be changed.
            if path.starts_with("/proc") || path.starts_with("/dev/fd") {
                return Ok(Self::Into(path));
            }
            let link = std::fs::read_link(&path)?;
            path = path.parent().unwrap_or(Path::new("/")).join(link);
        }
        bail!("too many symbolic links")
    }
}

impl Place {
    /// A path of the command line.
    ///
    /// # Errors
    /// Its directory cannot be opened, or it has no name of its own.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} is no name for a file", path.display()))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = rustix::fs::open(parent.unwrap_or(Path::new(".")), DIRECTORY, Mode::empty())
            .map_err(io::Error::from)?;
        Ok(Self {
            directory: Arc::new(directory),
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    /// What is there.
    ///
    /// # Errors
    /// The system's.
    pub fn present(&self) -> io::Result<Present> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Present::File,
                FileType::Directory => Present::Directory,
                FileType::Symlink => Present::Link,
                _ => Present::Special,
            }),
            Err(rustix::io::Errno::NOENT) => Ok(Present::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory, if there is none. It can be written to until [`Place::finish_directory`]; the mode that it has
    /// to get then, if it is another.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` if something else is there.
    pub fn make_directory(&self, mode: u32) -> io::Result<Option<u32>> {
        match rustix::fs::mkdirat(&self.directory, &self.name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) if self.present()? == Present::Directory => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let stat = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let made = stat.st_mode & 0o7777;
        if made & 0o700 == 0o700 {
            return Ok(None);
        }
        rustix::fs::chmodat(
            &self.directory,
            &self.name,
            Mode::from_raw_mode(made | 0o700),
            AtFlags::empty(),
        )?;
        Ok(Some(made))
    }

    /// Gives the directory here, which is complete, its mode and its times. A link here is not followed.
    ///
    /// # Errors
    /// The system's.
    pub fn finish_directory(&self, mode: Option<u32>, times: Option<(u64, u64)>) -> io::Result<()> {
        if mode.is_none() && times.is_none() {
            return Ok(());
        }
        let flags = DIRECTORY.union(OFlags::NOFOLLOW);
        let directory = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())?;
        if let Some((modified, accessed)) = times {
            rustix::fs::futimens(&directory, &timestamps(modified, accessed))?;
        }
        if let Some(mode) = mode {
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }

    /// Makes a symbolic link here, in the place of a file or another link.
    ///
    /// # Errors
    /// The system's.
    pub fn make_link(&self, link: &str, times: Option<(u64, u64)>) -> io::Result<()> {
        let temporary = Self {
            name: temporary_name(&self.name, next_number()),
            ..self.clone()
        };
        let directory = &self.directory;
        rustix::fs::symlinkat(link, directory, &temporary.name)?;
        let made = times.map_or(Ok(()), |times| temporary.set_times(times));
        let made = made.and_then(|()| {
            let renamed = rustix::fs::renameat(directory, &temporary.name, directory, &self.name);
            renamed.map_err(io::Error::from)
        });
        if made.is_err() {
            let _ = rustix::fs::unlinkat(directory, &temporary.name, AtFlags::empty());
        }
        made
    }

    fn set_times(&self, (modified, accessed): (u64, u64)) -> io::Result<()> {
        let times = timestamps(modified, accessed);
        Ok(rustix::fs::utimensat(
            &self.directory,
            &self.name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

/// The times (modified, accessed) of `attributes`, in microseconds since 1970.
pub fn times(attributes: &Attributes) -> (u64, u64) {
    (attributes.modified, attributes.accessed)
}

fn timestamps(modified: u64, accessed: u64) -> Timestamps {
    let time = |micros: u64| Timespec {
        tv_sec: (micros / 1_000_000) as i64,
        tv_nsec: (micros % 1_000_000 * 1000) as _,
    };
    Timestamps {
        last_access: time(accessed),
        last_modification: time(modified),
    }
}

/// A local directory that a tree of the cluster is copied into. Links in it are not followed.
pub struct LocalTree {
    root: Arc<OwnedFd>,
    path: PathBuf,
    // The directory that was asked for last, by its path from the root.
    last: (String, Arc<OwnedFd>),
}

impl LocalTree {
    /// The directory at `path`, which exists.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = Arc::new(rustix::fs::open(path, DIRECTORY, Mode::empty())?);
        Ok(Self {
            last: (String::new(), Arc::clone(&root)),
            root,
            path: path.to_owned(),
        })
    }

    /// The place `relative` (names with slashes between them) below the root.
    ///
    /// # Errors
    /// Its directory is not there, is no directory, or is a link.
    pub fn place(&mut self, relative: &str) -> io::Result<Place> {
        let (directory, name) = relative.rsplit_once('/').unwrap_or(("", relative));
        if self.last.0 != directory {
            let (mut at, mut rest) = (Arc::clone(&self.root), directory);
            // Directories of a tree come one below the other.
            if let Some(below) = directory
                .strip_prefix(&self.last.0)
                .and_then(|below| below.strip_prefix('/'))
                && !self.last.0.is_empty()
            {
                (at, rest) = (Arc::clone(&self.last.1), below);
            }
            for name in rest.split('/').filter(|name| !name.is_empty()) {
                let flags = DIRECTORY.union(OFlags::NOFOLLOW);
                at = Arc::new(rustix::fs::openat(&at, name, flags, Mode::empty())?);
            }
            self.last = (directory.to_owned(), at);
        }
        Ok(Place {
            directory: Arc::clone(&self.last.1),
            name: name.to_owned(),
            path: self.path.join(relative),
        })
    }
}

/// Files that are not whole yet, so that they can be removed when the process is told to end.
static PARTIAL: Mutex<Partials> = Mutex::new(Partials {
    files: BTreeMap::new(),
    is_closed: false,
});

struct Partials {
    files: BTreeMap<u64, (Arc<OwnedFd>, String)>,
    is_closed: bool,
}

/// Removes every file that is not whole. No more are begun.
pub fn remove_partial_files() {
    let mut partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
    partial.is_closed = true;
    for (directory, name) in std::mem::take(&mut partial.files).into_values() {
        let _ = rustix::fs::unlinkat(&directory, &name, AtFlags::empty());
    }
}

/// A number that this process has not used yet.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The name may be as long as a name can be: the temporary one is made of its beginning.
fn temporary_name(name: &str, number: u64) -> String {
    let short: String = name.chars().take(32).collect();
    format!(".{short}.{}-{number}.part", std::process::id())
}

/// A new file under a name of its own, which goes away unless it is [`NewFile::publish`]ed. Zeros become holes.
pub struct NewFile {
    file: File,
    place: Place,
    temporary: String,
    number: u64,
    offset: u64,
}

impl NewFile {
    /// Begins a file that is to appear at `place`.
    ///
    /// # Errors
    /// The system's.
    pub fn create(place: &Place, mode: u32) -> io::Result<Self> {
        let number = next_number();
        let temporary = temporary_name(&place.name, number);
        let mut partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
        if partial.is_closed {
            return Err(ErrorKind::Interrupted.into());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.directory, &temporary, flags, Mode::from_raw_mode(mode))?;
        let entry = (Arc::clone(&place.directory), temporary.clone());
        partial.files.insert(number, entry);
        Ok(Self {
            file: File::from(file),
            place: place.clone(),
            temporary,
            number,
            offset: 0,
        })
    }

    /// The file is whole: it gets its length, its exact mode and times if they are given, and its name.
    ///
    /// # Errors
    /// The system's; the file is removed.
    pub fn publish(self, mode: Option<u32>, times: Option<(u64, u64)>) -> io::Result<()> {
        // A hole at the end is no write.
        self.file.set_len(self.offset)?;
        if let Some(mode) = mode {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
        }
        if let Some((modified, accessed)) = times {
            rustix::fs::futimens(&self.file, &timestamps(modified, accessed))?;
        }
        let directory = &self.place.directory;
        Ok(rustix::fs::renameat(
            directory,
            &self.temporary,
            directory,
            &self.place.name,
        )?)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (start, end) in data_ranges(self.offset, bytes) {
            self.file
                .write_all_at(&bytes[start..end], self.offset + start as u64)?;
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let mut partial = PARTIAL.lock().unwrap_or_else(PoisonError::into_inner);
        if partial.files.remove(&self.number).is_some() {
            // After publication nothing has this name any more.
            let _ = rustix::fs::unlinkat(&self.place.directory, &self.temporary, AtFlags::empty());
        }
    }
}

/// The parts of `bytes`, which begin at `offset` of a file, that are more than whole blocks of zeros.
fn data_ranges(offset: u64, bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let to_boundary = BLOCK - (offset + start as u64) as usize % BLOCK;
        let end = bytes.len().min(start + to_boundary);
        let is_hole = end - start == BLOCK && is_zero(&bytes[start..end]);
        match ranges.last_mut() {
            _ if is_hole => {}
            Some(last) if last.1 == start => last.1 = end,
            _ => ranges.push((start, end)),
        }
        start = end;
    }
    ranges
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks that are not zero show it at once; the comparison with itself, shifted, is a memcmp.
    block.first() == Some(&0) && block[1..] == block[..block.len() - 1]
}

#[cfg(test)]
mod tests;
