//! `admin recover`: a lone metadata server whose log is damaged begins a new history with what is left.
//!
//! Owns the whole way: [`Recovery::open`] reads what there is and changes nothing; [`Recovery::stage`] makes a new
//! store, log and export beside the old ones; [`Recovery::switch`] puts them in their place and gives the
//! directory its new history; [`Recovery::finish`] ends it. From the end of `stage` on the directory does not
//! start, and the same command goes on where it was interrupted. Must never: write to or remove what it read (it
//! is moved to `before-H`, H being the old history), or do any of this to a voter that is not alone, whose log is
//! not its word alone.
//!
//! The caller does, between `switch` and `finish`, what belongs to the history outside of this directory: chunk
//! servers are of a history too.

mod staging;
mod survey;

pub use survey::{Lost, Survey};

use crate::layout;
use drystone_env::Disk;
use drystone_env::os::{LockedDirectory, OsDisk, lock_directory};
use drystone_identity::{Identity, Role};
use drystone_namespace::Settings;
use drystone_types::HistoryId;
use drystone_wal::WalConfig;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `stage` makes, and the file that says that it is complete: old and new history, a line each.
const STAGING: &str = "recovering";
const READY: &str = "ready";
/// What is replaced.
const PARTS: [&str; 3] = [layout::LOG, "state", "exports"];
/// Segments of the new log: those of another length are replaced as they are released.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Why nothing was recovered. But for an interrupted [`Recovery::switch`] the directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory is no metadata server's, in use, or its identity is damaged.
    #[error("data directory {}: {reason}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Other voters hold what this one lacks.
    #[error(
        "this metadata server is not alone ({reason}): nothing is recovered from one of several voters; format a new \
         directory to join and replace this one by it (`drystone admin raft replace OLD NEW`)"
    )]
    NotAlone {
        /// How it shows.
        reason: String,
    },
    /// The log opens, and the state or an export leads to it.
    #[error("log and state are intact, nothing is to be recovered: start it as usual")]
    Intact,
    /// No store, export or log begins anywhere.
    #[error("nothing can be restored: {}", reasons.join("; "))]
    Nothing {
        /// What was tried, and why it was not good.
        reasons: Vec<String>,
    },
    /// An entry is of a newer version.
    #[error("entry {index} of the log: {reason}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong.
        reason: String,
    },
    /// The disk or the new store refused.
    #[error("{doing}: {reason}")]
    Failed {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        reason: String,
    },
}

pub(crate) fn failed<E: std::fmt::Display>(doing: &'static str) -> impl Fn(E) -> RecoverError {
    move |error| RecoverError::Failed {
        doing,
        reason: error.to_string(),
    }
}

/// True if a recovery of this directory was interrupted: it must not start.
pub(crate) fn is_interrupted(data: &Path) -> bool {
    data.join(STAGING).join(READY).exists()
}

/// A directory that is being recovered; locked while this lives.
pub struct Recovery {
    data: PathBuf,
    disk: Arc<dyn Disk>,
    identity: Identity,
    found: Found,
    _lock: LockedDirectory,
}

enum Found {
    Surveyed(Box<survey::Evidence>),
    /// An earlier recovery was interrupted after its `stage`.
    Interrupted {
        old: HistoryId,
        new: HistoryId,
    },
}

