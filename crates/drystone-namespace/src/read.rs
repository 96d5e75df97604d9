//! What readers see: every applied command, never half of one.

use crate::key::{above, dentry, hex, number_at, numbers, table};
use crate::limits::{MAX_EXTENT_PAGE, MAX_PAGE};
use crate::namespace::{Namespace, inode_key};
use crate::records::{corrupt, decode};
use crate::refusal::{ReadError, refuse};
use crate::store::{Order, OrderedStore, StoreError};
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{Origin, Target};
use drystone_proto::meta::{DiskLocation, ListEntry, LocatedExtent};
use drystone_proto::record::{
    ChunkRecord, DentryRecord, ExtentRecord, HOLE, InodeKind, InodeRecord, NodeRecord, PlacedReplica,
    PolicyRecord,
};
use drystone_types::path::split_path;
use drystone_types::{ChunkId, Code, DiskRef, InodeId, NodeId};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// On whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User name; empty reads as `nobody`.
    pub user: String,
    /// Its groups.
    pub groups: Vec<String>,
}

/// What a reader wants of a place, for the permission check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Attributes: the directories on the way must be searchable.
    Attributes,
    /// Content too: the file must be readable.
    Content,
    /// Inline content too, to move it into chunks: the caller must own the file or may write to it.
    ToConvert,
}

/// A file or directory that was looked up.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its record, with inline content and xattrs.
    pub inode: InodeRecord,
    /// The policy in force for the file's next content, or a directory's new files.
    pub policy: PolicyRecord,
}

/// One page of a file's extents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContentPage {
    /// In file order; the first may begin before the offset that was asked for.
    pub extents: Vec<LocatedExtent>,
    /// Every chunk that they name, once, by id.
    pub chunks: Vec<ChunkRecord>,
    /// Extents go on at this file offset; 0 = that was all.
    pub next_offset: u64,
}

/// One page of a directory, in byte order of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListPage {
    /// The entries, without inline content, xattrs and targets of links.
    pub entries: Vec<ListEntry>,
    /// There are entries after the last one.
    pub more: bool,
}

/// Totals, kept by apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Names of files. A deleted tree counts until it is reclaimed.
    pub files: u64,
    /// Names of directories, and the root.
    pub directories: u64,
    /// Names of symbolic links.
    pub links: u64,
    /// Sum of the sizes of named files.
    pub bytes: u64,
    /// Of these, bytes inline in the namespace.
    pub inline_bytes: u64,
    /// Chunks that are not doomed.
    pub chunks: u64,
    /// Sum of their sealed lengths.
    pub chunk_bytes: u64,
    /// Doomed chunks that still have replicas.
    pub doomed: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Closed sessions whose ids are kept.
    pub closed_sessions: u64,
    /// Chunks that were given up and may not be below the grant floor.
    pub abandoned: u64,
    /// Staged inodes.
    pub staged: u64,
}

/// A reference to a range of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where in the chunk.
    pub chunk_offset: u64,
    /// By which inode.
    pub inode: InodeId,
    /// At which file offset.
    pub file_offset: u64,
}

impl Caller {
    /// This caller; an empty user is `nobody`.
    pub fn new(user: &str, groups: &[String]) -> Self {
        let user = if user.is_empty() { "nobody" } else { user };
        Self {
            user: user.to_owned(),
            groups: groups.to_vec(),
        }
    }

    /// The one who may do everything.
    pub fn superuser() -> Self {
        Self {
            user: crate::permission::SUPERUSER.to_owned(),
            groups: Vec::new(),
        }
    }

    /// The caller of a command; the cluster's own have no origin.
    pub(crate) fn of(origin: Option<&Origin>) -> Self {
        origin.map_or_else(Self::superuser, |origin| Self::new(&origin.user, &origin.groups))
    }
}

