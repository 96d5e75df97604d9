//! Exports: the whole state of a lone voter in a file, so that its store may be lost without the cluster.
//!
//! Owns the files below `exports/`: how one is written, read back and believed. While a voter is alone nobody can
//! send it a snapshot, so it keeps the two newest exports that it has read back, and the log since the older one
//! (`export_schedule` decides when). Must never: believe an export that was not read back from the device whole, or
//! remove one before two newer ones are believed.
//!
//! ```text
//! exports/N.export   N: the applied index, twenty digits
//!   0  8  magic "DRYEXPT1"
//!   8  4  version, 1
//!  12  4  CRC-32C of bytes 0..12 and 16..44
//!  16  8  applied index
//!  24  8  log time at it, microseconds since 1970
//!  32  8  length of the content
//!  40  4  CRC-32C of the content
//! 4096    content: a snapshot of drystone-namespace; zeros to the end of the last block of 4 KiB
//! exports/new        one that is being written; does not count
//! ```
//! Little endian.

#[cfg(any(test, fuzzing))]
pub mod fuzzed;

use drystone_env::{BufferPool, Disk, OpenOptions};
use drystone_namespace::store::Visitor;
use drystone_namespace::{
    Batch, ImportError, Order, OrderedStore, Settings, SnapshotSummary, StoreError, View, export,
};
use drystone_types::LogIndex;
use std::io;
use std::sync::Arc;

const DIRECTORY: &str = "exports";
const TEMPORARY: &str = "exports/new";
const MAGIC: &[u8; 8] = b"DRYEXPT1";
const VERSION: u32 = 1;
const HEADER: usize = 44;
const BLOCK: u64 = 4096;
/// Read at once.
const STEP: usize = 1 << 20;
/// Synced at once, so that the log's own syncs do not wait behind a whole export.
const SYNC_BYTES: u64 = 8 << 20;

/// An export that was read back whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Export {
    /// Applied index of the state in it.
    pub(crate) applied: LogIndex,
    /// Log time of that index.
    pub(crate) time: u64,
    /// Bytes of the snapshot in it.
    pub(crate) bytes: u64,
}

/// Why there is no export, or none that can be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{name}: {source}")]
    Io { name: String, source: io::Error },
    #[error("{name}: {what}: expected {expected}, found {found}")]
    Damaged {
        name: String,
        what: &'static str,
        expected: String,
        found: String,
    },
    #[error("{name}: {source}")]
    Content { name: String, source: ImportError },
    #[error("the store holds no batch yet")]
    Empty,
    #[error("it was given up, the server stops")]
    Stopped,
}

/// Why the content of an export was not loaded, before the name of its file is put to it.
enum LoadError {
    Content(ImportError),
    File(ExportError),
}

impl From<ImportError> for LoadError {
    fn from(error: ImportError) -> Self {
        LoadError::Content(error)
    }
}

fn failed(name: &str) -> impl Fn(io::Error) -> ExportError {
    move |source| ExportError::Io {
        name: name.to_owned(),
        source,
    }
}

fn file_name(applied: LogIndex) -> String {
    format!("{DIRECTORY}/{:020}.export", applied.0)
}

/// The exports that there are, the newest first; whether they can be believed is not looked at.
pub(crate) fn list(disk: &dyn Disk) -> io::Result<Vec<LogIndex>> {
    let names = match disk.list(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let number = |name: &String| name.strip_suffix(".export")?.parse().ok().map(LogIndex);
    let mut found: Vec<LogIndex> = names.iter().filter_map(number).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Removes every export but `kept`.
pub(crate) fn remove_others(disk: &dyn Disk, kept: &[Export]) -> io::Result<()> {
    let useless = list(disk)?
        .into_iter()
        .filter(|applied| !kept.iter().any(|export| export.applied == *applied));
    let mut removed = false;
    for applied in useless {
        disk.unlink(&file_name(applied))?;
        removed = true;
    }
    if removed { disk.sync_dir(DIRECTORY) } else { Ok(()) }
}

struct Header {
    applied: LogIndex,
    time: u64,
    length: u64,
    checksum: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.applied.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.time.to_le_bytes());
        out[32..40].copy_from_slice(&self.length.to_le_bytes());
        out[40..44].copy_from_slice(&self.checksum.to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&out[..12]), &out[16..]);
        out[12..16].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// What the first block says, or what is wrong with it.
    fn decode(block: &[u8]) -> Result<Self, (&'static str, String, String)> {
        let Some(head) = block.first_chunk::<HEADER>() else {
            return Err(("length", HEADER.to_string(), block.len().to_string()));
        };
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        if head[..8] != *MAGIC {
            return Err(("magic", format!("{MAGIC:02x?}"), format!("{:02x?}", &head[..8])));
        }
        let sum = crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[16..]);
        if u32_at(12) != sum {
            return Err((
                "checksum of the header",
                format!("{:08x}", u32_at(12)),
                format!("{sum:08x}"),
            ));
        }
        if u32_at(8) != VERSION {
            return Err(("version", VERSION.to_string(), u32_at(8).to_string()));
        }
        Ok(Self {
            applied: LogIndex(u64_at(16)),
            time: u64_at(24),
            length: u64_at(32),
            checksum: u32_at(40),
        })
    }
}

