//! Directories and their entries: the root, new directories, linking and unlinking a name.

use crate::attributes::apply_changes;
use crate::depth::too_deep;
use crate::key::dentry;
use crate::limits::{MAX_DEPTH, MAX_LABEL_BYTES};
use crate::namespace::{Context, Namespace, inode_key};
use crate::records::corrupt;
use crate::refusal::{ReadError, refuse};
use crate::resolve::check_entries;
use crate::store::{OrderedStore, StoreError};
use drystone_proto::command::{AttributeChanges, Initialize, MakeDirectory, Outcome};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord, PolicyRecord};
use drystone_types::{Code, Name, Policy};

/// Permission bits that are kept.
pub(crate) const MODE_BITS: u32 = 0o7777;

/// A policy from its record, with every fault it has as a refusal.
pub(crate) fn checked_policy(record: &PolicyRecord) -> Result<Policy, ReadError> {
    let policy = record.checked();
    policy.or_else(|error| refuse(Code::Invalid, error.to_string()))
}

impl<S: OrderedStore> Namespace<S> {
    /// Makes the root directory; later ones are no-ops.
    pub(crate) fn initialize(&mut self, cx: &Context, command: &Initialize) -> Result<Outcome, ReadError> {
        if self.state.since != 0 {
            return Ok(Outcome::default());
        }
        if let Some(policy) = &command.policy {
            checked_policy(policy)?;
        }
        if command.owner.len() > MAX_LABEL_BYTES {
            return refuse(
                Code::TooLarge,
                format!("an owner has at most {MAX_LABEL_BYTES} bytes"),
            );
        }
        let owner = if command.owner.is_empty() {
            cx.caller.user.clone()
        } else {
            command.owner.clone()
        };
        let mode = if command.mode == 0 {
            0o777
        } else {
            command.mode & MODE_BITS
        };
        let root = self.root();
        let id = self.new_inode()?;
        assert_eq!(id, root, "the root is the first inode");
        let inode = InodeRecord {
            parent: root,
            ..new_record(cx, id, InodeKind::Directory, mode, &owner, &owner)
        };
        self.tables.put_new(inode_key(id), &inode);
        self.state.policy = command.policy;
        self.state.since = cx.since;
        self.state.directories = 1;
        Ok(Outcome {
            inode: id,
            version: inode.version,
            created: true,
            ..Outcome::default()
        })
    }

    /// Makes a directory.
    pub(crate) fn make_directory(
        &mut self,
        cx: &Context,
        command: &MakeDirectory,
    ) -> Result<Outcome, ReadError> {
        let spot = self.spot(cx, command.target.as_ref(), command.parents)?;
        if let Some(inode) = spot.inode {
            if command.parents && inode.kind() == InodeKind::Directory {
                return Ok(Outcome {
                    inode: inode.id,
                    version: inode.version,
                    ..Outcome::default()
                });
            }
            return refuse(Code::Exists, "the name is taken");
        }
        let place = crate::resolve::named(spot.place)?;
        let (parent, depth) = (place.parent.id, self.depth(&place.parent)?);
        let changes = command.attributes.as_ref();
        let inode = self.make_child(cx, (place.parent, depth), &place.name, command.mode, changes)?;
        self.raise_height(parent, 1)?;
        Ok(Outcome {
            inode: inode.id,
            version: inode.version,
            created: true,
            ..Outcome::default()
        })
    }

    /// Makes the directory `name`, which is free, in `parent`, which lies `depth` deep; without a mode 0755. The heights
    /// above it are still to be raised.
    pub(crate) fn make_child(
        &mut self,
        cx: &Context,
        (parent, depth): (InodeRecord, usize),
        name: &Name,
        mode: Option<u32>,
        changes: Option<&AttributeChanges>,
    ) -> Result<InodeRecord, ReadError> {
        check_entries(&cx.caller, &parent)?;
        if depth >= MAX_DEPTH {
            return too_deep();
        }
        let mode = mode.unwrap_or(0o755) & MODE_BITS;
        let id = self.new_inode()?;
        let (user, group) = (&cx.caller.user, cx.caller.primary_group());
        let mut inode = InodeRecord {
            parent: parent.id,
            ..new_record(cx, id, InodeKind::Directory, mode, user, group)
        };
        apply_changes(cx, changes, &mut inode)?;
        self.tables.put_new(inode_key(id), &inode);
        self.link(cx, parent, name, &inode);
        Ok(inode)
    }

