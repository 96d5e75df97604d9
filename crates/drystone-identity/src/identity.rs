//! The file `identity`: an envelope around a prost message, written once and renamed into place.

use crate::IdentityError;
use crate::boot;
use crate::envelope::{self, Kind};
use bytes::Bytes;
use drystone_env::Disk;
use drystone_proto::grant::ClusterKey;
use drystone_types::{ClusterId, DiskId, DiskRef, HistoryId, Incarnation, NodeId};
use prost::Message;

const FILE: Kind = Kind {
    file: "identity",
    magic: *b"DRYI",
    version: 1,
};
const TEMPORARY: &str = "identity.new";

/// What a directory is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// A metadata server's log and store.
    Metadata,
    /// One disk of a chunk server.
    Chunk,
}

/// Who a formatted directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The history that it lives in.
    pub history: HistoryId,
    /// Signs grants, receipts and orders.
    pub key: ClusterKey,
    /// Its node.
    pub node: NodeId,
    /// Drawn when the node was formatted; equal in all directories of a node.
    pub node_incarnation: Incarnation,
    /// What it is for.
    pub role: Role,
    /// Which disk it is, of a chunk server.
    pub disk: Option<DiskRef>,
    /// The metadata servers known when it was formatted: the first voters, or where a joiner or a chunk server
    /// asks first.
    pub voters: Vec<(NodeId, String)>,
    /// A metadata server that joins as a learner instead of starting as a first voter.
    pub joining: bool,
    /// Name of the node, for people.
    pub name: String,
}

#[derive(Clone, PartialEq, Message)]
struct VoterRecord {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    address: String,
}

#[derive(Clone, PartialEq, Message)]
struct DiskRecord {
    #[prost(uint64, tag = "1")]
    disk: u64,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
}

/// On disk. Numbers of fields are never reused.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(bytes = "bytes", tag = "1")]
    cluster: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    history: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(uint64, tag = "4")]
    node: u64,
    #[prost(uint64, tag = "5")]
    node_incarnation: u64,
    /// 1 metadata, 2 chunk.
    #[prost(uint32, tag = "6")]
    role: u32,
    #[prost(message, optional, tag = "7")]
    disk: Option<DiskRecord>,
    #[prost(message, repeated, tag = "8")]
    voters: Vec<VoterRecord>,
    #[prost(bool, tag = "9")]
    joining: bool,
    #[prost(string, tag = "10")]
    name: String,
}

