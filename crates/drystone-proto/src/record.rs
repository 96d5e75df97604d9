//! Records of the namespace's ordered store.
//!
//! Each stored value is a version byte ([`RECORD_VERSION`]) and the prost encoding of its record. Every record
//! carries `since` (log index << 16 | position in the entry), on which snapshots and undelete will stand.

use drystone_types::{ChunkId, DiskId, DiskRef, Incarnation, PlacementIndex};
use prost::Message;

/// First byte of every stored record. 1 was what no release wrote: replicas without a state, no counts by set of disks.
pub const RECORD_VERSION: u8 = 2;

/// Kind of an inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum InodeKind {
    /// Bytes.
    File = 0,
    /// Names.
    Directory = 1,
    /// A text that clients take for a path.
    SymbolicLink = 2,
}

/// How redundant, see `drystone_types::Policy`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PolicyRecord {
    /// Replicas of each chunk.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// `AckPolicy` number.
    #[prost(uint32, tag = "2")]
    pub ack: u32,
    /// Least redundancy of an acknowledged write; 0 = replicas.
    #[prost(uint32, tag = "3")]
    pub degraded_minimum: u32,
    /// Chunk size in bytes.
    #[prost(uint64, tag = "4")]
    pub chunk_bytes: u64,
}

/// One extended attribute.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Xattr {
    /// Name, 1 to 255 bytes.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value, to 64 KiB.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: bytes::Bytes,
}

/// An inode. Times are microseconds since 1970 in log time.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct InodeRecord {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// File, directory or symbolic link.
    #[prost(enumeration = "InodeKind", tag = "2")]
    pub kind: i32,
    /// Permission bits, 12 low bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// User name.
    #[prost(string, tag = "4")]
    pub owner: String,
    /// Group name.
    #[prost(string, tag = "5")]
    pub group: String,
    /// Birth.
    #[prost(uint64, tag = "6")]
    pub created: u64,
    /// Last change of content (a directory's: of its entries).
    #[prost(uint64, tag = "7")]
    pub modified: u64,
    /// Set by users only; reading does not change it.
    #[prost(uint64, tag = "8")]
    pub accessed: u64,
    /// Last change of anything in this record.
    #[prost(uint64, tag = "9")]
    pub changed: u64,
    /// Content bytes; of a link those of its target; 0 for directories.
    #[prost(uint64, tag = "10")]
    pub size: u64,
    /// Content version of a file: `since` of the command that published it. For a directory: `since` of the
    /// last change of mode, owner, policy or place.
    #[prost(uint64, tag = "11")]
    pub version: u64,
    /// See the module.
    #[prost(uint64, tag = "12")]
    pub since: u64,
    /// A directory's parent inode (the root's is itself; 0 when detached). For a file its present parent, 0
    /// when unlinked or staged.
    #[prost(uint64, tag = "13")]
    pub parent: u64,
    /// Own policy; absent: that of the parent.
    #[prost(message, optional, tag = "14")]
    pub policy: Option<PolicyRecord>,
    /// Extended attributes, sorted by name.
    #[prost(message, repeated, tag = "15")]
    pub xattrs: Vec<Xattr>,
    /// Content of a tiny file, which then has no extents.
    #[prost(bytes = "bytes", optional, tag = "16")]
    pub inline: Option<bytes::Bytes>,
    /// Extents of the file.
    #[prost(uint32, tag = "17")]
    pub extents: u32,
    /// Log time at which the lease of a staged inode ends; 0 otherwise.
    #[prost(uint64, tag = "18")]
    pub staged_until: u64,
    /// Target of a symbolic link, 1 to 4,095 bytes without NUL; empty for others.
    #[prost(string, tag = "19")]
    pub link: String,
    /// Of a directory: no way down from it passes more directories than this. It may be higher than need be, because
    /// deletions do not lower it.
    #[prost(uint32, tag = "20")]
    pub height: u32,
}

/// A directory entry, under (parent, name).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DentryRecord {
    /// The inode it names.
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    /// Its kind.
    #[prost(enumeration = "InodeKind", tag = "2")]
    pub kind: i32,
    /// See the module.
    #[prost(uint64, tag = "3")]
    pub since: u64,
}

/// The chunk of an extent that has none: it reads as zeros, and costs nothing.
pub const HOLE: u64 = 0;

/// A range of a file's bytes at a place in a chunk, under (inode, file offset).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ExtentRecord {
    /// Bytes.
    #[prost(uint64, tag = "1")]
    pub length: u64,
    /// The chunk, or [`HOLE`].
    #[prost(uint64, tag = "2")]
    pub chunk: u64,
    /// Where in it.
    #[prost(uint64, tag = "3")]
    pub chunk_offset: u64,
    /// See the module.
    #[prost(uint64, tag = "4")]
    pub since: u64,
}

/// State of a chunk in the namespace. `granted` chunks have no record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum ChunkState {
    /// Immutable, length and checksum known.
    Sealed = 0,
    /// No reference is left; replicas are being deleted.
    Doomed = 1,
    /// Appended to through a primary (later work).
    Open = 2,
    /// Being sealed (later work).
    Sealing = 3,
    /// Erasure coded (later work).
    Striped = 4,
}

