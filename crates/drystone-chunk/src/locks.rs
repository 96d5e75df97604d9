//! The ranks of this crate's locks: see [`drystone_env::sync`].

use drystone_env::sync::Rank;

/// Chunks that are being written, see `chain::chains`.
pub(crate) const CHAINS: Rank = Rank::new(310, "chains");
/// One chunk's chain; held while a frame is queued at the disk and at the next hop.
pub(crate) const CHAIN: Rank = Rank::new(320, "chain of a chunk");
/// Disks with orders under way.
pub(crate) const ORDERS: Rank = Rank::new(330, "disks with orders");
/// Replicas of which the leader is to hear.
pub(crate) const CHANGES: Rank = Rank::new(340, "changed replicas");
/// Cached blocks.
pub(crate) const CACHE: Rank = Rank::new(350, "read cache");
/// The end of a disk's thread.
pub(crate) const DISK_END: Rank = Rank::new(360, "end of a disk's thread");
/// Requests and completions of a disk.
pub(crate) const DISK_INBOX: Rank = Rank::new(370, "inbox of a disk");
/// Disk work that waits for a thread.
pub(crate) const DISK_WORK: Rank = Rank::new(380, "work of a disk");
