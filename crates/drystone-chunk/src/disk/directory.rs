//! Data directories: who they are, whether they belong together, and the boot of the node that they are.
//!
//! A boot is counted on every disk that is used: one that cannot count it is left out. Otherwise it would stand in
//! the cluster's record of that boot, and could be taken for a copy of itself at a later start without the others.

use super::disks::ServedDisk;
use super::watched::{Operations, hangs, watch};
use crate::error::{DiskFault, StartError};
use drystone_env::os::{OsDisk, lock_directory};
use drystone_env::{Disk, Env, Rng};
use drystone_identity::{Identity, IdentityError, Role};
use drystone_types::{BootId, DiskRef};
use futures_util::future::join_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// Locks the directories, all at the same time, and reads from each, so that what is opened next is known to answer.
pub(crate) async fn lock_all(env: &Env, paths: &[PathBuf]) -> (Vec<DataDirectory>, Vec<DiskFault>) {
    let locking = paths.iter().map(|path| {
        let (inner, (sender, receiver)) = (path.clone(), oneshot::channel());
        let lock = move || -> Result<DataDirectory, DiskFault> {
            let directory = DataDirectory::open(&inner)?;
            // What is wrong with it is told when it is opened.
            let _ = drystone_identity::load(&*directory.disk);
            Ok(directory)
        };
        let operations = Arc::<Operations>::default();
        let watched = Arc::clone(&operations);
        let body = async move { drop(sender.send(watched.during(lock))) };
        env.spawn.thread("lock", Box::pin(body));
        let path = path.display().to_string();
        async move { (path, operations.wait(&*env.clock, receiver).await) }
    });
    let (mut directories, mut faults) = (Vec::new(), Vec::new());
    for (path, locked) in join_all(locking).await {
        let reason = match locked {
            Some(Ok(Ok(directory))) => {
                directories.push(directory);
                continue;
            }
            Some(Ok(Err(fault))) => fault.reason,
            Some(Err(_)) => "locking it failed, see the log".into(),
            None => hangs(),
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
    /// Whether its disk answers.
    pub(crate) operations: Arc<Operations>,
    boot: BootId,
}

/// The directories that can be used, the node that they are, and the others' faults.
pub(crate) struct OpenedDirectories {
    pub(crate) identity: Identity,
    pub(crate) boot: BootId,
    pub(crate) directories: Vec<OpenedDirectory>,
    pub(crate) faults: Vec<DiskFault>,
}

/// Does `work` on a directory, on a thread of its own that has it meanwhile: it stays locked as long as the work lasts.
async fn on_directory<T, F>(env: &Env, name: &str, operations: &Operations, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, String> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    env.spawn
        .thread(name, Box::pin(async move { drop(sender.send(work())) }));
    match operations.wait(&*env.clock, receiver).await {
        Some(Ok(done)) => done,
        Some(Err(_)) => Err(format!("reading its {name} failed, see the log")),
        None => Err(hangs()),
    }
}

/// Reads who the directories are, and counts a boot in each; all at the same time.
pub(crate) async fn open(
    env: &Env,
    directories: Vec<DataDirectory>,
) -> Result<OpenedDirectories, StartError> {
    let mut faults = Vec::new();
    let mut opened: Vec<OpenedDirectory> = Vec::new();
    let reading = directories.into_iter().map(|mut directory| {
        let mut rng = env.rng(&format!("boot-{}", directory.path));
        let path = directory.path.clone();
        let (disk, operations) = watch(directory.disk);
        directory.disk = disk;
        let watched = Arc::clone(&operations);
        let identify = move || identify(directory, watched, &mut rng).map_err(|error| error.to_string());
        async move { (path, on_directory(env, "identity", &operations, identify).await) }
    });
    for (path, read) in join_all(reading).await {
        match read {
            Ok(directory) => opened.push(directory),
            Err(reason) => faults.push(DiskFault { path, reason }),
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
    let counting = opened.into_iter().map(|directory| async move {
        if directory.boot.counter == boot.counter {
            return Ok(directory);
        }
        let (path, operations) = (
            directory.directory.path.clone(),
            Arc::clone(&directory.operations),
        );
        let count = move || count_at(&*directory.directory.disk, boot).map(|()| directory);
        let counted = on_directory(env, "boot", &operations, count).await;
        counted.map_err(|reason| DiskFault { path, reason })
    });
    let mut directories = Vec::new();
    for counted in join_all(counting).await {
        match counted {
            Ok(directory) => directories.push(directory),
            Err(fault) => faults.push(fault),
        }
    }
    Ok(OpenedDirectories {
        identity,
        boot,
        directories,
        faults,
    })
}

fn identify(
    directory: DataDirectory,
    operations: Arc<Operations>,
    rng: &mut dyn Rng,
) -> Result<OpenedDirectory, IdentityError> {
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
        operations,
        boot,
        directory,
    })
}

fn count_at(disk: &dyn Disk, boot: BootId) -> Result<(), String> {
    drystone_identity::boot_at(disk, boot)
        .map_err(|error| format!("boot {} could not be counted: {error}", boot.counter))
}

/// Counts `boot` on a disk that is behind it and in service. It stays locked as long as that lasts.
///
/// # Errors
/// In words.
pub(crate) async fn count(env: &Env, disk: &ServedDisk, boot: BootId) -> Result<(), String> {
    let (files, (sender, receiver)) = (Arc::clone(&disk.files), oneshot::channel());
    let lock = disk.runner.lock();
    let count = async move {
        let counted = count_at(&*files, boot);
        drop(lock);
        let _ = sender.send(counted);
    };
    env.spawn.thread("boot", Box::pin(count));
    let failed = |_| Err(format!("counting boot {} failed", boot.counter));
    receiver.await.unwrap_or_else(failed)
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
