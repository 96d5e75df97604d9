//! Every bound of the namespace, with the reason for its number.

/// Content in a command: the log, the overlay and the store hold every byte of it on every voter, so it stays
/// below the size at which a chunk is as fast. When inline is used at all is the leader's decision.
pub const MAX_INLINE_BYTES: usize = 64 << 10;
/// Chunks that one command records: 256 of 64 MiB with 8 receipts each are about 400 KiB of log. Larger files
/// are staged.
pub const MAX_CHUNKS_PER_COMMAND: usize = 256;
/// Extents that one command brings: some per chunk, because a client may cut chunks at ranges.
pub const MAX_EXTENTS_PER_COMMAND: usize = 1_024;
/// Extents of a file: 64 TiB in chunks of 64 MiB; beyond it the file has to be rewritten.
pub const MAX_EXTENTS_PER_FILE: u32 = 1_000_000;
/// Extents that an overwrite may remove: its undo and its batch stay small; larger ranges are rewritten.
pub const MAX_EXTENTS_OVERWRITTEN: usize = 4_096;
/// Content of at most this many extents is reclaimed by the command that drops it, more by housekeeping.
pub const RECLAIM_AT_ONCE: u32 = 64;
/// How deep directories nest: the root is at 0, and none lies deeper than this. More than any tree has that people
/// make (HDFS has the same limit), and few enough that a command can walk up from everywhere. No rename makes a deeper
/// tree. Files and links may lie in the deepest directories.
pub const MAX_DEPTH: usize = 1_000;
/// Records that a rename looks at to find out how deep the tree is that it moves, where what is kept of it says that
/// it might be too deep. Each directory costs 32 beside its entries: the look is one command's, on every voter.
pub const MAX_HEIGHT_LOOK: usize = 4_096;
/// Answers that a session keeps: what a client may have under way.
pub const MAX_UNACKNOWLEDGED: u64 = 1_024;
/// Commands of a session that others may overtake by any number: far more than are ever slow at one time.
pub const MAX_OVERTAKEN: usize = 64;
/// Open sessions: ten for each of 100,000 clients.
pub const MAX_SESSIONS: u64 = 1_000_000;
/// Longest life of an idle session: a day, in microseconds.
pub const MAX_SESSION_TTL: u64 = 24 * 3_600_000_000;
/// Closed sessions whose ids are kept: as many as may be open. Beyond it the one that was closed first is forgotten, and
/// the session floor keeps its id from being opened again.
pub const MAX_CLOSED_SESSIONS: u64 = 1_000_000;
/// How long the id of a closed session is kept at most.
pub const CLOSED_SESSION_KEPT: u64 = 24 * 3_600_000_000;
/// How long an idempotency key is kept, in microseconds of log time: 24 h.
pub const KEY_KEPT: u64 = 24 * 3_600_000_000;
/// Idempotency keys of one caller: more than one a second for a day.
pub const MAX_KEYS_PER_CALLER: u64 = 100_000;
/// Bytes of a user or group name, an idempotency key, or the name of an extended attribute.
pub const MAX_LABEL_BYTES: usize = 255;
/// Groups of a caller that count, as in NFS with extended groups.
pub const MAX_GROUPS: usize = 1_024;
/// Extended attributes of an inode.
pub const MAX_XATTRS: usize = 128;
/// Bytes of one value.
pub const MAX_XATTR_BYTES: usize = 64 << 10;
/// Bytes of all names and values of an inode: every change of the inode writes them again.
pub const MAX_XATTRS_BYTES: usize = 128 << 10;
/// Staged inodes at one time.
pub const MAX_STAGED: u64 = 1_000_000;
/// Longest staging lease: 30 days, in microseconds.
pub const MAX_LEASE: u64 = 30 * 24 * 3_600_000_000;
/// Chunk ids in one range.
pub const MAX_RANGE: u64 = 65_536;
/// Ranges that are not below the floor; they are in memory.
pub const MAX_RANGES: usize = 65_536;
/// Ranges forgotten by one command.
pub const MAX_RANGES_PRUNED: usize = 1_024;
/// Replicas of doomed chunks that one command forgets.
pub const MAX_FORGOTTEN: usize = 4_096;
/// Chunks that one command gives up: about 150 KiB of log.
pub const MAX_ABANDONED: usize = 1_024;
/// Replicas of a chunk that is given up: those of its grant, and a replacement for each of them.
pub const MAX_ABANDONED_REPLICAS: usize = 16;
/// Records that one housekeeping step touches at most, whatever it asks for.
pub const MAX_HOUSEKEEPING: u32 = 10_000;
/// Nodes that were not removed; they are in memory, with their disks.
pub const MAX_NODES: usize = 16_384;
/// Nodes, removed ones too: their records stay, so that no id is used twice. Without disks they take some hundred bytes of
/// memory each, and more are never removed in the life of a cluster.
pub const MAX_NODE_RECORDS: usize = 262_144;
/// Disks of a node.
pub const MAX_DISKS: usize = 256;
/// Entries of one page.
pub const MAX_PAGE: usize = 10_000;
/// Extents of one page.
pub const MAX_EXTENT_PAGE: usize = 1_000;
/// Links of the batch chain that are kept and checked: about two hours of batches, longer than a store keeps
/// a batch in its own journal.
pub const CHAIN_KEPT: u64 = 65_536;
/// Bytes of one file, holes included: 1 PiB.
pub const MAX_FILE_BYTES: u64 = 1 << 50;
/// Bytes of all files together, holes included: 4 EiB. What is counted in 64 bits never overflows below it.
pub const MAX_TOTAL_BYTES: u64 = 1 << 62;