impl Recovery {
    /// Locks the directory and reads everything that is left. Changes nothing (the store's own journals, which
    /// are never believed, go as at any start). Blocks, for as long as reading log, store and exports takes.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub fn open(data: &Path) -> Result<Self, RecoverError> {
        let refuse = |reason: String| RecoverError::Directory {
            directory: data.to_owned(),
            reason,
        };
        if !data.is_dir() {
            return Err(refuse("does not exist".to_owned()));
        }
        let lock = lock_directory(data).map_err(|error| refuse(error.to_string()))?;
        let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(data).map_err(|error| refuse(error.to_string()))?);
        let identity = drystone_identity::load(&*disk).map_err(|error| refuse(error.to_string()))?;
        if identity.role != Role::Metadata {
            return Err(refuse("is not a metadata server's".to_owned()));
        }
        let found = if is_interrupted(data) {
            let (old, new) = read_ready(data).map_err(refuse)?;
            Found::Interrupted { old, new }
        } else {
            Found::Surveyed(Box::new(survey::survey(data, &disk, &identity)?))
        };
        Ok(Self {
            data: data.to_owned(),
            disk,
            identity,
            found,
            _lock: lock,
        })
    }

    /// What would be restored and what is lost; `None` if only an interrupted recovery is left to be finished.
    pub fn survey(&self) -> Option<&Survey> {
        match &self.found {
            Found::Surveyed(evidence) => Some(&evidence.survey),
            Found::Interrupted { .. } => None,
        }
    }

    /// Who the directory is, in the history that it has now.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the old log, state and exports are moved to.
    pub fn old_place(&self) -> PathBuf {
        let old = match &self.found {
            Found::Surveyed(_) => self.identity.history,
            Found::Interrupted { old, .. } => *old,
        };
        self.data.join(format!("before-{old}"))
    }

    /// Makes store, log and export of the history `new` beside the old ones; answers the history to switch to,
    /// which is another one if a recovery was interrupted. From here on the directory does not start until
    /// [`Recovery::finish`].
    ///
    /// # Errors
    /// [`RecoverError`]; the directory is as it was.
    pub fn stage(&self, new: HistoryId) -> Result<HistoryId, RecoverError> {
        let evidence = match &self.found {
            Found::Interrupted { new, .. } => return Ok(*new),
            Found::Surveyed(evidence) => evidence,
        };
        let staging = self.data.join(STAGING);
        remove(&staging).map_err(failed("removing an old attempt"))?;
        staging::make(&staging, &self.disk, &self.identity, evidence, new)?;
        let text = format!("{}\n{new}\n", self.identity.history);
        let write = || -> io::Result<()> {
            let temporary = staging.join("ready.new");
            fs::write(&temporary, text)?;
            fs::File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, staging.join(READY))?;
            sync(&staging)?;
            sync(&self.data)
        };
        write().map_err(failed("ending the preparation"))?;
        Ok(new)
    }

    /// Puts what was staged in the place of what it replaces, and makes the directory one of the new history. May
    /// be repeated.
    ///
    /// # Errors
    /// [`RecoverError::Failed`]: call it again, in this process or another one.
    pub fn switch(&self, new: HistoryId) -> Result<(), RecoverError> {
        let (staging, old) = (self.data.join(STAGING), self.old_place());
        let exchange = || -> io::Result<()> {
            fs::create_dir_all(&old)?;
            sync(&self.data)?;
            for part in PARTS {
                let (staged, place, kept) = (staging.join(part), self.data.join(part), old.join(part));
                if !staged.exists() {
                    continue;
                }
                if place.exists() {
                    fs::rename(&place, &kept)?;
                    sync(&old)?;
                }
                fs::rename(&staged, &place)?;
                sync(&self.data)?;
            }
            sync(&staging)
        };
        exchange().map_err(failed("moving the new state into its place"))?;
        layout::set_begun(&*self.disk, 0).map_err(failed("marking the log as begun"))?;
        Identity::adopt_history(&*self.disk, new).map_err(failed("writing the identity"))?;
        Ok(())
    }

    /// Lets the directory start again.
    ///
    /// # Errors
    /// [`RecoverError::Failed`].
    pub fn finish(self) -> Result<(), RecoverError> {
        let staging = self.data.join(STAGING);
        let end = || -> io::Result<()> {
            match fs::remove_file(staging.join(READY)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => sync(&staging)?,
            }
            remove(&staging)?;
            sync(&self.data)
        };
        end().map_err(failed("ending the recovery"))
    }
}

fn read_ready(data: &Path) -> Result<(HistoryId, HistoryId), String> {
    let path = data.join(STAGING).join(READY);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut lines = text.lines().map(HistoryId::from_hex);
    match (lines.next().flatten(), lines.next().flatten()) {
        (Some(old), Some(new)) => Ok((old, new)),
        _ => Err(format!("{} is damaged", path.display())),
    }
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

fn settings(identity: &Identity) -> Settings {
    crate::state::stores::settings_of(identity)
}

fn wal_config(identity: &Identity) -> WalConfig {
    WalConfig {
        directory: layout::LOG.to_owned(),
        identity: layout::log_identity(identity),
        segment_bytes: SEGMENT_BYTES,
        ..WalConfig::default()
    }
}