/// Writes the state in `view` to a file, reads it back from the device, and only then gives it its name.
///
/// # Errors
/// [`ExportError`]; the exports that were there are there.
pub(crate) fn write(
    disk: &dyn Disk,
    view: &dyn View,
    settings: &Settings,
    goes_on: &dyn Fn() -> bool,
) -> Result<Export, ExportError> {
    disk.create_dir(DIRECTORY).map_err(failed(DIRECTORY))?;
    disk.sync_dir("").map_err(failed(DIRECTORY))?;
    match disk.unlink(TEMPORARY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(TEMPORARY)(error)),
        _ => {}
    }
    let summary = write_content(disk, view, goes_on)?;
    let pool = BufferPool::new(2 * STEP);
    let found = verify_file(disk, TEMPORARY, settings, &pool, goes_on)?;
    if found.applied != summary.applied {
        return Err(ExportError::Damaged {
            name: TEMPORARY.to_owned(),
            what: "applied index",
            expected: summary.applied.to_string(),
            found: found.applied.to_string(),
        });
    }
    disk.rename(TEMPORARY, &file_name(found.applied))
        .map_err(failed(TEMPORARY))?;
    disk.sync_dir(DIRECTORY).map_err(failed(DIRECTORY))?;
    Ok(found)
}

fn write_content(
    disk: &dyn Disk,
    view: &dyn View,
    goes_on: &dyn Fn() -> bool,
) -> Result<SnapshotSummary, ExportError> {
    let options = OpenOptions {
        create: true,
        exclusive: true,
        direct: false,
    };
    let io = failed(TEMPORARY);
    let file = disk.open(TEMPORARY, options).map_err(&io)?;
    let (mut at, mut synced, mut checksum) = (BLOCK, BLOCK, 0);
    let summary = export::<ExportError>(view, &mut |part| {
        if !goes_on() {
            return Err(ExportError::Stopped);
        }
        file.write_at(&part, at).map_err(&io)?;
        checksum = crc32c::crc32c_append(checksum, &part);
        at += part.len() as u64;
        if at - synced >= SYNC_BYTES {
            file.sync_data().map_err(&io)?;
            synced = at;
        }
        Ok(())
    })?
    .ok_or(ExportError::Empty)?;
    let length = at - BLOCK;
    let padding = vec![0; (at.next_multiple_of(BLOCK) - at) as usize];
    file.write_at(&padding, at).map_err(&io)?;
    let header = Header {
        applied: summary.applied,
        time: summary.time,
        length,
        checksum,
    };
    let mut block = vec![0; BLOCK as usize];
    block[..HEADER].copy_from_slice(&header.encode());
    file.write_at(&block, 0).map_err(&io)?;
    file.sync_data().map_err(&io)?;
    Ok(summary)
}

/// Reads the export of `applied` from the device and checks all of it.
///
/// # Errors
/// [`ExportError`]: it cannot be believed.
pub(crate) fn verify(
    disk: &dyn Disk,
    applied: LogIndex,
    settings: &Settings,
    goes_on: &dyn Fn() -> bool,
) -> Result<Export, ExportError> {
    let pool = BufferPool::new(2 * STEP);
    let found = verify_file(disk, &file_name(applied), settings, &pool, goes_on)?;
    check_name(applied, found)
}

fn check_name(applied: LogIndex, found: Export) -> Result<Export, ExportError> {
    if found.applied == applied {
        return Ok(found);
    }
    Err(ExportError::Damaged {
        name: file_name(applied),
        what: "applied index",
        expected: applied.to_string(),
        found: found.applied.to_string(),
    })
}

