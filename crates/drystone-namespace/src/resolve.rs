//! From a target to an inode: walks a path from its base, checking attachment, kinds and search permission.

use crate::key::{Key, dentry};
use crate::limits::MAX_DEPTH;
use crate::namespace::{Context, Namespace, inode_key};
use crate::permission::{SEARCH, WRITE};
use crate::read::Caller;
use crate::records::{corrupt, decode};
use crate::refusal::{ReadError, refuse};
use crate::store::{OrderedStore, StoreError};
use crate::stored::Stored;
use crate::tables::Tables;
use bytes::Bytes;
use drystone_proto::command::{Precondition, Target};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord};
use drystone_types::path::split_path;
use drystone_types::{Code, Name};

/// Readers leave the cache alone, apply fills it; both walk the same way.
pub(crate) trait Fetch {
    fn fetch(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError>;

    fn record<R: Stored>(&mut self, key: &Key) -> Result<Option<R>, StoreError> {
        self.fetch(key)?
            .map(|value| decode(key.as_slice(), &value))
            .transpose()
    }
}

impl<S: OrderedStore> Fetch for &Tables<S> {
    fn fetch(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.get(key)
    }
}

impl<S: OrderedStore> Fetch for &mut Tables<S> {
    fn fetch(&mut self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.load(key)
    }
}

/// A target as apply found it.
pub(crate) struct Spot {
    /// Its directory and name; `None` if it was named by its inode alone.
    pub(crate) place: Option<Place>,
    /// What is there.
    pub(crate) inode: Option<InodeRecord>,
}

/// A name in a directory. The directory's record is current.
pub(crate) struct Place {
    pub(crate) parent: InodeRecord,
    pub(crate) name: Name,
}

impl Spot {
    /// The place and what is there, or a refusal of one that is not there.
    pub(crate) fn existing(self) -> Result<(Option<Place>, InodeRecord), ReadError> {
        match (self.place, self.inode) {
            (place, Some(inode)) => Ok((place, inode)),
            (Some(place), None) => refuse(Code::NotFound, format!("there is no {:?}", place.name)),
            (None, None) => refuse(Code::NotFound, "the inode is not there"),
        }
    }
}

/// The root's inode or that of the base, if it is attached to the root.
fn start(fetch: &mut impl Fetch, root: u64, base: u64) -> Result<InodeRecord, ReadError> {
    let id = if base == 0 { root } else { base };
    let Some(inode) = fetch.record::<InodeRecord>(&inode_key(id))? else {
        return refuse(Code::NotFound, format!("there is no inode {id}"));
    };
    let mut parent = inode.parent;
    for _ in 0..MAX_DEPTH + 2 {
        if parent == root {
            return Ok(inode);
        }
        if parent == 0 {
            return refuse(
                Code::NotFound,
                format!("inode {id} is not part of the tree any more"),
            );
        }
        let above = fetch.record::<InodeRecord>(&inode_key(parent))?;
        parent = match above {
            Some(above) => above.parent,
            None => return Err(missing(parent, "a parent").into()),
        };
    }
    refuse(
        Code::TooLarge,
        format!("inode {id} lies more than {MAX_DEPTH} directories deep"),
    )
}

fn missing(inode: u64, what: &'static str) -> StoreError {
    corrupt(inode_key(inode).as_slice(), what, "nothing")
}

/// What `name` is in `directory`, which the caller must be allowed to search.
fn step(
    fetch: &mut impl Fetch,
    caller: &Caller,
    directory: &InodeRecord,
    name: &Name,
) -> Result<Option<InodeRecord>, ReadError> {
    check_not_link(directory)?;
    if directory.kind() != InodeKind::Directory {
        return refuse(
            Code::NotADirectory,
            format!("what should hold {name:?} is a file"),
        );
    }
    caller.check(directory, SEARCH)?;
    let Some(entry) = fetch.record::<DentryRecord>(&dentry(directory.id, name.as_str()))? else {
        return Ok(None);
    };
    match fetch.record(&inode_key(entry.inode))? {
        Some(inode) => Ok(Some(inode)),
        None => Err(missing(entry.inode, "the inode of a name").into()),
    }
}

impl<S: OrderedStore> Namespace<S> {
    /// The root directory's id.
    pub(crate) fn root(&self) -> u64 {
        self.settings.shard.base() + 1
    }

