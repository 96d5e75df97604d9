//! A disk of one node: a file behind a loop device with ext4, whose power can be cut.
//!
//! The cut is ext4's own: after the shutdown call (flag "no log flush") nothing reaches the device any more, and what
//! was written but not synced is gone at the next mount. The file lies in memory, so a sync costs no disk. What is
//! not covered: a device that loses what it has acknowledged without a flush, as real disks with a volatile cache do.

use crate::command::run;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a file system may be busy after its last process was killed.
const PATIENCE: Duration = Duration::from_secs(20);
const SYNCED: &str = "chaos-synced";
/// A new name each time: ext4 writes out at once what takes the place of something older.
const UNSYNCED: &str = "chaos-unsynced";

/// One disk.
pub struct Volume {
    image: PathBuf,
    device: String,
    mount: PathBuf,
    // Waits with an open handle for the word to shut the file system down.
    cutter: Option<Child>,
    cuts: u64,
}

impl Volume {
    /// Makes a disk and mounts it.
    ///
    /// # Errors
    /// What the machine does not allow.
    pub fn make(work: &Path, name: &str, bytes: u64) -> anyhow::Result<Self> {
        let image = work.join(format!("{name}.img"));
        File::create(&image)?.set_len(bytes)?;
        let text = image.to_string_lossy().into_owned();
        run(
            "mkfs.ext4",
            &[
                "-q",
                // No part of it is for root alone: full is full.
                "-m",
                "0",
                "-E",
                "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                "-J",
                "size=8",
                &text,
            ],
        )?;
        let device = run("losetup", &["--find", "--show", &text])?.trim().to_owned();
        let mut volume = Self {
            image,
            device,
            mount: work.join("disks").join(name),
            cutter: None,
            cuts: 0,
        };
        fs::create_dir_all(&volume.mount)?;
        volume.mount()?;
        volume.begin()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it, which recovers its journal, and gets ready for the next cut.
    fn mount(&mut self) -> anyhow::Result<()> {
        let mount = self.mount.to_string_lossy().into_owned();
        // Only syncs make anything durable within a round: no periodic commit helps a missing one.
        let arguments = ["-t", "ext4", "-o", "commit=300,noatime", &self.device, &mount];
        if let Err(first) = run("mount", &arguments) {
            // Its exit code tells of what it has mended.
            let _ = run("e2fsck", &["-p", &self.device]);
            run("mount", &arguments).with_context(|| format!("after fsck; before it: {first:#}"))?;
        }
        Ok(())
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let mut canary = File::create(self.mount.join(SYNCED))?;
        canary.write_all(b"synced")?;
        canary.sync_all()?;
        File::open(&self.mount)?.sync_all()?;
        let cutter = Command::new("xfs_io")
            .args(["-x", "-r"])
            .arg(&self.mount)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start xfs_io")?;
        self.cutter = Some(cutter);
        Ok(())
    }

    /// Writes something that is not synced, to see at [`Volume::restore`] that the cut took it.
    ///
    /// # Errors
    /// If the disk is not well.
    pub fn arm(&self) -> anyhow::Result<()> {
        Ok(fs::write(self.canary(), b"unsynced")?)
    }

    fn canary(&self) -> PathBuf {
        self.mount.join(format!("{UNSYNCED}-{}", self.cuts))
    }

    /// Says the word; [`Volume::wait_cut`] waits until it has been heard.
    pub fn cut(&mut self) {
        if let Some(stdin) = self.cutter.as_mut().and_then(|cutter| cutter.stdin.as_mut()) {
            // Told by `wait_cut`.
            let _ = stdin.write_all(b"shutdown\nquit\n");
        }
    }

    /// Waits for the cut, and sees that nothing can be written any more.
    ///
    /// # Errors
    /// If the power is still on.
    pub fn wait_cut(&mut self) -> anyhow::Result<()> {
        if let Some(mut cutter) = self.cutter.take() {
            cutter.wait()?;
        }
        if fs::write(self.mount.join("chaos-after"), b"x").is_ok() {
            bail!("{} takes writes after its power was cut", self.mount.display());
        }
        Ok(())
    }

    /// Takes all but the first `keep` bytes away for good: the device answers the rest with errors.
    ///
    /// # Errors
    /// If the machine does not allow it.
    pub fn shrink(&self, keep: u64) -> anyhow::Result<()> {
        File::options().write(true).open(&self.image)?.set_len(keep)?;
        run("losetup", &["--set-capacity", &self.device]).map(|_| ())
    }

    /// Unmounts it; nothing may use it any more.
    ///
    /// # Errors
    /// If it stays busy.
    pub fn unmount(&mut self) -> anyhow::Result<()> {
        if let Some(mut cutter) = self.cutter.take() {
            drop(cutter.stdin.take());
            cutter.wait()?;
        }
        let start = Instant::now();
        let mount = self.mount.to_string_lossy().into_owned();
        while let Err(error) = run("umount", &[&mount]) {
            if start.elapsed() > PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Takes power back after a cut: true if what was not synced is gone, as it should be.
    ///
    /// # Errors
    /// If the file system cannot be mounted, or has lost what was synced.
    pub fn restore(&mut self) -> anyhow::Result<bool> {
        self.unmount()?;
        self.mount()?;
        let is_kept = fs::read(self.mount.join(SYNCED)).is_ok_and(|bytes| bytes == b"synced");
        if !is_kept {
            bail!(
                "{} lost a synced file: the machine's fault, not the product's",
                self.mount.display()
            );
        }
        let is_gone = fs::read(self.canary()).map_or(true, |bytes| bytes != b"unsynced");
        // Its name may have been synced by others.
        let _ = fs::remove_file(self.canary());
        self.cuts += 1;
        self.begin()?;
        Ok(is_gone)
    }

    /// Unmounts and removes it.
    pub fn remove(&mut self) {
        let done = self
            .unmount()
            .and_then(|()| run("losetup", &["--detach", &self.device]));
        if let Err(error) = done {
            eprintln!("chaos: {error:#}");
        }
        // The directory of the run goes as a whole.
        let _ = fs::remove_file(&self.image);
    }
}

/// Removes the mounts and loop devices below `work`, whoever left them.
pub fn remove_all(work: &Path) {
    let prefix = format!("{}/", work.display());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let ours = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| path.starts_with(&prefix));
    for path in ours {
        if let Err(error) = run("umount", &["--lazy", path]) {
            eprintln!("chaos: {error:#}");
        }
    }
    let devices = run(
        "losetup",
        &["--list", "--noheadings", "--output", "NAME,BACK-FILE"],
    )
    .unwrap_or_default();
    for line in devices.lines() {
        let mut words = line.split_whitespace();
        if let (Some(device), Some(file)) = (words.next(), words.next())
            && file.starts_with(&prefix)
            && let Err(error) = run("losetup", &["--detach", device])
        {
            eprintln!("chaos: {error:#}");
        }
    }
}
