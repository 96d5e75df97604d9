use rustix::fs::{FlockOperation, Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A directory that this process alone uses; released when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct LockedDirectory {
    _directory: OwnedFd,
}

/// Locks the directory `path` (flock on the directory itself, so no file is left behind).
///
/// # Errors
/// `WouldBlock` if another process, or another part of this one, holds the lock; as the system says otherwise.
pub fn lock_directory(path: &Path) -> io::Result<LockedDirectory> {
    let directory = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(LockedDirectory {
            _directory: directory,
        }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{} is in use by another process", path.display()),
        )),
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = lock_directory(directory.path()).unwrap();
        assert_eq!(
            lock_directory(directory.path()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(first);
        lock_directory(directory.path()).unwrap();
    }
}