    /// Finds an existing file or directory, for a reader.
    pub(crate) fn find(&self, target: &Target, caller: &Caller) -> Result<InodeRecord, ReadError> {
        let names = split_path(&target.path)?;
        let mut fetch = &self.tables;
        let mut inode = start(&mut fetch, self.root(), target.base)?;
        for name in &names {
            inode = match step(&mut fetch, caller, &inode, name)? {
                Some(next) => next,
                None => return refuse(Code::NotFound, format!("there is no {name:?}")),
            };
        }
        Ok(inode)
    }

    /// Finds what a command names; with `parents` the missing directories on the way are made.
    pub(crate) fn spot(
        &mut self,
        cx: &Context,
        target: Option<&Target>,
        parents: bool,
    ) -> Result<Spot, ReadError> {
        let Some(target) = target else {
            return refuse(Code::Invalid, "the command names no target");
        };
        let root = self.root();
        let mut names = split_path(&target.path)?;
        let mut inode = start(&mut &mut self.tables, root, target.base)?;
        let Some(last) = names.pop() else {
            return Ok(Spot {
                place: None,
                inode: Some(inode),
            });
        };
        // How deep the directory is that was made last.
        let mut made = None;
        for name in names {
            inode = match step(&mut &mut self.tables, &cx.caller, &inode, &name)? {
                Some(next) => next,
                None if parents => {
                    let depth = match made {
                        Some(depth) => depth,
                        None => self.depth(&inode)?,
                    };
                    made = Some(depth + 1);
                    self.make_child(cx, (inode, depth), &name, None, None)?
                }
                None => return refuse(Code::NotFound, format!("there is no directory {name:?}")),
            };
        }
        if made.is_some() {
            // Not above the last one itself, whose record the caller gets.
            self.raise_height(inode.parent, 1)?;
        }
        let found = step(&mut &mut self.tables, &cx.caller, &inode, &last)?;
        Ok(Spot {
            place: Some(Place {
                parent: inode,
                name: last,
            }),
            inode: found,
        })
    }

    /// True if `id` is `inode` itself or a directory above it.
    pub(crate) fn is_at_or_above(&mut self, id: u64, inode: &InodeRecord) -> Result<bool, ReadError> {
        let (mut at, mut parent) = (inode.id, inode.parent);
        for _ in 0..2 * MAX_DEPTH {
            if at == id {
                return Ok(true);
            }
            if parent == 0 || parent == at {
                return Ok(false);
            }
            at = parent;
            let above = self.tables.load_record::<InodeRecord>(&inode_key(at))?;
            parent = above.ok_or_else(|| missing(at, "a parent"))?.parent;
        }
        refuse(Code::TooLarge, "the place lies too deep")
    }
}

/// Refuses a symbolic link: what stands behind it is for the client to find out.
pub(crate) fn check_not_link(inode: &InodeRecord) -> Result<(), ReadError> {
    if inode.kind() == InodeKind::SymbolicLink {
        let detail = format!("inode {} is a symbolic link to {:?}", inode.id, inode.link);
        return refuse(Code::IsALink, detail);
    }
    Ok(())
}

/// The place must be a name, not an inode alone.
pub(crate) fn named(place: Option<Place>) -> Result<Place, ReadError> {
    match place {
        Some(place) => Ok(place),
        None => refuse(
            Code::Invalid,
            "this needs a name in a directory; the target names an inode alone",
        ),
    }
}

/// Refuses unless the caller may change the entries of `directory`.
pub(crate) fn check_entries(caller: &Caller, directory: &InodeRecord) -> Result<(), ReadError> {
    caller.check(directory, WRITE | SEARCH)
}

/// Refuses unless the precondition holds for what is there.
pub(crate) fn check_precondition(
    condition: Option<&Precondition>,
    inode: Option<&InodeRecord>,
) -> Result<(), ReadError> {
    let Some(condition) = condition else { return Ok(()) };
    let Some(inode) = inode else {
        if condition.present || !condition.versions.is_empty() {
            return refuse(Code::PreconditionFailed, "there is nothing of that name");
        }
        return Ok(());
    };
    if condition.absent {
        return refuse(Code::Exists, "the name is taken");
    }
    let is = |tag: &drystone_proto::command::VersionTag| {
        tag.version == inode.version && (tag.inode == 0 || tag.inode == inode.id)
    };
    let unwanted = condition.not_versions.iter().any(is);
    if unwanted || !(condition.versions.is_empty() || condition.versions.iter().any(is)) {
        return refuse(
            Code::PreconditionFailed,
            format!("inode {} is at version {}", inode.id, inode.version),
        );
    }
    Ok(())
}
