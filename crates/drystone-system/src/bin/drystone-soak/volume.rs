//! A disk of limited size: a file behind a loop device with ext4.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The disk; unmounted and removed when dropped.
pub struct Volume {
    mount: PathBuf,
    _home: TempDir,
}

impl Volume {
    /// Makes and mounts it.
    ///
    /// # Panics
    /// If the machine does not allow it.
    pub fn make(bytes: u64) -> Self {
        let home = tempfile::Builder::new().prefix("drystone-soak-").tempdir();
        let home = home.expect("a temporary directory");
        let (image, mount) = (home.path().join("disk.img"), home.path().join("disk"));
        let file = File::create(&image).expect("the image can be made");
        file.set_len(bytes).expect("the image can be made");
        fs::create_dir(&mount).expect("the mount point can be made");
        run("mkfs.ext4", &["-q", "-m", "0", &text(&image)]);
        run("mount", &["-o", "loop,noatime", &text(&image), &text(&mount)]);
        Self { mount, _home: home }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
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
        // Lazily: a process may have died a moment ago.
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        status.success(),
        "{program} {}: {status} (is this root?)",
        arguments.join(" ")
    );
}
