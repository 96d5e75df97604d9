//! What files and directories are, as callers see them, and the options of namespace operations.

use crate::error::{Error, ErrorKind};
use crate::options::Caller;
use crate::version::{ContentVersion, Precondition};
use bytes::Bytes;
use drystone_proto::command::AttributeChanges;
use drystone_proto::record::{InodeKind, InodeRecord, PolicyRecord, Xattr};
use drystone_types::permission::Mode;
use drystone_types::{InodeId, Policy, Since};
use std::collections::BTreeMap;

/// File, directory or symbolic link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Bytes.
    File,
    /// Names.
    Directory,
    /// A text that readers take for a path.
    SymbolicLink,
}

/// Attributes of a file or directory. Times are microseconds since 1970 by the cluster's log time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// Its inode.
    pub inode: InodeId,
    /// File, directory or symbolic link.
    pub kind: Kind,
    /// Target of a symbolic link; `None` for others, and in listings.
    pub link: Option<String>,
    /// Content bytes; of a link those of its target; 0 for directories.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Birth.
    pub created: u64,
    /// Last change of content (a directory's: of its entries).
    pub modified: u64,
    /// Set by users only.
    pub accessed: u64,
    /// Last change of anything.
    pub changed: u64,
    /// Content version (a directory's: of its mode, owner, policy or place).
    pub version: Since,
    /// Its own policy; `None`: that of the parent.
    pub own_policy: Option<Policy>,
    /// The policy in force for a file's next content or a directory's new files, where the answer says so (not in
    /// listings).
    pub policy: Option<Policy>,
    /// Extended attributes (not in listings).
    pub xattrs: BTreeMap<String, Bytes>,
}

impl Attributes {
    /// What the ETag stands for.
    pub fn content_version(&self) -> ContentVersion {
        ContentVersion {
            inode: self.inode,
            version: self.version,
        }
    }

    /// True if `caller` may do all of `wanted` (see [`drystone_types::permission`]) as far as this file or directory is
    /// concerned. The namespace decides when a command is applied; this is for refusing early.
    pub fn grants(&self, caller: &Caller, wanted: u32) -> bool {
        let mode = Mode {
            bits: self.mode,
            owner: &self.owner,
            group: &self.group,
        };
        mode.grants(&caller.user, &caller.groups, wanted)
    }

    /// True for directories.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub(crate) fn of(inode: &InodeRecord, in_force: Option<&PolicyRecord>) -> Self {
        Self {
            inode: InodeId(inode.id),
            kind: match inode.kind() {
                InodeKind::File => Kind::File,
                InodeKind::Directory => Kind::Directory,
                InodeKind::SymbolicLink => Kind::SymbolicLink,
            },
            link: (!inode.link.is_empty()).then(|| inode.link.clone()),
            size: inode.size,
            mode: inode.mode,
            owner: inode.owner.clone(),
            group: inode.group.clone(),
            created: inode.created,
            modified: inode.modified,
            accessed: inode.accessed,
            changed: inode.changed,
            version: Since(inode.version),
            own_policy: inode.policy.as_ref().map(PolicyRecord::as_told),
            policy: in_force.map(PolicyRecord::as_told),
            xattrs: inode
                .xattrs
                .iter()
                .map(|xattr| (xattr.name.clone(), xattr.value.clone()))
                .collect(),
        }
    }
}

/// A directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Attributes, without xattrs and policy in force.
    pub attributes: Attributes,
}

/// A page of a directory in byte order of names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Entries.
    pub entries: Vec<Entry>,
    /// There are more: give this as `after`.
    pub next: Option<String>,
}

/// Where a replica is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaInfo {
    /// Server's name; empty if it is not known at present.
    pub server: String,
    /// Server's node id; 0 if not known.
    pub node: u64,
    /// `host:port`.
    pub address: String,
    /// Rack.
    pub rack: String,
    /// Disk.
    pub disk: u64,
    /// Formatting of the disk.
    pub incarnation: u64,
    /// Log index of the command that placed it.
    pub placement: u64,
    /// The cluster suspects its server.
    pub suspect: bool,
}