impl<S: OrderedStore> Namespace<S> {
    /// Looks a file, directory or symbolic link up. A link at the end of the path is the answer; one on the way is
    /// refused.
    ///
    /// # Errors
    /// `not_found`, `not_a_directory`, `is_a_link`, `denied`, `invalid`; or the store failed.
    pub fn lookup(&self, target: &Target, caller: &Caller, want: Want) -> Result<Found, ReadError> {
        let inode = self.find(target, caller)?;
        if inode.kind() == InodeKind::File {
            match want {
                Want::Attributes => {}
                Want::Content => caller.check(&inode, crate::permission::READ)?,
                Want::ToConvert => caller.check_convert(&inode)?,
            }
        }
        let policy = self.policy_of(&inode)?;
        Ok(Found { inode, policy })
    }

    /// An inode by its id, attached or not, without a permission check.
    ///
    /// # Errors
    /// The store failed.
    pub fn inode(&self, id: InodeId) -> Result<Option<InodeRecord>, StoreError> {
        self.tables.get_record(&inode_key(id.0))
    }

    /// The policy in force at an inode: its own, or that of the nearest directory above that has one.
    ///
    /// # Errors
    /// The store failed.
    pub fn policy_of(&self, inode: &InodeRecord) -> Result<PolicyRecord, StoreError> {
        let (mut policy, mut parent, mut id) = (inode.policy, inode.parent, inode.id);
        for _ in 0..crate::limits::MAX_DEPTH + 2 {
            if policy.is_some() || parent == 0 || parent == id {
                break;
            }
            let Some(next) = self.inode(InodeId(parent))? else {
                break;
            };
            (policy, parent, id) = (next.policy, next.parent, next.id);
        }
        Ok(policy.unwrap_or_else(|| self.default_policy()))
    }

    /// The policy in force for content at `target`: of the file, or of the nearest directory on the way to it that is
    /// there; of a staged inode, the one that it was staged under. Without a permission check.
    ///
    /// # Errors
    /// The store failed.
    pub fn policy_at(&self, target: &Target) -> Result<PolicyRecord, StoreError> {
        let base = if target.base == 0 {
            self.root()
        } else {
            target.base
        };
        let Some(mut inode) = self.inode(InodeId(base))? else {
            return Ok(self.default_policy());
        };
        // A path that is none is refused by the command that names it.
        for name in split_path(&target.path).unwrap_or_default() {
            let entry: Option<DentryRecord> = self.tables.get_record(&dentry(inode.id, name.as_str()))?;
            let Some(entry) = entry else { break };
            let key = inode_key(entry.inode);
            let next = self.tables.get_record(&key)?;
            inode = next.ok_or_else(|| corrupt(key.as_slice(), "the inode of a name", "nothing"))?;
        }
        self.policy_of(&inode)
    }

    /// The cluster's default policy.
    pub fn default_policy(&self) -> PolicyRecord {
        let default = || PolicyRecord::from(&drystone_types::Policy::default());
        self.state.policy.unwrap_or_else(default)
    }

    /// The extents that hold `length` bytes (0: all) of a file from `offset`, at most `limit` (and 1,000).
    ///
    /// # Errors
    /// The store failed.
    pub fn content(
        &self,
        inode: InodeId,
        offset: u64,
        length: u64,
        limit: usize,
    ) -> Result<ContentPage, StoreError> {
        let end = if length == 0 {
            u64::MAX
        } else {
            offset.saturating_add(length)
        };
        let limit = limit.clamp(1, MAX_EXTENT_PAGE);
        let mut page = ContentPage::default();
        for extent in self.extents_from(inode.0, offset, end, limit + 1)? {
            if page.extents.len() == limit {
                page.next_offset = extent.offset;
                break;
            }
            page.extents.push(extent);
        }
        let named = page.extents.iter().map(|extent| extent.chunk);
        let chunks: BTreeSet<u64> = named.filter(|&chunk| chunk != HOLE).collect();
        for id in chunks {
            let key = numbers(table::CHUNK, [id]);
            let chunk = self.tables.get_record(&key)?;
            page.chunks
                .push(chunk.ok_or_else(|| corrupt(key.as_slice(), "the chunk of an extent", "nothing"))?);
        }
        Ok(page)
    }

