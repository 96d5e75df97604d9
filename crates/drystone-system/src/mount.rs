//! Disks of limited size, and mounts whose server is away. Only root may make them, where the machine allows it.

use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A file with ext4 behind a loop device; unmounted and removed when dropped.
pub struct Volume {
    image: PathBuf,
    mount: PathBuf,
    _home: TempDir,
}

impl Volume {
    /// Makes a file system of `bytes` and mounts it on the directory `mount`.
    ///
    /// # Errors
    /// The machine does not allow it, in words.
    pub fn make(bytes: u64, mount: &Path) -> Result<Self, String> {
        let home = tempfile::Builder::new().prefix("drystone-volume-").tempdir();
        let home = home.map_err(|error| error.to_string())?;
        let image = home.path().join("disk.img");
        let file = File::create(&image).and_then(|file| file.set_len(bytes));
        file.map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-m", "0", &text(&image)])?;
        let volume = Self {
            image,
            mount: mount.to_owned(),
            _home: home,
        };
        volume.try_mount()?;
        Ok(volume)
    }

    fn try_mount(&self) -> Result<(), String> {
        let (image, mount) = (text(&self.image), text(&self.mount));
        run("mount", &["-o", "loop,noatime", &image, &mount])
    }

    /// Mounts it again.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn mount(&self) {
        self.try_mount().expect("it was mounted before");
    }

    /// Unmounts it; nobody may use it.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn unmount(&self) {
        run("umount", &[&text(&self.mount)]).expect("nobody uses it");
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Bytes in all.
    ///
    /// # Panics
    /// If the file system does not answer.
    pub fn total(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.mount).expect("the disk answers");
        space.f_blocks * space.f_frsize
    }

    /// Bytes in use.
    ///
    /// # Panics
    /// If the file system does not answer.
    pub fn used(&self) -> u64 {
        let space = rustix::fs::statvfs(&self.mount).expect("the disk answers");
        (space.f_blocks - space.f_bfree) * space.f_frsize
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        detach(&self.mount);
    }
}

/// A mount whose server never answers: whoever looks into it waits until this is dropped.
pub struct Silent {
    server: Option<File>,
    mount: PathBuf,
}

impl Silent {
    /// Mounts it on the directory `mount`.
    ///
    /// # Errors
    /// The machine does not allow it, in words.
    pub fn make(mount: &Path) -> Result<Self, String> {
        let server = File::options().read(true).write(true).open("/dev/fuse");
        let server = server.map_err(|error| format!("/dev/fuse: {error}"))?;
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", server.as_raw_fd());
        let options = CString::new(options).expect("there is no zero in it");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("silent", mount, "fuse", flags, &*options)
            .map_err(|error| format!("mounting a FUSE file system: {error}"))?;
        Ok(Self {
            server: Some(server),
            mount: mount.to_owned(),
        })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Whoever waits gets an error.
        drop(self.server.take());
        detach(&self.mount);
    }
}

/// Unmounts lazily: a process may have died a moment ago. What is not mounted any more is no fault.
fn detach(mount: &Path) {
    let _ = rustix::mount::unmount(mount, UnmountFlags::DETACH);
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program} {}: {} {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// True for root. The tests that need it are skipped by others, with a message.
pub fn can_mount() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    println!("SKIPPED: only root can mount the disks that this test needs");
    false
}

/// Makes the directory on which something is mounted.
///
/// # Panics
/// If it cannot be made.
pub fn mount_point(path: &Path) -> PathBuf {
    fs::create_dir_all(path).expect("the mount point can be made");
    path.to_owned()
}
