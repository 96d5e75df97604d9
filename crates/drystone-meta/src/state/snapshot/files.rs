//! The files of snapshots, and what is known of those on their way.

use crate::locks::SENDING;
use bytes::Bytes;
use drystone_env::sync::Mutex;
use drystone_env::{Disk, DiskFile, OpenOptions};
use drystone_types::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Written to a snapshot's file before it is synced: a log on the same disk then waits for as much at most.
const SYNC_BYTES: u64 = 8 << 20;

/// A snapshot that can be streamed.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) id: Bytes,
    pub(super) path: String,
    /// Length and CRC32C of the file.
    pub(super) bytes: u64,
    pub(super) checksum: u32,
}

/// The number of the transfer that counts, by member: a newer one ends the one before it.
pub(super) struct Sending(Mutex<BTreeMap<NodeId, u64>>);

impl Default for Sending {
    fn default() -> Self {
        Self(Mutex::new(SENDING, BTreeMap::new()))
    }
}

impl Sending {
    pub(super) fn begin(&self, to: NodeId) -> u64 {
        let mut numbers = self.0.lock();
        let number = numbers.entry(to).or_default();
        *number += 1;
        *number
    }

    pub(super) fn counts(&self, to: NodeId, number: u64) -> bool {
        self.0.lock().get(&to) == Some(&number)
    }
}

/// Fills `buffer` from `at` as far as the file goes; 0: its end.
pub(super) fn read_part(file: &dyn DiskFile, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let left = file.len()?.saturating_sub(at);
    let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    file.read_at(buffer.get_mut(..length).unwrap_or_default(), at)?;
    Ok(length)
}

/// Writes `data` at `offset`, where the file ends, and makes durable what has piled up.
pub(super) fn append(file: &dyn DiskFile, data: &[u8], offset: u64) -> io::Result<()> {
    file.write_at(data, offset)?;
    if offset / SYNC_BYTES < (offset + data.len() as u64) / SYNC_BYTES {
        file.sync_data()?;
    }
    Ok(())
}

/// A new file in place of any other of this name.
pub(super) fn create(disk: &dyn Disk, name: &str) -> io::Result<Arc<dyn DiskFile>> {
    match disk.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.open(
        name,
        OpenOptions {
            create: true,
            exclusive: true,
            direct: false,
        },
    )
}
