//! Checks the files of a fjall directory against the checksums that fjall keeps of them.
//!
//! ```text
//! DIR/version                     "FJL" 3: format marker
//! DIR/keyspaces/K/current         u64 version id, u128 xxh3 of the version file, u8 0
//! DIR/keyspaces/K/vN              sfa container; section "tables": u8 levels { u8 runs { u32 tables
//!                                 { u64 id, u8 0, u128 xxh3 of the table file, u64 seqno } } }
//! DIR/keyspaces/K/tables/ID       table
//! ```
//! Little endian. Read-only: nothing is repaired or removed here.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

/// Read this much at once: large enough for sequential disks, small enough to stay in the cache.
const STEP: usize = 1 << 20;

/// Damage, or a directory that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file's bytes are not those that were written.
    #[error("{}: {what}: expected {expected}, found {found}", file.display())]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What was checked.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file cannot be read or is missing.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl CheckError {
    /// True if bytes that were written are gone or changed; false if the disk could not be asked.
    pub fn is_damage(&self) -> bool {
        match self {
            CheckError::Damaged { .. } => true,
            CheckError::Unreadable { source, .. } => is_loss(source),
        }
    }
}

/// A missing or shortened file; everything else is the system's trouble, not the data's.
pub(super) fn is_loss(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | UnexpectedEof | InvalidData)
}

/// What was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckReport {
    /// Table files that the versions name.
    pub tables: u64,
    /// Bytes of tables whose checksum was compared.
    pub bytes_checked: u64,
    /// Bytes of tables left to a later check, because the limit was reached.
    pub bytes_left: u64,
}

fn read(file: &Path) -> Result<Vec<u8>, CheckError> {
    std::fs::read(file).map_err(|source| CheckError::Unreadable {
        file: file.to_owned(),
        source,
    })
}

fn damaged(file: &Path, what: &'static str, expected: impl ToString, found: impl ToString) -> CheckError {
    CheckError::Damaged {
        file: file.to_owned(),
        what,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// Checks every keyspace below `directory`: all version files, and whole table files up to `limit` bytes (the
/// rest is counted in the report; its blocks are still checked one by one when they are read).
///
/// # Errors
/// The first damage found. A directory without keyspaces is fresh and passes.
pub fn check_tables(directory: &Path, limit: u64) -> Result<CheckReport, CheckError> {
    let mut report = CheckReport::default();
    let marker = directory.join("version");
    let found = read(&marker)?;
    if found != b"FJL\x03" {
        return Err(damaged(
            &marker,
            "format marker",
            "46 4a 4c 03",
            format!("{found:02x?}"),
        ));
    }
    let keyspaces = directory.join("keyspaces");
    let unreadable = |source| CheckError::Unreadable {
        file: keyspaces.clone(),
        source,
    };
    for entry in std::fs::read_dir(&keyspaces).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            check_keyspace(&path, limit, &mut report)?;
        }
    }
    Ok(report)
}

fn check_keyspace(keyspace: &Path, limit: u64, report: &mut CheckReport) -> Result<(), CheckError> {
    let current = keyspace.join("current");
    let bytes = read(&current)?;
    let Ok(bytes) = <[u8; 25]>::try_from(&bytes[..]) else {
        return Err(damaged(&current, "length", 25, bytes.len()));
    };
    let (id, rest) = bytes.split_at(8);
    let (sum, kind) = rest.split_at(16);
    let id = u64::from_le_bytes(id.try_into().expect("eight bytes were split off"));
    let expected = u128::from_le_bytes(sum.try_into().expect("sixteen bytes were split off"));
    if kind != [0] {
        return Err(damaged(&current, "checksum kind", 0, kind[0]));
    }
    let version = keyspace.join(format!("v{id}"));
    let found = xxhash_rust::xxh3::xxh3_128(&read(&version)?);
    if found != expected {
        return Err(damaged(
            &version,
            "checksum",
            format!("{expected:032x}"),
            format!("{found:032x}"),
        ));
    }
    for (table, expected) in tables_of(&version)? {
        let file = keyspace.join("tables").join(table.to_string());
        let unreadable = |source| CheckError::Unreadable {
            file: file.clone(),
            source,
        };
        let mut open = File::open(&file).map_err(unreadable)?;
        let length = open.metadata().map_err(unreadable)?.len();
        report.tables += 1;
        if report.bytes_checked + length > limit {
            report.bytes_left += length;
            continue;
        }
        report.bytes_checked += length;
        let found = checksum(&mut open).map_err(unreadable)?;
        if found != expected {
            return Err(damaged(
                &file,
                "checksum",
                format!("{expected:032x}"),
                format!("{found:032x}"),
            ));
        }
    }
    Ok(())
}

fn checksum(file: &mut File) -> io::Result<u128> {
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; STEP];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.digest128()),
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// The tables that a version file names, with the checksum of each. The version file itself has been checked.
fn tables_of(version: &Path) -> Result<Vec<(u64, u128)>, CheckError> {
    let malformed = |what: &str| damaged(version, "section of tables", "a readable one", what);
    let reader = sfa::Reader::new(version).map_err(|error| malformed(&format!("{error:?}")))?;
    let section = reader.toc().section(b"tables").ok_or_else(|| malformed("none"))?;
    let mut source = section
        .buf_reader(version)
        .map_err(|error| malformed(&format!("{error:?}")))?;
    let mut tables = Vec::new();
    let mut parse = || -> io::Result<()> {
        for _ in 0..number(&mut source, 1)? {
            for _ in 0..number(&mut source, 1)? {
                for _ in 0..number(&mut source, 4)? {
                    let id = number(&mut source, 8)?;
                    let _kind = number(&mut source, 1)?;
                    let mut sum = [0; 16];
                    source.read_exact(&mut sum)?;
                    let _seqno = number(&mut source, 8)?;
                    tables.push((id, u128::from_le_bytes(sum)));
                }
            }
        }
        Ok(())
    };
    parse().map_err(|error| malformed(&error.to_string()))?;
    Ok(tables)
}

fn number(source: &mut impl Read, bytes: usize) -> io::Result<u64> {
    let mut buffer = [0; 8];
    source.read_exact(&mut buffer[..bytes])?;
    Ok(u64::from_le_bytes(buffer))
}
