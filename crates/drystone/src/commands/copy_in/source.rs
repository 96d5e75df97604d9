//! Local files and trees that are copied in: no link in them is followed, and holes are not read.

use super::{Source, read_full};
use bytes::Bytes;
use rustix::fs::{Dir, Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What holes are read as.
static ZEROS: [u8; super::PIECE] = [0; super::PIECE];

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory above, or the directory itself, was replaced since the scan.
fn is_none_any_more(error: Errno, what: &str) -> io::Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => io::Error::other(format!("it is no {what} any more")),
        error => error.into(),
    }
}

/// A local tree that is scanned and copied. Everything below its root is opened from the root, name by name, and no link
/// is followed: what was a directory in the scan may have been replaced since by a link that leads anywhere.
#[derive(Clone)]
pub struct SourceTree {
    root: Arc<OwnedFd>,
    path: PathBuf,
}

impl SourceTree {
    /// The directory that the caller named, maybe through a link.
    ///
    /// # Errors
    /// The system's; it is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self {
            root: Arc::new(root),
            path: path.to_owned(),
        })
    }

    /// What the root is.
    ///
    /// # Errors
    /// The system's.
    pub fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.root.try_clone()?).metadata()
    }

    /// The path of what is at `relative`, for people.
    pub fn shown(&self, relative: &Path) -> PathBuf {
        self.path.join(relative)
    }

    /// The directory at `relative`.
    fn directory(&self, relative: &Path) -> io::Result<OwnedFd> {
        let flags = DIRECTORY.union(OFlags::NOFOLLOW);
        // A descriptor of its own: where a listing stands is no one else's business.
        let mut at = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
        for name in relative {
            let below = rustix::fs::openat(&at, name, flags, Mode::empty());
            at = below.map_err(|error| is_none_any_more(error, "directory"))?;
        }
        Ok(at)
    }

    /// What is at `relative` itself, which need not be readable: for its metadata, and where it leads to if it is a link.
    ///
    /// # Errors
    /// The system's; a directory above it was replaced.
    pub fn entry(&self, relative: &Path) -> io::Result<SourceEntry> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (directory, name) = self.place(relative)?;
        let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        Ok(SourceEntry { file, metadata })
    }

    fn place<'a>(&self, relative: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = relative.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let above = relative.parent().unwrap_or(Path::new(""));
        Ok((self.directory(above)?, name))
    }

    /// What is in the directory at `relative`, from the root, in order.
    ///
    /// # Errors
    /// The system's; a link has the place of a directory that a scan found.
    pub fn list(&self, relative: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in Dir::new(self.directory(relative)?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                paths.push(relative.join(OsStr::from_bytes(name)));
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// What a scan met.
pub struct SourceEntry {
    file: File,
    metadata: Metadata,
}

impl SourceEntry {
    /// As it was met.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Where the link leads.
    ///
    /// # Errors
    /// The system's.
    pub fn link(&self) -> io::Result<OsString> {
        let link = rustix::fs::readlinkat(&self.file, "", Vec::new())?;
        Ok(OsString::from_vec(link.into_bytes()))
    }
}

/// A local file to copy.
pub enum SourceFile {
    /// The caller named it: it may be a link, a device or a pipe.
    Named(PathBuf),
    /// A scan found it, here in its tree.
    Found(SourceTree, PathBuf),
}

impl SourceFile {
    /// Its path, for people.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::Named(path) => path.clone(),
            Self::Found(tree, relative) => tree.shown(relative),
        }
    }
}

/// A local file. Where the file system says that a hole is, nothing is read.
pub struct SparseFile {
    file: File,
    metadata: Metadata,
    is_sparse: bool,
    offset: u64,
    // The data that comes next, or under way: from, to. Both at the end of the file: a hole until there.
    data: (u64, u64),
}

impl SparseFile {
    /// Opens a file, or a device or a pipe if the caller named it.
    ///
    /// # Errors
    /// The system's; something else has the place of the file that was found, or of a directory above it.
    pub fn open(source: &SourceFile) -> io::Result<Self> {
        let file = match source {
            SourceFile::Named(path) => File::open(path)?,
            SourceFile::Found(tree, relative) => {
                // A pipe without a writer would be waited for.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let (directory, name) = tree.place(relative)?;
                let opened = rustix::fs::openat(directory, name, flags, Mode::empty());
                File::from(opened.map_err(|error| is_none_any_more(error, "regular file"))?)
            }
        };
        let metadata = file.metadata()?;
        if matches!(source, SourceFile::Found(..)) && !metadata.is_file() {
            return Err(io::Error::other("it is no regular file any more"));
        }
        // Only a file that holds less than its length has holes.
        let is_sparse = metadata.is_file() && held_bytes(&metadata) < metadata.len();
        let data = if is_sparse { (0, 0) } else { (0, u64::MAX) };
        Ok(Self {
            file,
            metadata,
            is_sparse,
            offset: 0,
            data,
        })
    }

    /// As it was when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Bytes of data that are expected, and whether there are holes beside them.
    pub fn expected(&self) -> (u64, bool) {
        let length = if self.metadata.is_file() {
            self.metadata.len()
        } else {
            0
        };
        match held_bytes(&self.metadata) {
            held if self.is_sparse => (held.max(1), true),
            _ => (length, false),
        }
    }

    /// Finds the data at or after the present offset.
    fn find_data(&mut self) -> io::Result<()> {
        let end = self.metadata.len();
        self.data = match seek(&self.file, SeekFrom::Data(self.offset)) {
            Ok(from) => (from, seek(&self.file, SeekFrom::Hole(from))?),
            // Nothing but a hole is left.
            Err(Errno::NXIO) => (end, end),
            // The file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => (self.offset, u64::MAX),
            Err(error) => return Err(error.into()),
        };
        let at = SeekFrom::Start(self.data.0.max(self.offset));
        seek(&self.file, at)?;
        Ok(())
    }
}

fn held_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

impl Source for SparseFile {
    fn read_piece(&mut self, length: usize) -> io::Result<Bytes> {
        if self.data.1 <= self.offset && self.offset < self.metadata.len() {
            self.find_data()?;
        }
        let wanted = self.offset + length as u64;
        let piece = if self.offset < self.data.0 && wanted <= self.data.0 {
            Bytes::from_static(&ZEROS[..length])
        } else if self.offset < self.data.0 || wanted > self.data.1 {
            // Data and holes in one piece: the system makes zeros of the holes.
            seek(&self.file, SeekFrom::Start(self.offset))?;
            read_full(&mut self.file, length)?
        } else {
            read_full(&mut self.file, length)?
        };
        self.offset += piece.len() as u64;
        Ok(piece)
    }

    fn check_unchanged(&self) -> io::Result<()> {
        if !self.metadata.is_file() {
            return Ok(());
        }
        let state = |metadata: &Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        let now = self.file.metadata()?;
        // What was read is not compared with the length: files of /proc and /sys hold something else than they say.
        if state(&now) == state(&self.metadata) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "it was changed while it was read ({} bytes at first, {} at last): nothing was stored",
            self.metadata.len(),
            now.len()
        )))
    }
}
