//! One fjall keyspace with checked opening and checkpoints.

use super::check::{CheckError, CheckReport, check_tables, is_loss};
use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::config::PartitioningPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const KEYSPACE: &str = "namespace";
/// Threads of fjall. With two or more its first one leaves merges to the others, and as long as they are busy it passes what
/// waits to itself without a pause: each voter lost a processor for as long as a merge took (3.1.13, `worker_pool.rs`).
const WORKERS: usize = 1;
/// Tables are cut at this. The one thread writes memory to tables between merges, so a merge must be short: the first
/// level holds four tables' worth, and a merge into it rewrites no more than about twice that.
const TABLE_BYTES: u64 = 16 << 20;

/// How to open a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Memory for cached blocks.
    pub cache_bytes: u64,
    /// Bytes in memory after which they are written to a table by themselves.
    pub memtable_bytes: u64,
    /// Table files are read and compared whole at opening up to this many bytes.
    pub check_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        // 2 GiB are checked in about a second from a disk of this class; beyond it blocks are checked when read.
        Self {
            cache_bytes: 256 << 20,
            memtable_bytes: 32 << 20,
            check_bytes: 2 << 30,
        }
    }
}

/// Why the store cannot be used. Everything but `Io` says that what lies there is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file does not match its checksum, or is missing.
    #[error(transparent)]
    Damaged(#[from] CheckError),
    /// fjall refused, most often because a block does not match its checksum.
    #[error("fjall: {0}")]
    Fjall(#[from] fjall::Error),
    /// fjall panicked on what it read.
    #[error("fjall panicked: {0}")]
    Panicked(String),
    /// The directory cannot be worked with.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl StoreError {
    /// True if what lies there is not what was written; false if the system refused (a lock, a full or failing
    /// disk), which says nothing about the data.
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged(error) => error.is_damage(),
            StoreError::Fjall(fjall::Error::Locked | fjall::Error::Poisoned) | StoreError::Io { .. } => false,
            StoreError::Fjall(error) => io_below(error).is_none_or(is_loss),
            StoreError::Panicked(_) => true,
        }
    }
}

/// The system's error at the bottom of another, if there is one.
fn io_below<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    error.downcast_ref().or_else(|| error.source().and_then(io_below))
}

/// Takes a record that is put into a table.
pub(super) type Ingest<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// The store. All methods block.
pub struct FjallStore {
    database: Database,
    keyspace: Keyspace,
    report: CheckReport,
    // Orders checkpoints; writers are one thread anyway.
    checkpoint: Mutex<()>,
}

pub(super) fn caught<T>(body: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        Err(StoreError::Panicked(
            text.unwrap_or_else(|| "no message".to_owned()),
        ))
    })
}

/// Empties fjall's journals (see the module above; whatever they held is in the Raft log): the last one is kept, without
/// its content. fjall numbers writes, and the higher number counts: only if it finds a journal does it go on behind
/// the numbers in the tables. Without one it would begin anew, and what is written from then on would lose against
/// what it replaces. Where there is one no file is made: a start needs none on a file system that is full.
fn empty_journals(directory: &Path) -> Result<(), StoreError> {
    let fault = |source| StoreError::Io {
        path: directory.to_owned(),
        source,
    };
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    let kept = match journals.pop() {
        Some((Some(_), path)) => path,
        other => {
            journals.extend(other);
            directory.join("1.jnl")
        }
    };
    for (_, path) in journals {
        std::fs::remove_file(&path).map_err(fault)?;
    }
    std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(kept)
        .and_then(|file| file.sync_all())
        .map_err(fault)
}