/// A replica in a layout.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReplicaRecord {
    /// Disk.
    #[prost(uint64, tag = "1")]
    pub disk: u64,
    /// Formatting of the disk.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Log index of the command that placed it.
    #[prost(uint64, tag = "3")]
    pub placement: u64,
}

impl ReplicaRecord {
    /// A replica that `placement` put on `disk`.
    pub fn new(disk: DiskRef, placement: PlacementIndex) -> Self {
        Self {
            disk: disk.disk.0,
            incarnation: disk.incarnation.0,
            placement: placement.0,
        }
    }

    /// The disk, as it was formatted when the replica was placed.
    pub fn disk_ref(&self) -> DiskRef {
        DiskRef {
            disk: DiskId(self.disk),
            incarnation: Incarnation(self.incarnation),
        }
    }

    /// The command that placed it.
    pub fn placement_index(&self) -> PlacementIndex {
        PlacementIndex(self.placement)
    }
}

/// What is known of a replica of a chunk. It only moves down this list, and a replica that was dropped from the
/// record never returns under the same placement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum PlacementState {
    /// A command placed it before the copy began: the disk may hold all, some or nothing of it. It counts for no
    /// redundancy and is not read, and must not be deleted as an orphan.
    Placing = 0,
    /// A receipt confirmed it at the sealed length and checksum. The only state that counts as redundancy.
    Verified = 1,
    /// A read or a scrub met damage. It counts for no redundancy; blocks of it are read as a last resort.
    Damaged = 2,
}

/// A replica as a chunk record holds it.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PlacedReplica {
    /// Disk.
    #[prost(uint64, tag = "1")]
    pub disk: u64,
    /// Formatting of the disk.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Log index of the command that placed it.
    #[prost(uint64, tag = "3")]
    pub placement: u64,
    /// See [`PlacementState`]. A number that this version does not know reads as `Placing`, which counts for
    /// nothing and deletes nothing.
    #[prost(enumeration = "PlacementState", tag = "4")]
    pub state: i32,
}

impl PlacedReplica {
    /// `replica` in `state`.
    pub fn new(replica: ReplicaRecord, state: PlacementState) -> Self {
        Self {
            disk: replica.disk,
            incarnation: replica.incarnation,
            placement: replica.placement,
            state: state as i32,
        }
    }

    /// Where it is, as grants, receipts and orders name it.
    pub fn replica(&self) -> ReplicaRecord {
        ReplicaRecord {
            disk: self.disk,
            incarnation: self.incarnation,
            placement: self.placement,
        }
    }

    /// The disk, as it was formatted when the replica was placed.
    pub fn disk_ref(&self) -> DiskRef {
        self.replica().disk_ref()
    }

    /// True if it counts as redundancy while its disk is there.
    pub fn is_verified(&self) -> bool {
        self.state() == PlacementState::Verified
    }
}

/// A chunk, under its id.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ChunkRecord {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Highest epoch known.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// See [`ChunkState`].
    #[prost(enumeration = "ChunkState", tag = "3")]
    pub state: i32,
    /// Sealed length in bytes.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// CRC32C of the whole content.
    #[prost(uint32, tag = "5")]
    pub checksum: u32,
    /// The policy that it was written under.
    #[prost(message, optional, tag = "6")]
    pub policy: Option<PolicyRecord>,
    /// Its replicas, each with its state; read them through the methods below.
    #[prost(message, repeated, tag = "7")]
    pub replicas: Vec<PlacedReplica>,
    /// See the module.
    #[prost(uint64, tag = "8")]
    pub since: u64,
    /// Log time at which it was doomed; 0 otherwise, and of one that its writer gave up: nobody ever read it.
    #[prost(uint64, tag = "9")]
    pub doomed_at: u64,
}

impl ChunkRecord {
    /// Its id.
    pub fn chunk_id(&self) -> ChunkId {
        ChunkId(self.id)
    }

    /// True if nothing refers to it any more: its replicas are being deleted.
    pub fn is_doomed(&self) -> bool {
        self.state() == ChunkState::Doomed
    }

    /// Everything that a disk holds or may hold of it, whatever its state.
    pub fn holders(&self) -> impl Iterator<Item = &PlacedReplica> {
        self.replicas.iter()
    }

    /// The replicas to read from: verified ones, then damaged ones as a last resort. Not those that are being made.
    pub fn sources(&self) -> impl Iterator<Item = &PlacedReplica> {
        let in_state = |state| self.replicas.iter().filter(move |held| held.state() == state);
        in_state(PlacementState::Verified).chain(in_state(PlacementState::Damaged))
    }

    /// The disks of its verified replicas.
    pub fn verified_disks(&self) -> impl Iterator<Item = DiskRef> {
        self.replicas
            .iter()
            .filter(|held| held.is_verified())
            .map(PlacedReplica::disk_ref)
    }

    /// True if the record names this placement, in any state: the replica is no orphan. Another placement of the
    /// chunk on the same disk is another replica.
    pub fn is_on(&self, replica: &ReplicaRecord) -> bool {
        self.replicas.iter().any(|held| held.replica() == *replica)
    }

