//! The files `boot-a` and `boot-b`: the boot counter, written in turn so that a torn write leaves the other.
//!
//! ```text
//!  0  [16] envelope, magic "DRYB"
//! 16  u64  boot counter
//! 24  u64  random part of that boot
//! 32  u64  node id
//! 40  u64  node incarnation: a file of another formatting is not ours
//! ```
//! When one of the two is damaged the other may be one boot behind: the next counter then skips one, so that no
//! counter is ever used with two random parts. A boot that was counted elsewhere ([`boot_at`]) may skip many: it goes
//! into both files, so that the other is not behind it either.

use crate::envelope::{self, Kind};
use crate::{Identity, IdentityError, load};
use drystone_env::{Disk, Rng};
use drystone_types::BootId;

pub(crate) const FILES: [Kind; 2] = [
    Kind {
        file: "boot-a",
        magic: *b"DRYB",
        version: 1,
    },
    Kind {
        file: "boot-b",
        magic: *b"DRYB",
        version: 1,
    },
];
const CONTENT: usize = 32;

fn encode(kind: Kind, boot: BootId, identity: &Identity) -> Vec<u8> {
    let words = [
        boot.counter,
        boot.random,
        identity.node.0,
        identity.node_incarnation.0,
    ];
    let content: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    envelope::seal(kind, &content)
}

fn decode(kind: Kind, bytes: &[u8], identity: &Identity) -> Result<BootId, IdentityError> {
    let content = envelope::open(kind, bytes)?;
    if content.len() != CONTENT {
        let (found, expected) = (content.len() as u64, CONTENT as u64);
        return Err(IdentityError::Damaged {
            file: kind.file,
            what: "content length",
            found,
            expected,
        });
    }
    let mut words = content
        .chunks_exact(8)
        .map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    let mut next = || words.next().unwrap_or(0);
    let boot = BootId {
        counter: next(),
        random: next(),
    };
    let expected = [
        ("node id", identity.node.0),
        ("node incarnation", identity.node_incarnation.0),
    ];
    for (what, expected) in expected {
        let found = next();
        if found != expected {
            return Err(IdentityError::Damaged {
                file: kind.file,
                what,
                found,
                expected,
            });
        }
    }
    Ok(boot)
}

/// Both files at counter zero; their names become durable with the directory's next sync.
pub(crate) fn prepare(disk: &dyn Disk, identity: &Identity) -> Result<(), IdentityError> {
    FILES
        .iter()
        .try_for_each(|&kind| envelope::write(disk, kind.file, &encode(kind, BootId::default(), identity)))
}

/// The id of this start of the process: its counter is above every earlier one's and durable when this returns.
/// Called once per start, with the directory locked, before the first frame is sent.
///
/// # Errors
/// [`IdentityError::NotFormatted`]; damage if neither file is readable; whatever the disk says. No counter has
/// been used then.
pub fn boot(disk: &dyn Disk, random: &mut dyn Rng) -> Result<BootId, IdentityError> {
    let identity = load(disk)?;
    let (last, step, into) = last(disk, &identity)?;
    let counter = last.counter.checked_add(step).ok_or(IdentityError::Malformed {
        file: into.file,
        reason: "the boot counter is exhausted".to_owned(),
    })?;
    let next = BootId {
        counter,
        random: random.next_u64(),
    };
    store(disk, into, next, &identity)?;
    Ok(next)
}

/// Counts a boot here that this start of the process has taken elsewhere: on another disk of the same node, or
/// above a counter that the cluster named. Durable when this returns.
///
/// # Errors
/// As [`boot()`]; [`IdentityError::Malformed`] if a boot as high was counted here already, and nothing is written
/// then. After a fault in the middle the next boot here is above both the last one and this one, or above the last.
pub fn boot_at(disk: &dyn Disk, boot: BootId) -> Result<(), IdentityError> {
    let identity = load(disk)?;
    let (last, _, older) = last(disk, &identity)?;
    if boot.counter <= last.counter {
        return Err(IdentityError::Malformed {
            file: older.file,
            reason: format!("boot {} is not above {}", boot.counter, last.counter),
        });
    }
    store(disk, older, boot, &identity)?;
    let other = FILES.into_iter().find(|kind| kind.file != older.file);
    other.map_or(Ok(()), |kind| store(disk, kind, boot, &identity))
}

/// The last boot here that can be read, by how much the next is above it, and the file that the next goes into.
fn last(disk: &dyn Disk, identity: &Identity) -> Result<(BootId, u64, Kind), IdentityError> {
    let read = |kind: Kind| {
        let bytes = envelope::read(disk, kind)?.unwrap_or_default();
        decode(kind, &bytes, identity)
    };
    match (read(FILES[0]), read(FILES[1])) {
        (Ok(a), Ok(b)) if a.counter > b.counter => Ok((a, 1, FILES[1])),
        (Ok(_), Ok(b)) => Ok((b, 1, FILES[0])),
        (Ok(a), Err(_)) => Ok((a, 2, FILES[1])),
        (Err(_), Ok(b)) => Ok((b, 2, FILES[0])),
        (Err(error), Err(_)) => Err(error),
    }
}

fn store(disk: &dyn Disk, into: Kind, boot: BootId, identity: &Identity) -> Result<(), IdentityError> {
    envelope::write(disk, into.file, &encode(into, boot, identity))?;
    // It may have been created here, if a file was lost.
    disk.sync_dir("")
        .map_err(IdentityError::io("syncing the directory"))
}
