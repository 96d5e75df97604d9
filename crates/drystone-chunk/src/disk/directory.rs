//! Data directories: who they are, whether they belong together, and the boot of the node that they are.
//!
//! A boot is counted on every disk that is used: one that cannot count it is left out. Otherwise it would stand in
//! the cluster's record of that boot, and could be taken for a copy of itself at a later start without the others.

use crate::error::{DiskFault, StartError};
use drystone_env::os::{OsDisk, lock_directory};
use drystone_env::{Disk, Env, Rng};
use drystone_identity::{Identity, IdentityError, Role};
use drystone_types::{BootId, DiskRef};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A data directory as it is handed to [`crate::ChunkServer::start`]: locked, formatted, not yet opened.
pub struct DataDirectory {
    /// For people and for the cluster's records.
    pub path: String,
    /// Its files.
    pub disk: Arc<dyn Disk>,
    /// What keeps others out while the server runs, if anything; dropped when it has stopped.
    pub lock: Option<Box<dyn Send + Sync>>,
}

impl DataDirectory {
    /// The directory at `path` of the real file system, locked.
    ///
    /// # Errors
    /// If it is not there or another process has it.
    pub fn open(path: &Path) -> Result<Self, DiskFault> {
        let name = path.display().to_string();
        let fault = |error: std::io::Error| DiskFault {
            path: name.clone(),
            reason: error.to_string(),
        };
        let lock = lock_directory(path).map_err(fault)?;
        let disk = OsDisk::new(path).map_err(fault)?;
        Ok(Self {
            disk: Arc::new(disk),
            lock: Some(Box::new(lock)),
            path: name,
        })
    }
}

/// How long a directory may take to be locked and to say who it is: a disk that wakes up, and a mount that finds its
/// server again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Locks the directories, all at the same time, and reads from each, so that what is opened next is known to answer.
pub(crate) async fn lock_all(env: &Env, paths: &[PathBuf]) -> (Vec<DataDirectory>, Vec<DiskFault>) {
    let deadline = env.clock.now().plus(PATIENCE);
    let begin = |path: &PathBuf| {
        let (inner, (sender, receiver)) = (path.clone(), oneshot::channel());
        let lock = move || -> Result<DataDirectory, DiskFault> {
            let directory = DataDirectory::open(&inner)?;
            // What is wrong with it is told when it is opened.
            let _ = drystone_identity::load(&*directory.disk);
            Ok(directory)
        };
        env.spawn
            .thread("lock", Box::pin(async move { drop(sender.send(lock())) }));
        (path.display().to_string(), receiver)
    };
    let locking: Vec<_> = paths.iter().map(begin).collect();
    let (mut directories, mut faults) = (Vec::new(), Vec::new());
    for (path, locked) in locking {
        let reason = match env.clock.until(deadline, locked).await {
            Some(Ok(Ok(directory))) => {
                directories.push(directory);
                continue;
            }
            Some(Ok(Err(fault))) => fault.reason,
            Some(Err(_)) => "locking it failed, see the log".into(),
            None => format!(
                "it does not answer for {PATIENCE:?}: is its disk broken, or is it on a mount whose server is away?"
            ),
        };
        faults.push(DiskFault { path, reason });
    }
    (directories, faults)
}

/// A directory whose identity is read and that has counted this boot.
pub(crate) struct OpenedDirectory {
    pub(crate) directory: DataDirectory,
    pub(crate) identity: Identity,
    pub(crate) me: DiskRef,
    pub(crate) device: u64,
    boot: BootId,
}

/// The directories that can be used, the node that they are, and the others' faults.
pub(crate) struct OpenedDirectories {
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
    pub(crate) directories: Vec<OpenedDirectory>,
    pub(crate) faults: Vec<DiskFault>,
}

