//! Names in the data directory of a metadata server, and which of them counts.
//!
//! ```text
//! identity, boot-a, boot-b   drystone-identity
//! begun                      u64 drawn then; the log has been opened once and must exist from now on
//! log/                       the Raft log, drystone-wal
//! state/N                    the state store; the highest N counts, others are remains
//! state/new                  a snapshot that is being installed; does not count
//! snapshots/out-*, in-*      snapshots on their way; removed at start
//! exports/                   the state of a lone voter, see `export`
//! recovering/                what `recover` has made, while it is not in its place; see there
//! before-H/                  what `recover` has replaced; H is the old history
//! ```

use drystone_env::{Disk, OpenOptions};
use drystone_identity::Identity;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The Raft log's directory, as the log's own configuration names it.
pub(crate) const LOG: &str = "log";
const STATE: &str = "state";
const SNAPSHOTS: &str = "snapshots";
const BEGUN: &str = "begun";

/// What is stamped into every batch of the log of `identity`.
pub(crate) fn log_identity(identity: &Identity) -> u64 {
    identity.node_incarnation.0 ^ identity.node.0.rotate_left(32)
}

/// Makes the directories and removes remains of snapshots.
pub(crate) fn prepare(disk: &dyn Disk) -> io::Result<()> {
    disk.create_dir(SNAPSHOTS)?;
    for name in disk.list(SNAPSHOTS)? {
        disk.unlink(&snapshot_file(&name))?;
    }
    disk.sync_dir("")
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The number of the log, if it has been opened before; 0 where none was drawn.
pub(crate) fn begun(disk: &dyn Disk) -> io::Result<Option<u64>> {
    let file = match disk.open(BEGUN, OpenOptions::default()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut number = [0; 8];
    match file.read_at(&mut number, 0) {
        Ok(()) => Ok(Some(u64::from_le_bytes(number))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

/// Remembers, durably, that the log has been opened, and its number.
pub(crate) fn set_begun(disk: &dyn Disk, number: u64) -> io::Result<()> {
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let file = disk.open(BEGUN, options)?;
    file.write_at(&number.to_le_bytes(), 0)?;
    file.sync_data()?;
    disk.sync_dir("")
}

fn numbers(data: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(data.join(STATE))? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The directory of the state that counts; it may not exist yet.
pub(crate) fn current_state(data: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(data.join(STATE))?;
    sync(data)?;
    let number = numbers(data)?.last().copied().unwrap_or(1);
    Ok(data.join(STATE).join(number.to_string()))
}

/// An empty directory for a snapshot that is to be installed.
pub(crate) fn new_state(data: &Path) -> io::Result<PathBuf> {
    let path = data.join(STATE).join("new");
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    Ok(path)
}

/// Makes the state in [`new_state`] the one that counts, atomically and durably.
pub(crate) fn adopt_new_state(data: &Path) -> io::Result<PathBuf> {
    let state = data.join(STATE);
    let number = numbers(data)?.last().map_or(1, |last| last + 1);
    let path = state.join(number.to_string());
    fs::rename(state.join("new"), &path)?;
    sync(&state)?;
    Ok(path)
}

/// Removes every state but the one that counts.
pub(crate) fn remove_old_states(data: &Path) -> io::Result<()> {
    let mut numbers = numbers(data)?;
    numbers.pop();
    for number in numbers {
        fs::remove_dir_all(data.join(STATE).join(number.to_string()))?;
    }
    Ok(())
}

/// Sets a damaged state aside by making an empty one count.
pub(crate) fn abandon_state(data: &Path) -> io::Result<PathBuf> {
    let number = numbers(data)?.last().map_or(1, |last| last + 1);
    let path = data.join(STATE).join(number.to_string());
    fs::create_dir_all(&path)?;
    sync(&data.join(STATE))?;
    Ok(path)
}

/// Where a snapshot's file lies.
pub(crate) fn snapshot_file(name: &str) -> String {
    format!("{SNAPSHOTS}/{name}")
}
