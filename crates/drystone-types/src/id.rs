//! Identifiers and counters, each a type of its own so that none is taken for another.

use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!(stringify!($name), "({})"), self.0) }
        }
        impl From<u64> for $name { fn from(value: u64) -> Self { Self(value) } }
        impl From<$name> for u64 { fn from(value: $name) -> u64 { value.0 } }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 16]);
        impl $name {
            /// The id in `bytes`, or `None` unless they are exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> { bytes.try_into().ok().map(Self) }
            /// The 32 lower-case hexadecimal digits back to an id.
            pub fn from_hex(text: &str) -> Option<Self> {
                if text.len() != 32 || !text.is_ascii() { return None; }
                let mut bytes = [0; 16];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
    };
}

random_id!(
    /// A cluster, drawn once when it is formatted.
    ClusterId
);
random_id!(
    /// One history of a cluster: drawn when it is formatted and again at every restore from a backup, and
    /// present in every frame, grant and session, so that two histories can never exchange anything.
    HistoryId
);
random_id!(
    /// One client process (or one door's session). A command is identified by (client, sequence).
    ClientId
);

counter!(
    /// A node of the cluster. Voter ids of Raft are node ids.
    NodeId
);
counter!(
    /// A disk (one data directory) of a chunk server, unique in the cluster.
    DiskId
);
counter!(
    /// Drawn at random when a node or disk is formatted: the same id with another incarnation is a stranger.
    Incarnation
);
counter!(
    /// An inode; the shard is in the top 16 bits. The root directory of shard 0 is inode 1.
    InodeId
);
counter!(
    /// A chunk; the shard is in the top 16 bits. Never used twice.
    ChunkId
);
counter!(
    /// A chunk's version and fencing token in one number; it only grows. The first is 1.
    Epoch
);
counter!(
    /// A Raft term.
    Term
);
counter!(
    /// A Raft log index.
    LogIndex
);
counter!(
    /// The log index of the command that placed a replica on a disk. It grows with every placement of the
    /// same chunk, so that an order to delete can name the placement it is about.
    PlacementIndex
);
counter!(
    /// The command, and the position in it, since which a record has its present value:
    /// `log index << 16 | position`. A file's content version is the `Since` of the command that published it.
    Since
);

/// A shard of the namespace: the top 16 bits of inode and chunk ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The first id of this shard's range.
    pub const fn base(self) -> u64 {
        (self.0 as u64) << 48
    }
}

impl InodeId {
    /// The root directory of shard 0.
    pub const ROOT: InodeId = InodeId(1);
    /// The shard that this id belongs to.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> 48) as u16)
    }
}

impl ChunkId {
    /// The shard that this id belongs to.
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> 48) as u16)
    }
}

impl Epoch {
    /// The only writable epoch in a chunk's life; every higher one only seals.
    pub const FIRST: Epoch = Epoch(1);
}

impl Since {
    /// `index` must be below 2^48, `position` is the change's place in the entry.
    pub const fn new(index: LogIndex, position: u16) -> Self {
        Since(index.0 << 16 | position as u64)
    }
    /// The log index part.
    pub const fn index(self) -> LogIndex {
        LogIndex(self.0 >> 16)
    }
}

/// One start of a process: the counter is persisted before the first frame is sent, the random part tells a
/// clone from the original. Lower counters of the same node are ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct BootId {
    /// Grows by one with every start of the same formatted directory.
    pub counter: u64,
    /// Drawn at each start.
    pub random: u64,
}

/// A disk as a layout names it: after a wipe the same id returns with another incarnation and holds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct DiskRef {
    /// The disk.
    pub disk: DiskId,
    /// The formatting of it that holds the replica.
    pub incarnation: Incarnation,
}

impl fmt::Display for DiskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.disk, self.incarnation.0)
    }
}