    /// The extents that meet `offset..end`, in file order, at most `limit`.
    pub(crate) fn extents_from(
        &self,
        inode: u64,
        offset: u64,
        end: u64,
        limit: usize,
    ) -> Result<Vec<LocatedExtent>, StoreError> {
        let at = numbers(table::EXTENT, [inode, offset]);
        let first = numbers(table::EXTENT, [inode, 0]);
        let mut extents = Vec::new();
        if let Some((key, value)) = self.tables.first(first.as_slice(), at.as_slice(), Order::Down)? {
            let before = located(&key, &decode(&key, &value)?)?;
            if before.offset + before.length > offset {
                extents.push(before);
            }
        }
        let to = if end == u64::MAX {
            above(&first.as_slice()[..9])
        } else {
            numbers(table::EXTENT, [inode, end]).as_slice().to_vec()
        };
        let room = limit.saturating_sub(extents.len());
        for (key, value) in self.tables.page(at.as_slice(), &to, room)? {
            extents.push(located(&key, &decode(&key, &value)?)?);
        }
        Ok(extents)
    }

    /// A page of a directory: names above `after`, at most `limit` (1 to 10,000).
    ///
    /// # Errors
    /// As [`Namespace::lookup`], and `not_a_directory`.
    pub fn list(
        &self,
        target: &Target,
        caller: &Caller,
        after: &str,
        limit: usize,
    ) -> Result<ListPage, ReadError> {
        let directory = self.find(target, caller)?;
        if directory.kind() != InodeKind::Directory {
            return refuse(Code::NotADirectory, "only directories can be listed");
        }
        caller.check(&directory, crate::permission::READ)?;
        let limit = limit.clamp(1, MAX_PAGE);
        let first = dentry(directory.id, "");
        let from = if after.is_empty() {
            first.as_slice().to_vec()
        } else {
            crate::key::after(dentry(directory.id, after).as_slice())
        };
        let mut page = ListPage::default();
        let skipped = usize::from(planted(Bug::ListSkips) && !after.is_empty());
        for (key, value) in self
            .tables
            .page(&from, &above(first.as_slice()), limit + 1)?
            .into_iter()
            .skip(skipped)
        {
            if page.entries.len() == limit {
                page.more = true;
                break;
            }
            let name =
                std::str::from_utf8(&key[9..]).map_err(|fault| corrupt(&key, "a UTF-8 name", fault))?;
            let entry: DentryRecord = decode(&key, &value)?;
            let inode_key = inode_key(entry.inode);
            let inode: Option<InodeRecord> = self.tables.get_record(&inode_key)?;
            let mut inode =
                inode.ok_or_else(|| corrupt(inode_key.as_slice(), "the inode of a name", hex(&key)))?;
            inode.inline = None;
            inode.xattrs.clear();
            inode.link.clear();
            page.entries.push(ListEntry {
                name: name.to_owned(),
                inode: Some(inode),
            });
        }
        Ok(page)
    }

    /// A chunk's record.
    ///
    /// # Errors
    /// The store failed.
    pub fn chunk(&self, id: ChunkId) -> Result<Option<ChunkRecord>, StoreError> {
        self.tables.get_record(&numbers(table::CHUNK, [id.0]))
    }

    /// Chunks (doomed ones too) with ids above `after`, at most `limit`.
    ///
    /// # Errors
    /// The store failed.
    pub fn chunks(&self, after: ChunkId, limit: usize) -> Result<Vec<ChunkRecord>, StoreError> {
        let from = crate::key::after(numbers(table::CHUNK, [after.0]).as_slice());
        let page = self.tables.page(&from, &[table::CHUNK + 1], limit)?;
        page.iter().map(|(key, value)| decode(key, value)).collect()
    }