impl FjallStore {
    /// Opens the store in `directory`, making an empty one if there is none. What was written after the last
    /// completed [`FjallStore::checkpoint`] may or may not be there, whole batches in order.
    ///
    /// # Errors
    /// [`StoreError`]; the files are left as they were, but for journals.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let mut report = CheckReport::default();
        // A creation that did not reach the marker left nothing that counts.
        if directory.join("version").exists() {
            report = check_tables(directory, options.check_bytes)?;
            empty_journals(directory)?;
        } else if directory.exists() {
            let fault = |source| StoreError::Io {
                path: directory.to_owned(),
                source,
            };
            if directory.join("keyspaces").join("1").exists() {
                // Tables without the marker: a creation never gets this far.
                return Err(fault(std::io::Error::other("the format marker is missing")));
            }
            std::fs::remove_dir_all(directory).map_err(fault)?;
        }
        caught(|| {
            let database = Database::builder(directory)
                .cache_size(options.cache_bytes)
                .worker_threads(WORKERS)
                .manual_journal_persist(true)
                .open()?;
            let keyspace = database.keyspace(KEYSPACE, || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(options.memtable_bytes)
                    .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
                    .filter_block_partitioning_policy(partitioned())
                    .index_block_partitioning_policy(partitioned())
            })?;
            Ok(Self {
                database,
                keyspace,
                report,
                checkpoint: Mutex::new(()),
            })
        })
    }

    pub(super) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// What opening checked.
    pub fn report(&self) -> CheckReport {
        self.report
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StoreError`]; a damaged block is an error, never an absent key.
    pub fn read(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        caught(|| {
            Ok(self
                .keyspace
                .get(key)?
                .map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    /// Calls `visit` with each record in the range, in key order, until it returns false.
    ///
    /// # Errors
    /// As [`FjallStore::read`].
    pub fn visit(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        if is_empty(range) {
            return Ok(());
        }
        caught(|| {
            for guard in self.keyspace.range::<&[u8], _>(range) {
                let (key, value) = guard.into_inner()?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Writes all of `changes` or none; `None` removes. Durable after the next [`FjallStore::checkpoint`].
    ///
    /// # Errors
    /// [`StoreError`]; the store takes no more writes then.
    pub fn change<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<(), StoreError> {
        caught(|| {
            let mut batch = self.database.batch();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(&self.keyspace, key, value),
                    None => batch.remove(&self.keyspace, key),
                }
            }
            Ok(batch.commit()?)
        })
    }

    /// Puts the records that `fill` inserts, with ascending keys of which none is there yet, straight into tables: no
    /// journal, no memory that is sorted and written again, and nothing to merge afterwards. They appear at once and
    /// are durable when this returns; if `fill` answers false they never do.
    ///
    /// # Errors
    /// [`StoreError`]; files that were begun are left and do not count.
    pub(super) fn ingest(&self, fill: &mut dyn FnMut(Ingest<'_>) -> bool) -> Result<(), StoreError> {
        caught(|| {
            let mut ingestion = self.keyspace.start_ingestion()?;
            let goes_on = fill(&mut |key, value| caught(|| Ok(ingestion.write(key, value)?)));
            if goes_on {
                ingestion.finish()?;
            }
            Ok(())
        })
    }

    /// Returns once every write that returned before this call is in synced, checksummed tables.
    ///
    /// # Errors
    /// [`StoreError`]; what is durable is then unknown.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let _one = self
            .checkpoint
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        caught(|| {
            self.keyspace.rotate_memtable()?;
            while self.keyspace.sealed_memtable_count() > 0 {
                // A worker that failed has poisoned the database, and the tables will never come.
                self.database.persist(PersistMode::Buffer)?;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        })
    }

    /// Bytes of its tables on the disk.
    pub fn table_bytes(&self) -> u64 {
        self.keyspace.disk_space()
    }
}

/// Filters and indexes are cut into blocks of 4 KiB, but for tables of level 0, where they stay in memory. By default fjall
/// does so only from level 3 on. A table of records as small as ours has a filter of up to 4 MiB; where it is one block,
/// the cache does not take it, and every look-up reads and checks all of it: with 8 million files creates fell from
/// 15,000/s to 1,000/s.
fn partitioned() -> PartitioningPolicy {
    PartitioningPolicy::new([false, true])
}

/// fjall panics on ranges that std's BTreeMap panics on.
fn is_empty(range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        _ => false,
    }
}
