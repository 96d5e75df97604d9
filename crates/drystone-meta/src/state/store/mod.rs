//! The ordered store on disk: fjall behind the namespace's trait, and what is checked before it is believed.
//!
//! fjall's own journal is never believed: a damaged record truncates it silently and its batch headers carry no
//! checksum. The Raft log holds everything that the journal could give back, so opening empties the journals and
//! the log is replayed from the last table that was flushed; nothing counts as synced before it is in a table.
//! What remains is checked with the checksums that fjall writes but does not compare itself: `current` against
//! its version file, and each table file against the version's record of it ([`check`]); every block that is
//! read is checked by fjall.

pub mod check;
mod fjall_store;
mod ordered;

pub use check::{CheckError, CheckReport, check_tables};
pub use fjall_store::{FjallStore, StoreError, StoreOptions};