    /// Doomed chunks with ids above `after`, at most `limit`: their replicas are to be deleted.
    ///
    /// # Errors
    /// The store failed.
    pub fn doomed(&self, after: ChunkId, limit: usize) -> Result<Vec<ChunkRecord>, StoreError> {
        let from = crate::key::after(numbers(table::DOOMED, [after.0]).as_slice());
        let mut chunks = Vec::new();
        for (key, _) in self.tables.page(&from, &[table::DOOMED + 1], limit)? {
            let id = number_at(&key, 1).ok_or_else(|| corrupt(&key, "a chunk id", "a shorter key"))?;
            let chunk = self.chunk(ChunkId(id))?;
            chunks.push(chunk.ok_or_else(|| corrupt(&key, "a doomed chunk", "no record of it"))?);
        }
        Ok(chunks)
    }

    /// Extents that refer to a chunk, in order of their place in it, at most `limit`.
    ///
    /// # Errors
    /// The store failed.
    pub fn references(&self, chunk: ChunkId, limit: usize) -> Result<Vec<Reference>, StoreError> {
        let first = numbers(table::REFERENCE, [chunk.0]);
        let page = self
            .tables
            .page(first.as_slice(), &above(first.as_slice()), limit)?;
        page.iter().map(|(key, _)| reference(key)).collect()
    }

    /// Every node, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(id.0)
    }

    /// The node that holds a disk with this incarnation now.
    pub fn node_of_disk(&self, disk: DiskRef) -> Option<&NodeRecord> {
        self.nodes.of_disk(disk.disk.0, disk.incarnation.0)
    }

    /// Where the disks of these chunks are reached, each once; disks that no node holds are left out.
    pub fn locate(&self, chunks: &[ChunkRecord]) -> Vec<DiskLocation> {
        let disks: BTreeSet<DiskRef> = chunks
            .iter()
            .flat_map(ChunkRecord::holders)
            .map(PlacedReplica::disk_ref)
            .collect();
        let locations = disks.into_iter().filter_map(|disk| {
            let node = self.node_of_disk(disk)?;
            Some(DiskLocation {
                disk: disk.disk.0,
                incarnation: disk.incarnation.0,
                node: node.id,
                address: node.address.clone(),
                server: node.name.clone(),
                rack: node.rack.clone(),
                suspect: false,
            })
        });
        locations.collect()
    }

    /// Totals.
    pub fn counters(&self) -> Counters {
        let state = &self.state;
        Counters {
            files: state.files,
            directories: state.directories,
            links: state.links,
            bytes: state.bytes,
            inline_bytes: state.inline_bytes,
            chunks: state.chunks,
            chunk_bytes: state.chunk_bytes,
            doomed: state.doomed,
            sessions: state.sessions,
            closed_sessions: state.closed_sessions,
            abandoned: state.abandoned,
            staged: state.staged,
        }
    }

    /// Visits every live record of the tables (for checks).
    ///
    /// # Errors
    /// The store failed.
    pub fn visit(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        self.tables
            .scan(&[table::INODE], &[table::END], Order::Up, &mut |key, value| {
                visit(key, value);
                ControlFlow::Continue(())
            })
    }
}

/// An extent with its place in the file.
pub(crate) fn located(key: &[u8], extent: &ExtentRecord) -> Result<LocatedExtent, StoreError> {
    let offset = number_at(key, 9).ok_or_else(|| corrupt(key, "a file offset", "a shorter key"))?;
    let ExtentRecord {
        length,
        chunk,
        chunk_offset,
        ..
    } = *extent;
    if length == 0 || offset.checked_add(length).is_none() {
        return Err(corrupt(
            key,
            "an extent within 2^64 bytes",
            format!("{length} bytes at {offset}"),
        ));
    }
    Ok(LocatedExtent {
        offset,
        length,
        chunk,
        chunk_offset,
    })
}

fn reference(key: &[u8]) -> Result<Reference, StoreError> {
    match (number_at(key, 9), number_at(key, 17), number_at(key, 25)) {
        (Some(chunk_offset), Some(inode), Some(file_offset)) => Ok(Reference {
            chunk_offset,
            inode: InodeId(inode),
            file_offset,
        }),
        _ => Err(corrupt(key, "a reference", "a shorter key")),
    }
}
