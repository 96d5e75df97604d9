//! A segmented, pre-written, recycled, group-committed log that tells damage from a torn tail. The Raft log and
//! the journal of a chunk store are made of it.
//!
//! Owns: batches and their format, segment files, marks, recovery. Never: does disk work once it is open (it emits
//! [`IoRequest`](drystone_env::IoRequest)s and takes completions), reads a clock, starts a thread, knows what a
//! record means.
//!
//! What holds. A record is *durable* once [`Wal::on_completion`] has returned its [`Lsn`] or a higher one, and
//! then every later open visits it, until it is released. A record that was not durable is visited whole, or not
//! at all together with every record behind it. Records are visited in the order of their numbers, without gaps.
//! One batch is in flight at a time and the next one names it as synced, so a bad batch is a *torn tail* only if
//! nothing valid follows it; anything else is [`WalError::Damaged`] and the log does not open. Damage in the last
//! batch, in the 10 ms before its mark is written, cannot be told from a tear; nor can the loss of a whole new segment
//! before the turn in the one before it is written, a write and a sync after its first batch. A log that has lost its only
//! file, or whose older files were removed because their length has changed, reads as fresh.
//!
//! How to use it:
//! ```
//! # use drystone_wal::{Wal, WalConfig, tools::drain};
//! # use drystone_env::{BufferPool, Monotonic, os::OsDisk};
//! # use std::sync::Arc;
//! # let directory = tempfile::tempdir().unwrap();
//! # let disk = Arc::new(OsDisk::new(directory.path()).unwrap());
//! let pool = BufferPool::new(8 << 20);
//! let config = WalConfig { segment_bytes: 1 << 20, batch_bytes: 1 << 18, ..WalConfig::default() };
//! let (mut wal, recovered) = Wal::open(disk, config, pool.clone(), &mut |_lsn, _record| Ok(())).unwrap();
//! assert!(recovered.fresh);
//! let lsn = wal.append(&["hello".into(), "world".into()]).unwrap();    // one record, "helloworld"
//! assert!(wal.durable() < lsn);
//! drain(&mut wal, Monotonic(0), &pool).unwrap();                       // the shell's loop, in one blocking call
//! assert_eq!(wal.durable(), lsn);
//! ```
//!
//! Read [`format`](mod@format) for the bytes, then `wal.rs` for the write path, then `recovery.rs`; `salvage.rs` is for rescue.

mod batch;
mod config;
mod error;
pub mod format;
mod recovery;
mod salvage;
mod segment;
pub mod tools;
mod wal;

pub use config::WalConfig;
pub use error::{AppendError, Found, Recovered, Torn, Visitor, WalError};
pub use salvage::{Gap, Salvaged, salvage};
pub use wal::Wal;

use std::fmt;

/// The number of a record: 1 for the first one of a log, one more for each that follows, never reused within what
/// was ever visited or durable. `Lsn(0)` is before all records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The number after this one.
    pub const fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
