//! A directory for the files of limit programs, deleted at the end.

use super::FRAME;
use drystone_env::os::OsDisk;
use drystone_env::{Disk, DiskFile, OpenOptions};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of each pre-written file: it is written around in a circle.
pub const SEGMENT: u64 = 64 << 20;

/// The directory. Dropping it deletes it, and [`Scratch::clear`] while an interrupted program still works in it.
pub struct Scratch {
    path: PathBuf,
    disk: OsDisk,
    content: Vec<u8>,
}

impl Scratch {
    /// A new directory called `name` in `parent`.
    ///
    /// # Errors
    /// As the system's; `AlreadyExists` if it is there.
    pub fn create(parent: &Path, name: &str, content: Vec<u8>) -> io::Result<Self> {
        assert_eq!(content.len(), FRAME, "the content is one frame");
        let path = parent.join(name);
        fs::create_dir(&path)?;
        Ok(Self {
            disk: OsDisk::new(&path)?,
            path,
            content,
        })
    }

    /// One frame of bytes that do not compress.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Its disk.
    pub fn disk(&self) -> &OsDisk {
        &self.disk
    }

    /// Where `name` is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A synced file of `size` bytes, the content over and over, that is in the page cache.
    pub fn source(&self, size: u64) -> io::Result<PathBuf> {
        let path = self.path("source");
        if fs::metadata(&path).is_ok_and(|known| known.len() == size) {
            return Ok(path);
        }
        let mut file = File::create(&path)?;
        for _ in 0..size / FRAME as u64 {
            file.write_all(&self.content)?;
        }
        file.sync_all()?;
        Ok(path)
    }

    /// A file of [`SEGMENT`] bytes for direct I/O, written and synced once, so that writing it again touches no
    /// metadata of the file system.
    pub fn segment(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(
            name,
            OpenOptions {
                create: true,
                direct: true,
                ..OpenOptions::default()
            },
        )?;
        if file.len()? != SEGMENT {
            for at in (0..SEGMENT).step_by(FRAME) {
                file.write_at(&self.content, at)?;
            }
            file.sync_data()?;
        }
        Ok(file)
    }

    /// Deletes the directory, if it is there.
    pub fn clear(&self) {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("{} is left behind: {error}", self.path.display());
            }
            _ => {}
        }
    }

    /// Forgets a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}
