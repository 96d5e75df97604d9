//! Snapshots of which the beginning is here: their files, and what is known of them.
//!
//! One thread takes parts. Others end transfers meanwhile, and whoever does takes the file with it, whose name no other
//! transfer gets. So nothing waits for the disk but the one who asked for it: no lock is held over I/O.

use super::files::{append, create};
use crate::layout;
use crate::locks::ARRIVING;
use bytes::Bytes;
use drystone_env::sync::Mutex;
use drystone_env::{Disk, DiskFile};
use drystone_proto::cluster::ErrorReply;
use drystone_proto::raft::SnapshotPart;
use drystone_raft::SnapshotMeta;
use drystone_rpc::refusal;
use drystone_types::Code;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A snapshot of which the beginning is here.
#[derive(Clone)]
struct Arriving {
    /// Of this transfer, and none before or after it.
    number: u64,
    id: Bytes,
    path: String,
    file: Arc<dyn DiskFile>,
    offset: u64,
    checksum: u32,
    /// All of it has come: it stays until Raft has it installed or has no use for it.
    complete: bool,
}

#[derive(Default)]
struct Transfers {
    by_sender: BTreeMap<u64, Arriving>,
    /// How many there have been.
    begun: u64,
}

/// See the module.
pub(super) struct Arrivals {
    disk: Arc<dyn Disk>,
    transfers: Mutex<Transfers>,
}

/// What became of a part that was taken.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// More must come, or all of it was here already.
    Part,
    /// That was all of it.
    Whole(SnapshotMeta),
}

fn invalid(message: impl Into<String>) -> ErrorReply {
    refusal(Code::Invalid, message)
}

fn failed(error: io::Error) -> ErrorReply {
    refusal(Code::NoSpace, format!("snapshot file: {error}"))
}

/// The sender goes on at `expected`.
fn conflict(message: &str, expected: u64) -> ErrorReply {
    ErrorReply {
        expected,
        ..refusal(Code::Conflict, message)
    }
}

fn no_transfer() -> ErrorReply {
    conflict("no such transfer: begin again", 0)
}

impl Arrivals {
    /// None yet, on this disk.
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            transfers: Mutex::new(ARRIVING, Transfers::default()),
        }
    }

    /// Takes a part of a snapshot. One at a time; may wait for the disk.
    ///
    /// # Errors
    /// What the sender is told: with `Conflict` where it goes on.
    pub(super) fn take(&self, part: SnapshotPart, data: &[u8]) -> Result<Taken, ErrorReply> {
        if part.id.is_empty() || part.id.len() > 64 || data.is_empty() {
            return Err(invalid(
                "a snapshot has an id of 1 to 64 bytes, and a part has data",
            ));
        }
        let known = self.transfers.lock().by_sender.get(&part.from).cloned();
        let transfer = match known {
            // Its last answer may have been lost. Another must not replace it under Raft, which decides what becomes
            // of it.
            Some(known) if known.complete && known.id == part.id && part.last => return Ok(Taken::Part),
            Some(known) if known.complete => {
                return Err(refusal(Code::Busy, "a snapshot is being installed"));
            }
            Some(known) if known.id == part.id => known,
            _ if part.offset != 0 => return Err(no_transfer()),
            _ => self.begin(part.from, part.id.clone()).map_err(failed)?,
        };
        if transfer.offset != part.offset {
            return Err(conflict("the transfer stands elsewhere", transfer.offset));
        }
        append(&*transfer.file, data, transfer.offset).map_err(failed)?;
        self.went_on(&part, transfer.number, data)
    }

    /// A new transfer of this sender, in the place of any other.
    fn begin(&self, from: u64, id: Bytes) -> io::Result<Arriving> {
        let number = {
            let mut transfers = self.transfers.lock();
            transfers.begun += 1;
            transfers.begun
        };
        let path = layout::snapshot_file(&format!("in-{from}-{number}"));
        let begun = Arriving {
            number,
            id,
            file: create(&*self.disk, &path)?,
            path,
            offset: 0,
            checksum: 0,
            complete: false,
        };
        let old = self.transfers.lock().by_sender.insert(from, begun.clone());
        if let Some(old) = old {
            self.remove(&old);
        }
        Ok(begun)
    }

    /// Puts down that the data of `part` is in the file of this transfer, if it was not ended meanwhile.
    fn went_on(&self, part: &SnapshotPart, number: u64, data: &[u8]) -> Result<Taken, ErrorReply> {
        let mut transfers = self.transfers.lock();
        let transfer = transfers.by_sender.get_mut(&part.from);
        let transfer = transfer.filter(|transfer| transfer.number == number);
        let transfer = transfer.ok_or_else(no_transfer)?;
        assert_eq!(transfer.offset, part.offset, "one thread takes parts");
        transfer.offset += data.len() as u64;
        transfer.checksum = crc32c::crc32c_append(transfer.checksum, data);
        if !part.last {
            return Ok(Taken::Part);
        }
        if transfer.checksum != part.checksum {
            let damaged = transfers.by_sender.remove(&part.from);
            drop(transfers);
            damaged.iter().for_each(|damaged| self.remove(damaged));
            return Err(refusal(Code::Corrupt, "the snapshot's checksum does not match"));
        }
        let meta = (part.meta.clone()).ok_or_else(|| invalid("the last part says what it is a part of"))?;
        let meta = SnapshotMeta::try_from(meta).map_err(invalid)?;
        transfer.complete = true;
        Ok(Taken::Whole(meta))
    }

    /// What is left of it is tried again at the next start.
    fn remove(&self, transfer: &Arriving) {
        let _ = self.disk.unlink(&transfer.path);
    }

    /// The file of a snapshot that is here whole, by its id. It is the caller's then.
    pub(super) fn take_whole(&self, id: &Bytes) -> Option<String> {
        let mut transfers = self.transfers.lock();
        let is_it = |transfer: &Arriving| transfer.complete && transfer.id == id;
        let found = transfers.by_sender.iter().find(|(_, transfer)| is_it(transfer));
        let from = found.map(|(from, _)| *from)?;
        transfers.by_sender.remove(&from).map(|transfer| transfer.path)
    }

    /// A snapshot that is here whole is of no use: its sender may send another at once.
    pub(super) fn ignore(&self, from: u64, id: &Bytes) {
        let ended = {
            let mut transfers = self.transfers.lock();
            let of_no_use = |transfer: &Arriving| transfer.complete && transfer.id == id;
            match transfers.by_sender.get(&from).is_some_and(of_no_use) {
                true => transfers.by_sender.remove(&from),
                false => None,
            }
        };
        ended.iter().for_each(|ended| self.remove(ended));
    }

    /// The state was replaced: what has not come whole is of no use. Gives the names of the files, which are still to be
    /// removed.
    pub(super) fn forget_incomplete(&self) -> Vec<String> {
        let mut transfers = self.transfers.lock();
        let (whole, incomplete): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut transfers.by_sender)
            .into_iter()
            .partition(|(_, transfer)| transfer.complete);
        transfers.by_sender = whole;
        incomplete.into_values().map(|transfer| transfer.path).collect()
    }
}

#[cfg(test)]
mod tests;