/// A piece of a file and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtentInfo {
    /// In the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Chunk; 0 of a hole.
    pub chunk: u64,
    /// In the chunk.
    pub chunk_offset: u64,
    /// `sealed`, `doomed`, `open`, `sealing` or `striped`; `hole`: in no chunk, it reads as zeros.
    pub state: &'static str,
    /// Length of the whole chunk.
    pub chunk_length: u64,
    /// CRC32C of the whole chunk.
    pub checksum: u32,
    /// Where it is.
    pub replicas: Vec<ReplicaInfo>,
}

/// A file's attributes and where its content is (no extents: inline or empty).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileLayout {
    /// Attributes.
    pub attributes: Attributes,
    /// The content is in the metadata itself.
    pub inline: bool,
    /// Extents in file order.
    pub extents: Vec<ExtentInfo>,
}

/// An idempotency key of a door's caller, kept by the cluster for 24 hours with the first answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// Hash of method, path and preconditions: the same key with another hash is refused.
    pub hash: [u8; 16],
}

/// How a directory is made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MakeDirectoryOptions {
    /// Make missing directories on the way, and succeed if it exists.
    pub parents: bool,
    /// Permission bits; default 0755.
    pub mode: Option<u32>,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
}

/// How a symbolic link is made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MakeSymbolicLinkOptions {
    /// Take the place of a file or another link.
    pub overwrite: bool,
    /// Make missing directories on the way.
    pub parents: bool,
    /// Must hold for what has the name now.
    pub precondition: Precondition,
    /// Owner, group, times and extended attributes of the link; it has no mode and no policy, and what these changes
    /// say of preconditions and idempotency keys does not count.
    pub attributes: SetAttributes,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
}

/// How something is renamed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RenameOptions {
    /// Replace a file, or an empty directory by a directory.
    pub overwrite: bool,
    /// Make missing directories on the way to the new place.
    pub parents: bool,
    /// Must hold for the source.
    pub precondition: Precondition,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
}

/// What a deletion expects to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Expect {
    /// Either.
    #[default]
    Any,
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// How something is deleted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteOptions {
    /// A whole tree: detached at once.
    pub recursive: bool,
    /// Otherwise `is_a_directory` or `not_a_directory`.
    pub expect: Expect,
    /// Must hold.
    pub precondition: Precondition,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
}

/// Changes of attributes; what is absent stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner; superuser only.
    pub owner: Option<String>,
    /// Group.
    pub group: Option<String>,
    /// Microseconds since 1970.
    pub modified: Option<u64>,
    /// Microseconds since 1970.
    pub accessed: Option<u64>,
    /// Set these.
    pub set_xattrs: BTreeMap<String, Bytes>,
    /// Remove these.
    pub remove_xattrs: Vec<String>,
    /// Remove all others.
    pub replace_xattrs: bool,
    /// Policy of new files in it (directory) or of its next content (file).
    pub policy: Option<Policy>,
    /// Take the parent's policy again.
    pub inherit_policy: bool,
    /// Must hold.
    pub precondition: Precondition,
    /// See [`Idempotency`].
    pub idempotency: Option<Idempotency>,
}

impl SetAttributes {
    /// The changes as a command names them.
    pub(crate) fn message(&self) -> AttributeChanges {
        let xattr = |(name, value)| Xattr { name, value };
        AttributeChanges {
            mode: self.mode,
            owner: self.owner.clone(),
            group: self.group.clone(),
            modified: self.modified,
            accessed: self.accessed,
            set_xattrs: self.set_xattrs.clone().into_iter().map(xattr).collect(),
            remove_xattrs: self.remove_xattrs.clone(),
            replace_xattrs: self.replace_xattrs,
            policy: self.policy.as_ref().map(PolicyRecord::from),
            inherit_policy: self.inherit_policy,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let faults = self.policy.map(|policy| policy.faults()).unwrap_or_default();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Invalid,
                "set attributes",
                faults.join("; "),
            )),
        }
    }
}