    /// How many replicas its policy asks for.
    pub fn wanted(&self) -> u32 {
        self.policy.map_or(0, |policy| policy.replicas)
    }

    /// How many verified replicas lie on disks that `is_live` accepts.
    pub fn redundancy(&self, is_live: impl Fn(DiskRef) -> bool) -> u32 {
        self.verified_disks().filter(|disk| is_live(*disk)).count() as u32
    }
}

/// What a node does, as bits.
pub mod role {
    /// Metadata server.
    pub const METADATA: u32 = 1;
    /// Chunk server.
    pub const CHUNK: u32 = 2;
}

/// A node that the cluster knows, under its id.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeRecord {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Drawn when it was formatted.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Bits of [`role`].
    #[prost(uint32, tag = "3")]
    pub roles: u32,
    /// Name for people.
    #[prost(string, tag = "4")]
    pub name: String,
    /// `host:port` of its wire.
    #[prost(string, tag = "5")]
    pub address: String,
    /// Failure domains.
    #[prost(string, tag = "6")]
    pub rack: String,
    /// Failure domains.
    #[prost(string, tag = "7")]
    pub zone: String,
    /// Host: nodes with equal host fail together.
    #[prost(string, tag = "8")]
    pub host: String,
    /// Its disks.
    #[prost(message, repeated, tag = "9")]
    pub disks: Vec<DiskRecord>,
    /// Highest boot counter seen.
    #[prost(uint64, tag = "10")]
    pub boot_counter: u64,
    /// The random part of that boot.
    #[prost(uint64, tag = "11")]
    pub boot_random: u64,
    /// No new data (operator's drain).
    #[prost(bool, tag = "12")]
    pub draining: bool,
    /// A duplicate or clone was seen: nothing of it counts until an operator decides.
    #[prost(bool, tag = "13")]
    pub fenced: bool,
    /// See the module.
    #[prost(uint64, tag = "14")]
    pub since: u64,
    /// `host:port` of its admin HTTP port; empty if it has none.
    #[prost(string, tag = "15")]
    pub admin: String,
    /// Of a metadata server: drawn when its log was begun; 0: not known.
    #[prost(uint64, tag = "16")]
    pub log: u64,
    /// Of a metadata server: it is a voter, or lost that by moving and is made one again. Not one that was replaced.
    #[prost(bool, tag = "17")]
    pub voter: bool,
    /// It was removed from the cluster: its disks count for nothing, and it never comes back under this id. The record
    /// stays so that the id is not given again.
    #[prost(bool, tag = "18")]
    pub removed: bool,
    /// With `fenced`: by a removal that is not decided yet. Its process waits for that, while one that is fenced for another
    /// reason ends.
    #[prost(bool, tag = "19")]
    pub removing: bool,
}

/// A disk of a node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DiskRecord {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Drawn when it was formatted.
    #[prost(uint64, tag = "2")]
    pub incarnation: u64,
    /// Identifies the device below: equal values fail together.
    #[prost(uint64, tag = "3")]
    pub device: u64,
    /// Where on the node, for people.
    #[prost(string, tag = "4")]
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(disk: u64, placement: u64) -> ReplicaRecord {
        ReplicaRecord {
            disk,
            incarnation: 1,
            placement,
        }
    }

    fn chunk() -> ChunkRecord {
        let replicas = [
            (at(1, 5), PlacementState::Verified),
            (at(2, 5), PlacementState::Damaged),
            (at(2, 9), PlacementState::Placing),
            (at(3, 5), PlacementState::Verified),
        ];
        let replicas = replicas.map(|(replica, state)| PlacedReplica::new(replica, state));
        ChunkRecord {
            id: 7,
            policy: Some(PolicyRecord {
                replicas: 3,
                ..PolicyRecord::default()
            }),
            replicas: replicas.to_vec(),
            ..ChunkRecord::default()
        }
    }

    #[test]
    fn only_verified_replicas_on_live_disks_count() {
        let chunk = chunk();
        assert_eq!(chunk.redundancy(|_| true), 2);
        assert_eq!(chunk.redundancy(|disk| disk.disk.0 != 3), 1);
        assert_eq!(chunk.wanted(), 3);
        let sources: Vec<u64> = chunk.sources().map(|held| held.disk).collect();
        assert_eq!(
            sources,
            [1, 3, 2],
            "a damaged one last, one that is being made never"
        );
    }

    #[test]
    fn a_placement_is_named_with_its_index() {
        let chunk = chunk();
        assert!(chunk.is_on(&at(2, 9)), "a copy that is being made");
        assert!(chunk.is_on(&at(2, 5)));
        assert!(!chunk.is_on(&at(2, 6)), "another placement on the same disk");
        assert!(!chunk.is_on(&at(4, 5)));
    }

    #[test]
    fn a_state_of_a_newer_version_counts_for_nothing() {
        let mut held = PlacedReplica::new(at(1, 5), PlacementState::Verified);
        held.state = 77;
        assert!(!held.is_verified());
        assert_eq!(held.state(), PlacementState::Placing);
    }
}
