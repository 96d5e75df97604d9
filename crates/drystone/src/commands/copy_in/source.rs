//! A local file that is read without its holes.

use super::{Source, read_full};
use bytes::Bytes;
use rustix::fs::{Dir, Mode, OFlags, SeekFrom, seek};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What holes are read as.
static ZEROS: [u8; super::PIECE] = [0; super::PIECE];

/// Who named a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The caller, who may name a link, a device or a pipe.
    Caller,
    /// The scan of a tree: what it found may have been replaced since, and a link may lead anywhere.
    Scan,
}

/// The paths in a local directory, in order.
///
/// # Errors
/// The system's; a link has the place of a directory that a scan found.
pub fn list(path: &Path, by: By) -> io::Result<Vec<PathBuf>> {
    let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if by == By::Scan {
        flags |= OFlags::NOFOLLOW;
    }
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let mut paths = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            paths.push(path.join(OsStr::from_bytes(name)));
        }
    }
    paths.sort();
    Ok(paths)
}

/// A local file. Where the file system says that a hole is, nothing is read.
pub struct SparseFile {
    file: File,
    metadata: Metadata,
    offset: u64,
    // The data that comes next, or under way: from, to. Both at the end of the file: a hole until there.
    data: (u64, u64),
}

impl SparseFile {
    /// Opens a file, or a device or a pipe if the caller named it.
    ///
    /// # Errors
    /// The system's; something else has the place of the file that was found.
    pub fn open(path: &Path, by: By) -> io::Result<Self> {
        let other = || io::Error::other("it is no regular file any more");
        let file = match by {
            By::Caller => File::open(path)?,
            By::Scan => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let opened = rustix::fs::open(path, flags, Mode::empty());
                File::from(opened.map_err(|error| match error {
                    Errno::LOOP => other(),
                    error => error.into(),
                })?)
            }
        };
        let metadata = file.metadata()?;
        if by == By::Scan && !metadata.is_file() {
            return Err(other());
        }
        // Only a file that holds less than its length has holes.
        let is_sparse = metadata.is_file() && held_bytes(&metadata) < metadata.len();
        let data = if is_sparse { (0, 0) } else { (0, u64::MAX) };
        Ok(Self {
            file,
            metadata,
            offset: 0,
            data,
        })
    }

    /// As it was when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
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
    use std::os::unix::fs::MetadataExt;
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
}