/// Runs `work` on a thread of its own. `None` if it panicked.
pub(crate) async fn blocking<T, F>(env: &Env, name: &str, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    env.spawn
        .thread(name, Box::pin(async move { drop(sender.send(work())) }));
    receiver.await.ok()
}

/// Reads who the directories are, and counts a boot in each.
pub(crate) async fn open(
    env: &Env,
    directories: Vec<DataDirectory>,
) -> Result<OpenedDirectories, StartError> {
    let mut faults = Vec::new();
    let mut opened: Vec<OpenedDirectory> = Vec::new();
    for directory in directories {
        let mut rng = env.rng(&format!("boot-{}", directory.path));
        let path = directory.path.clone();
        let read = blocking(env, "identity", move || identify(directory, &mut rng)).await;
        match read {
            Some(Ok(directory)) => opened.push(directory),
            Some(Err(reason)) => faults.push(DiskFault {
                path,
                reason: reason.to_string(),
            }),
            None => faults.push(DiskFault {
                path,
                reason: "reading its identity failed".into(),
            }),
        }
    }
    let Some(first) = opened.first() else {
        return Err(StartError::NoDisk(faults));
    };
    let identity = first.identity.clone();
    for (at, directory) in opened.iter().enumerate() {
        if let Some(what) = contradiction(&opened[..at], directory) {
            let (first, second) = (first.directory.path.clone(), directory.directory.path.clone());
            return Err(StartError::Mixed {
                first,
                second,
                what: what.into(),
            });
        }
    }
    let boot = opened
        .iter()
        .map(|directory| directory.boot)
        .max_by_key(|boot| boot.counter)
        .unwrap_or_default();
    let mut directories = Vec::with_capacity(opened.len());
    for directory in opened {
        if directory.boot.counter < boot.counter
            && let Err(reason) = count(env, &directory.directory.disk, boot).await
        {
            let path = directory.directory.path;
            faults.push(DiskFault { path, reason });
        } else {
            directories.push(directory);
        }
    }
    Ok(OpenedDirectories {
        identity,
        boot,
        directories,
        faults,
    })
}

fn identify(directory: DataDirectory, rng: &mut dyn Rng) -> Result<OpenedDirectory, IdentityError> {
    let disk = &*directory.disk;
    let identity = drystone_identity::load(disk)?;
    let me = match (identity.role, identity.disk) {
        (Role::Chunk, Some(me)) => me,
        _ => {
            let reason = "it was formatted for another role than chunk server".into();
            return Err(IdentityError::Malformed {
                file: "identity",
                reason,
            });
        }
    };
    let device = disk
        .space()
        .map_err(|source| IdentityError::Io {
            operation: "asking for its space",
            source,
        })?
        .device;
    let boot = drystone_identity::boot(disk, rng)?;
    Ok(OpenedDirectory {
        identity,
        me,
        device,
        boot,
        directory,
    })
}

/// Counts `boot` on a disk that is behind it.
///
/// # Errors
/// In words.
pub(crate) async fn count(env: &Env, disk: &Arc<dyn Disk>, boot: BootId) -> Result<(), String> {
    let disk = Arc::clone(disk);
    match blocking(env, "boot", move || drystone_identity::boot_at(&*disk, boot)).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(format!("boot {} could not be counted: {error}", boot.counter)),
        None => Err(format!("counting boot {} failed", boot.counter)),
    }
}

fn contradiction(before: &[OpenedDirectory], directory: &OpenedDirectory) -> Option<&'static str> {
    let first = before.first()?;
    let (a, b) = (&first.identity, &directory.identity);
    if a.cluster != b.cluster {
        Some("they belong to different clusters")
    } else if a.history != b.history || a.key != b.key {
        Some("they live in different histories")
    } else if a.node != b.node || a.node_incarnation != b.node_incarnation {
        Some("they belong to different nodes")
    } else if before.iter().any(|other| other.me.disk == directory.me.disk) {
        Some("they are the same disk")
    } else {
        None
    }
}
