//! A local file that is read without its holes.

use super::{Source, read_full};
use bytes::Bytes;
use rustix::fs::{SeekFrom, seek};
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// What holes are read as.
static ZEROS: [u8; super::PIECE] = [0; super::PIECE];

/// A local file. Where the file system says that a hole is, nothing is read.
pub struct SparseFile {
    file: File,
    metadata: Metadata,
    offset: u64,
    // The data that comes next, or under way: from, to. Both at the end of the file: a hole until there.
    data: (u64, u64),
}

impl SparseFile {
    /// Opens a file, a device or a pipe.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
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
            Err(rustix::io::Errno::NXIO) => (end, end),
            // The file system does not tell.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => (self.offset, u64::MAX),
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
