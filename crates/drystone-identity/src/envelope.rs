//! What every file here begins with.
//!
//! ```text
//!  0  u32  magic, one per kind of file
//!  4  u32  format version
//!  8  u32  length of the content
//! 12  u32  CRC32C of bytes 0..12 and of the content
//! 16  content
//! ```
//! Little endian. Bytes after the content are ignored.

use crate::IdentityError;
use drystone_env::{Disk, OpenOptions};
use std::io;

const HEADER: usize = 16;
/// The largest content: some hundred voters' addresses fit many times.
const MAX_CONTENT: usize = 1 << 20;

/// A kind of file.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) file: &'static str,
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
}

fn checksum(head: &[u8], content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), content)
}

pub(crate) fn seal(kind: Kind, content: &[u8]) -> Vec<u8> {
    assert!(
        content.len() <= MAX_CONTENT,
        "content of {} has {} bytes",
        kind.file,
        content.len()
    );
    let mut out = Vec::with_capacity(HEADER + content.len());
    out.extend_from_slice(&kind.magic);
    out.extend_from_slice(&kind.version.to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    let crc = checksum(&out, content);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(content);
    out
}

pub(crate) fn open(kind: Kind, bytes: &[u8]) -> Result<&[u8], IdentityError> {
    let damaged = |what, found: u64, expected: u64| IdentityError::Damaged {
        file: kind.file,
        what,
        found,
        expected,
    };
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|word| word.try_into().ok())
            .map(u32::from_le_bytes)
    };
    let (Some(magic), Some(version), Some(length), Some(crc)) = (word(0), word(4), word(8), word(12)) else {
        return Err(damaged("length", bytes.len() as u64, HEADER as u64));
    };
    let expected = u32::from_le_bytes(kind.magic);
    if magic != expected {
        return Err(damaged("magic", magic.into(), expected.into()));
    }
    let Some(content) = bytes.get(HEADER..).and_then(|rest| rest.get(..length as usize)) else {
        return Err(damaged(
            "length",
            bytes.len() as u64,
            HEADER as u64 + u64::from(length),
        ));
    };
    let computed = checksum(&bytes[..12], content);
    if crc != computed {
        return Err(damaged("checksum", crc.into(), computed.into()));
    }
    if version != kind.version {
        return Err(IdentityError::Version {
            file: kind.file,
            found: version,
            supported: kind.version,
        });
    }
    Ok(content)
}

/// The whole file, `None` if it does not exist.
pub(crate) fn read(disk: &dyn Disk, kind: Kind) -> Result<Option<Vec<u8>>, IdentityError> {
    let file = match disk.open(kind.file, OpenOptions::default()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(IdentityError::io("opening an identity file"))?,
    };
    let length = file
        .len()
        .map_err(IdentityError::io("reading an identity file"))?;
    let limit = (HEADER + MAX_CONTENT) as u64;
    if length > limit {
        return Err(IdentityError::Damaged {
            file: kind.file,
            what: "length",
            found: length,
            expected: limit,
        });
    }
    let mut bytes = vec![0; length as usize];
    file.read_at(&mut bytes, 0)
        .map_err(IdentityError::io("reading an identity file"))?;
    Ok(Some(bytes))
}

/// Writes over the file from its start and makes it durable (its name not).
pub(crate) fn write(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let file = disk
        .open(name, options)
        .map_err(IdentityError::io("creating an identity file"))?;
    file.write_at(bytes, 0)
        .map_err(IdentityError::io("writing an identity file"))?;
    file.sync_data()
        .map_err(IdentityError::io("syncing an identity file"))
}