    /// Enters an inode under a free name, counts it, and marks the directory as modified.
    pub(crate) fn link(&mut self, cx: &Context, parent: InodeRecord, name: &Name, inode: &InodeRecord) {
        let entry = DentryRecord {
            inode: inode.id,
            kind: inode.kind,
            since: cx.since,
        };
        assert_eq!(
            parent.kind(),
            InodeKind::Directory,
            "only directories have entries"
        );
        assert_eq!(
            inode.parent, parent.id,
            "an inode knows the directory of its name"
        );
        self.tables.put_new(dentry(parent.id, name.as_str()), &entry);
        self.count(inode, true);
        self.touch_entries(cx, parent);
    }

    /// Takes a name away, uncounts what it named, and marks the directory as modified.
    pub(crate) fn unlink(&mut self, cx: &Context, parent: InodeRecord, name: &Name, inode: &InodeRecord) {
        self.tables.delete(dentry(parent.id, name.as_str()));
        self.count(inode, false);
        self.touch_entries(cx, parent);
    }

    /// A directory's entries changed; its version stays.
    pub(crate) fn touch_entries(&mut self, cx: &Context, mut directory: InodeRecord) {
        (directory.modified, directory.changed, directory.since) = (cx.wall, cx.wall, cx.since);
        self.tables.put(inode_key(directory.id), &directory);
    }

    /// Adds an inode that has (or gets) a name to the totals, or takes it out.
    pub(crate) fn count(&mut self, inode: &InodeRecord, added: bool) {
        let inline = inode.inline.as_ref().map_or(0, |inline| inline.len() as u64);
        let state = &mut self.state;
        let change = |total: &mut u64, by: u64| {
            let changed = if added {
                total.checked_add(by)
            } else {
                total.checked_sub(by)
            };
            assert!(
                changed.is_some(),
                "a total that holds what it counts: {total} by {by}"
            );
            *total = changed.unwrap_or_default();
        };
        match inode.kind() {
            InodeKind::Directory => change(&mut state.directories, 1),
            InodeKind::SymbolicLink => change(&mut state.links, 1),
            InodeKind::File => {
                change(&mut state.files, 1);
                change(&mut state.bytes, inode.size);
                change(&mut state.inline_bytes, inline);
            }
        }
    }

    /// The next inode id.
    pub(crate) fn new_inode(&mut self) -> Result<u64, ReadError> {
        let id = self.state.next_inode;
        if id + 1 >= self.settings.shard.base() + (1 << 48) {
            return refuse(Code::NoSpace, "the shard has no inode ids left");
        }
        self.state.next_inode = id + 1;
        Ok(id)
    }

    /// True if a directory has no entries.
    pub(crate) fn is_empty_directory(&self, id: u64) -> Result<bool, StoreError> {
        let first = dentry(id, "");
        let to = crate::key::above(first.as_slice());
        Ok(self
            .tables
            .first(first.as_slice(), &to, crate::store::Order::Up)?
            .is_none())
    }

    /// An inode that a record of ours names.
    pub(crate) fn load_inode(&mut self, id: u64) -> Result<InodeRecord, StoreError> {
        let key = inode_key(id);
        let inode = self.tables.load_record(&key)?;
        inode.ok_or_else(|| corrupt(key.as_slice(), "the inode of a name or a queue", "nothing"))
    }
}

/// A new inode without a parent.
pub(crate) fn new_record(
    cx: &Context,
    id: u64,
    kind: InodeKind,
    mode: u32,
    owner: &str,
    group: &str,
) -> InodeRecord {
    InodeRecord {
        id,
        kind: kind as i32,
        mode,
        owner: owner.to_owned(),
        group: group.to_owned(),
        created: cx.wall,
        modified: cx.wall,
        accessed: cx.wall,
        changed: cx.wall,
        version: cx.since,
        since: cx.since,
        ..InodeRecord::default()
    }
}