fn verify_file(
    disk: &dyn Disk,
    name: &str,
    settings: &Settings,
    pool: &BufferPool,
    goes_on: &dyn Fn() -> bool,
) -> Result<Export, ExportError> {
    import_file(disk, name, Arc::new(Nowhere), settings, pool, goes_on)
}

/// Fills the empty `store` with the export of `applied`.
///
/// # Errors
/// [`ExportError`]; the store is to be wiped.
pub(crate) fn import<S: OrderedStore>(
    disk: &dyn Disk,
    applied: LogIndex,
    store: Arc<S>,
    settings: &Settings,
) -> Result<Export, ExportError> {
    let pool = BufferPool::new(2 * STEP);
    let found = import_file(disk, &file_name(applied), store, settings, &pool, &|| true)?;
    check_name(applied, found)
}

fn import_file<S: OrderedStore>(
    disk: &dyn Disk,
    name: &str,
    store: Arc<S>,
    settings: &Settings,
    pool: &BufferPool,
    goes_on: &dyn Fn() -> bool,
) -> Result<Export, ExportError> {
    let content = |source| match source {
        // Says nothing about the file.
        ImportError::Store(error) => ExportError::Store(error),
        source => ExportError::Content {
            name: name.to_owned(),
            source,
        },
    };
    let damaged = |what, expected: String, found: String| ExportError::Damaged {
        name: name.to_owned(),
        what,
        expected,
        found,
    };
    // Past the page cache: what is in it proves nothing about the device.
    let options = OpenOptions {
        direct: true,
        ..OpenOptions::default()
    };
    let io = failed(name);
    let file = disk.open(name, options).map_err(&io)?;
    let mut buffer = pool.take(BLOCK as usize);
    file.read_at(&mut buffer, 0).map_err(&io)?;
    let header = Header::decode(&buffer).map_err(|(what, expected, found)| damaged(what, expected, found))?;
    let length = file.len().map_err(&io)?;
    let expected = BLOCK
        .saturating_add(header.length)
        .checked_next_multiple_of(BLOCK);
    if expected != Some(length) {
        let expected = format!("{} bytes and a header", header.length);
        return Err(damaged("length", expected, length.to_string()));
    }
    let mut checksum = 0;
    let summary = drystone_namespace::import(&*store, settings, |add| {
        let (mut at, mut left) = (BLOCK, header.length);
        while left > 0 {
            if !goes_on() {
                return Err(LoadError::File(ExportError::Stopped));
            }
            let here = left.min(STEP as u64);
            let mut buffer = pool.take(here.next_multiple_of(BLOCK) as usize);
            let read = file.read_at(&mut buffer, at);
            read.map_err(|error| LoadError::File(io(error)))?;
            let part = buffer.get(..here as usize).unwrap_or_default();
            checksum = crc32c::crc32c_append(checksum, part);
            add(part)?;
            at += here;
            left -= here;
        }
        Ok(())
    });
    let summary = summary.map_err(|error| match error {
        LoadError::Content(error) => content(error),
        LoadError::File(error) => error,
    })?;
    if checksum != header.checksum {
        return Err(damaged(
            "checksum of the content",
            format!("{:08x}", header.checksum),
            format!("{checksum:08x}"),
        ));
    }
    if (summary.applied, summary.time) != (header.applied, header.time) {
        return Err(damaged(
            "state",
            format!("index {} at {}", header.applied, header.time),
            format!("index {} at {}", summary.applied, summary.time),
        ));
    }
    Ok(Export {
        applied: header.applied,
        time: header.time,
        bytes: header.length,
    })
}

/// A store that keeps nothing: importing into it checks an export and no more.
struct Nowhere;

impl View for Nowhere {
    fn get(&self, _key: &[u8]) -> Result<Option<bytes::Bytes>, StoreError> {
        Ok(None)
    }

    fn scan(&self, _from: &[u8], _to: &[u8], _order: Order, _visit: Visitor<'_>) -> Result<(), StoreError> {
        Ok(())
    }
}

impl OrderedStore for Nowhere {
    fn write(&self, _batch: &Batch) -> Result<(), StoreError> {
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, StoreError> {
        Ok(Box::new(Nowhere))
    }
}

#[cfg(test)]
mod tests;