impl Identity {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let record = Record {
            cluster: Bytes::copy_from_slice(&self.cluster.0),
            history: Bytes::copy_from_slice(&self.history.0),
            key: Bytes::copy_from_slice(&self.key.0),
            node: self.node.0,
            node_incarnation: self.node_incarnation.0,
            role: match self.role {
                Role::Metadata => 1,
                Role::Chunk => 2,
            },
            disk: self.disk.map(|disk| DiskRecord {
                disk: disk.disk.0,
                incarnation: disk.incarnation.0,
            }),
            voters: (self.voters.iter())
                .map(|(node, address)| VoterRecord {
                    node: node.0,
                    address: address.clone(),
                })
                .collect(),
            joining: self.joining,
            name: self.name.clone(),
        };
        envelope::seal(FILE, &record.encode_to_vec())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let content = envelope::open(FILE, bytes)?;
        let malformed = |reason: &str| IdentityError::Malformed {
            file: FILE.file,
            reason: reason.to_owned(),
        };
        let record = Record::decode(content).map_err(|error| malformed(&error.to_string()))?;
        let key: [u8; 32] = record.key[..]
            .try_into()
            .map_err(|_| malformed("the key has not 32 bytes"))?;
        let identity = Self {
            cluster: ClusterId::from_slice(&record.cluster).ok_or_else(|| malformed("cluster id"))?,
            history: HistoryId::from_slice(&record.history).ok_or_else(|| malformed("history id"))?,
            key: ClusterKey(key),
            node: NodeId(record.node),
            node_incarnation: Incarnation(record.node_incarnation),
            role: match record.role {
                1 => Role::Metadata,
                2 => Role::Chunk,
                other => return Err(malformed(&format!("role {other}"))),
            },
            disk: (record.disk).map(|disk| DiskRef {
                disk: DiskId(disk.disk),
                incarnation: Incarnation(disk.incarnation),
            }),
            voters: record
                .voters
                .into_iter()
                .map(|voter| (NodeId(voter.node), voter.address))
                .collect(),
            joining: record.joining,
            name: record.name,
        };
        match identity.fault() {
            Some(fault) => Err(malformed(fault)),
            None => Ok(identity),
        }
    }

    /// Makes the formatted directory one of another history of its cluster, after a restore; atomic and durable.
    /// The directory must be locked, and whatever it holds must be good in that history.
    ///
    /// # Errors
    /// As [`load`], or whatever the disk says; then it is of the one history or of the other.
    pub fn adopt_history(disk: &dyn Disk, history: HistoryId) -> Result<Identity, IdentityError> {
        let identity = Identity {
            history,
            ..load(disk)?
        };
        if let Some(fault) = identity.fault() {
            return Err(IdentityError::Malformed {
                file: FILE.file,
                reason: fault.to_owned(),
            });
        }
        put(disk, &identity)?;
        Ok(identity)
    }

    fn fault(&self) -> Option<&'static str> {
        let zero = [0; 16];
        if self.cluster.0 == zero || self.history.0 == zero || self.key.0 == [0; 32] {
            Some("cluster id, history id or key is zero")
        } else if self.node.0 == 0 {
            Some("node id is zero")
        } else if (self.role == Role::Chunk) != self.disk.is_some() {
            Some("a chunk directory names its disk, a metadata directory none")
        } else {
            None
        }
    }
}

/// Checks that the directory may be formatted: it holds nothing, or the remains of an interrupted format.
///
/// # Errors
/// [`IdentityError::AlreadyFormatted`], [`IdentityError::NotEmpty`], or what the disk says.
pub fn check_blank(disk: &dyn Disk) -> Result<(), IdentityError> {
    let names = disk
        .list("")
        .map_err(IdentityError::io("listing the directory"))?;
    if names.iter().any(|name| name == FILE.file) {
        return Err(IdentityError::AlreadyFormatted);
    }
    let remains = |name: &str| name == TEMPORARY || boot::FILES.iter().any(|kind| kind.file == name);
    match names.into_iter().find(|name| !remains(name)) {
        Some(other) => Err(IdentityError::NotEmpty(other)),
        None => Ok(()),
    }
}

/// Makes the directory `identity`'s, durably: after a crash it is formatted or it is not.
///
/// # Errors
/// [`IdentityError::AlreadyFormatted`], [`IdentityError::NotEmpty`] if it holds a file that is not the remains of
/// an interrupted format, [`IdentityError::Malformed`] if `identity` contradicts itself.
pub fn format(disk: &dyn Disk, identity: &Identity) -> Result<(), IdentityError> {
    if let Some(fault) = identity.fault() {
        return Err(IdentityError::Malformed {
            file: FILE.file,
            reason: fault.to_owned(),
        });
    }
    check_blank(disk)?;
    boot::prepare(disk, identity)?;
    put(disk, identity)
}

fn put(disk: &dyn Disk, identity: &Identity) -> Result<(), IdentityError> {
    // Whatever an interrupted format left may be longer than what is written now; the envelope knows its length.
    envelope::write(disk, TEMPORARY, &identity.encode())?;
    disk.sync_dir("")
        .map_err(IdentityError::io("syncing the directory"))?;
    disk.rename(TEMPORARY, FILE.file)
        .map_err(IdentityError::io("naming the identity file"))?;
    disk.sync_dir("")
        .map_err(IdentityError::io("syncing the directory"))
}

/// Who the directory is.
///
/// # Errors
/// [`IdentityError::NotFormatted`], or what is wrong with the file.
pub fn load(disk: &dyn Disk) -> Result<Identity, IdentityError> {
    let bytes = envelope::read(disk, FILE)?.ok_or(IdentityError::NotFormatted)?;
    Identity::decode(&bytes)
}
