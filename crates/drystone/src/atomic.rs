//! Small files that are there whole or not at all, whatever ends in between.

use anyhow::Context;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readers {
    /// Whom the umask lets.
    Usual,
    /// Its owner only.
    Owner,
}

/// Writes a file so that readers and crashes see the old one or the new one.
///
/// # Errors
/// What the disk says; the old one is there then, or the new one if only its name could not be synced.
pub fn write(path: &Path, bytes: &[u8], readers: Readers) -> anyhow::Result<()> {
    put(path, bytes, readers, |temporary| fs::rename(temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file that must not exist yet.
///
/// # Errors
/// It exists, and is left as it is; or what the disk says.
pub fn create(path: &Path, bytes: &[u8], readers: Readers) -> anyhow::Result<()> {
    // Unlike a renamed file, a linked one replaces nothing.
    put(path, bytes, readers, |temporary| {
        fs::hard_link(temporary, path)?;
        fs::remove_file(temporary)
    })
    .with_context(|| format!("cannot create {}", path.display()))
}

fn put(
    path: &Path,
    bytes: &[u8],
    readers: Readers,
    give_name: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary(path);
    let write = || -> io::Result<()> {
        let mode = if readers == Readers::Owner { 0o600 } else { 0o666 };
        let mut file = (OpenOptions::new().write(true).create_new(true))
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        give_name(&temporary)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().inspect_err(|_| {
        // It may have been named already.
        let _ = fs::remove_file(&temporary);
    })
}

/// A name of its own in the same directory: others may write a file beside this one, or this one, at the same time,
/// and a file that somebody else gave a likely name is not touched.
fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 8];
    drystone_env::os::random_bytes(&mut random);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(
        ".new.{}.{number}.{:x}",
        std::process::id(),
        u64::from_le_bytes(random)
    ));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_that_are_written_at_the_same_time_do_not_share_a_temporary_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::thread::scope(|scope| {
            for name in ["up.request", "up.answer", "up.answer"] {
                let path = path(name);
                scope.spawn(move || {
                    for _ in 0..50 {
                        write(&path, name.as_bytes(), Readers::Usual).unwrap();
                    }
                });
            }
        });
        for name in ["up.request", "up.answer"] {
            assert_eq!(fs::read_to_string(path(name)).unwrap(), name);
        }
        // In the place of a directory nothing can be put, and nothing is left of the attempt.
        fs::create_dir(path("taken")).unwrap();
        assert!(write(&path("taken"), b"x", Readers::Usual).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_secret_is_its_owner_s_and_a_file_that_exists_is_not_created_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.secret");
        create(&path, b"one", Readers::Owner).unwrap();
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        let refused = create(&path, b"two", Readers::Owner).unwrap_err();
        assert!(format!("{refused:#}").contains("exists"), "{refused:#}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"three", Readers::Owner).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode()), (b"three".to_vec(), 0o600));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
