use crate::buffer::BufferPool;
use crate::disk::{Disk, DiskFile, OpenOptions, Space};
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const BLOCK: usize = 4096;
/// Unaligned memory is copied through buffers of this pool before direct I/O.
const BOUNCE_BYTES: usize = 8 << 20;
/// How often, and after which pause, a file is opened again for which there was no descriptor: 5 s in all, by then
/// connections have been closed.
const OPEN_TRIES: u32 = 250;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// A directory of the local file system.
#[derive(Clone)]
pub struct OsDisk {
    root: PathBuf,
    bounce: BufferPool,
}

impl OsDisk {
    /// The directory `root`, which is created if it does not exist.
    ///
    /// # Errors
    /// If it cannot be created or is not a directory.
    pub fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self {
            root: root.to_owned(),
            bounce: BufferPool::new(BOUNCE_BYTES),
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Opens a file. Without a free descriptor it waits for a while: there will be some again, and whoever asks would take
/// an error for one of the disk. Blocks.
fn open(path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match rustix::fs::open(path, flags, mode) {
            Err(Errno::MFILE | Errno::NFILE) if tries < OPEN_TRIES => tries += 1,
            other => return other,
        }
        std::thread::sleep(OPEN_PAUSE);
    }
}

impl Disk for OsDisk {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(name);
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
        flags.set(OFlags::CREATE, options.create);
        flags.set(OFlags::EXCL, options.create && options.exclusive);
        let mode = Mode::from_raw_mode(0o600);
        let direct = if options.direct {
            match open(&path, flags | OFlags::DIRECT, mode) {
                // The file system has no direct I/O (tmpfs before 6.6, overlays).
                Err(Errno::INVAL) => None,
                other => Some(other?),
            }
        } else {
            None
        };
        let aligned = direct.is_some();
        let file = match direct {
            Some(file) => file,
            None => open(&path, flags, mode)?,
        };
        Ok(Arc::new(OsFile {
            file: File::from(file),
            aligned,
            bounce: self.bounce.clone(),
        }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.root.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(name))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(directory))? {
            let entry = entry?;
            if !entry.file_type()?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        File::open(self.root.join(directory))?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            total: stat.f_blocks * stat.f_frsize,
            free: stat.f_bavail * stat.f_frsize,
            free_files: match stat.f_files {
                0 => u64::MAX,
                _ => stat.f_favail,
            },
            device: fs::metadata(&self.root)?.dev() ^ machine(),
        })
    }
}

/// A number that this machine has until it is started again, the same for all its processes: device numbers are those of
/// other machines, too.
fn machine() -> u64 {
    static MACHINE: OnceLock<u64> = OnceLock::new();
    *MACHINE.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = u128::from_str_radix(&text.trim().replace('-', ""), 16);
        // Where it is not told, each process stands for a machine.
        boot.map_or(u64::from(std::process::id()) << 32, |boot| {
            (boot >> 64) as u64 ^ boot as u64
        })
    })
}

struct OsFile {
    file: File,
    aligned: bool,
    bounce: BufferPool,
}

impl OsFile {
    fn needs_bounce(&self, data: &[u8]) -> bool {
        self.aligned && data.as_ptr().align_offset(BLOCK) != 0
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.needs_bounce(buffer) {
            let mut bounce = self.bounce.take(buffer.len());
            self.file.read_exact_at(&mut bounce, offset)?;
            buffer.copy_from_slice(&bounce);
            return Ok(());
        }
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if self.needs_bounce(data) {
            return self.file.write_all_at(&self.bounce.copy(data), offset);
        }
        self.file.write_all_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, length) {
            // The file system cannot reserve: the length is set and space is found at the write.
            Err(Errno::OPNOTSUPP) => self.file.set_len(length),
            other => Ok(other?),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_one_file_system_tell_the_same_device() {
        let directory = tempfile::tempdir().unwrap();
        let device = |path: &Path| OsDisk::new(path).unwrap().space().unwrap().device;
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        assert_eq!(device(directory.path()), device(&inner));
        assert_ne!(device(directory.path()), device(Path::new("/proc")));
        assert_ne!(
            device(directory.path()),
            fs::metadata(&inner).unwrap().dev(),
            "another machine has that one, too"
        );
    }

    #[test]
    fn direct_files_take_unaligned_memory() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(directory.path()).unwrap();
        let file = disk
            .open(
                "a",
                OpenOptions {
                    create: true,
                    direct: true,
                    ..Default::default()
                },
            )
            .unwrap();
        file.allocate(16384).unwrap();
        let data = vec![5; 8192 + 1];
        file.write_at(&data[1..], 4096).unwrap();
        file.sync_data().unwrap();
        let mut back = vec![0; 8192 + 1];
        file.read_at(&mut back[1..], 4096).unwrap();
        assert_eq!(back[1..], data[1..]);
        assert_eq!(file.len().unwrap(), 16384);
    }

    #[test]
    fn lists_are_sorted_and_hold_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let disk = OsDisk::new(directory.path()).unwrap();
        disk.create_dir("d").unwrap();
        for name in ["b", "a", "d/c"] {
            disk.open(
                name,
                OpenOptions {
                    create: true,
                    ..Default::default()
                },
            )
            .unwrap();
        }
        assert_eq!(disk.list("").unwrap(), ["a", "b"]);
        assert_eq!(disk.list("d").unwrap(), ["c"]);
        assert!(disk.space().unwrap().total > 0);
    }
}
