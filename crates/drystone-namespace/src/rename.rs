//! Rename: a file or a whole directory, at once, wherever it goes.

use crate::key::dentry;
use crate::namespace::{Context, Namespace, inode_key};
use crate::refusal::{ReadError, refuse};
use crate::resolve::{Place, check_entries, check_precondition, named};
use crate::store::OrderedStore;
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{Outcome, Rename};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord};
use drystone_types::Code;

impl<S: OrderedStore> Namespace<S> {
    /// Renames. Both directories must be writable; a directory never comes to lie below itself.
    pub(crate) fn rename(&mut self, cx: &Context, command: &Rename) -> Result<Outcome, ReadError> {
        let to = self.spot(cx, command.to.as_ref(), command.parents)?;
        // Found second: making parents of the new place may have changed the old one's directory.
        let from = self.spot(cx, command.from.as_ref(), false)?;
        check_precondition(command.precondition.as_ref(), from.inode.as_ref())?;
        let (from_place, mut inode) = from.existing()?;
        let from_place = named(from_place)?;
        let to_place = named(to.place)?;
        check_entries(&cx.caller, &from_place.parent)?;
        check_entries(&cx.caller, &to_place.parent)?;
        let same_directory = from_place.parent.id == to_place.parent.id;
        if same_directory && from_place.name == to_place.name {
            return Ok(Outcome {
                inode: inode.id,
                version: inode.version,
                size: inode.size,
                ..Outcome::default()
            });
        }
        let directory = inode.kind() == InodeKind::Directory;
        if directory && !planted(Bug::RenameBelowItself) && self.is_at_or_above(inode.id, &to_place.parent)? {
            return refuse(Code::Invalid, "a directory cannot be moved below itself");
        }
        if directory && !same_directory {
            self.check_depth(&inode, &to_place.parent)?;
        }
        if let Some(old) = to.inode {
            self.make_way(cx, command.overwrite, &inode, &to_place, old)?;
        }
        self.tables
            .delete(dentry(from_place.parent.id, from_place.name.as_str()));
        let entry = DentryRecord {
            inode: inode.id,
            kind: inode.kind,
            since: cx.since,
        };
        self.tables
            .put(dentry(to_place.parent.id, to_place.name.as_str()), &entry);
        inode.parent = to_place.parent.id;
        (inode.changed, inode.since) = (cx.wall, cx.since);
        if directory {
            inode.version = cx.since;
        }
        self.tables.put(inode_key(inode.id), &inode);
        // One of the directories may be the other's entry, so both are read again.
        for parent in [from_place.parent.id, to_place.parent.id] {
            let parent = self.load_inode(parent)?;
            if parent.since != cx.since || parent.modified != cx.wall {
                self.touch_entries(cx, parent);
            }
        }
        if directory && !same_directory {
            self.raise_height(to_place.parent.id, inode.height + 1)?;
        }
        Ok(Outcome {
            inode: inode.id,
            version: inode.version,
            size: inode.size,
            ..Outcome::default()
        })
    }

    /// Takes what holds the new name away, if `overwrite` allows it.
    fn make_way(
        &mut self,
        cx: &Context,
        overwrite: bool,
        inode: &InodeRecord,
        place: &Place,
        old: InodeRecord,
    ) -> Result<(), ReadError> {
        if !overwrite {
            return refuse(Code::Exists, format!("{:?} is taken", place.name));
        }
        let is_directory = |inode: &InodeRecord| inode.kind() == InodeKind::Directory;
        match (is_directory(inode), is_directory(&old)) {
            (false, true) => {
                return refuse(Code::IsADirectory, "only a directory can replace a directory");
            }
            (true, false) => {
                return refuse(Code::NotADirectory, "a directory can replace directories only");
            }
            (true, true) => {
                if !self.is_empty_directory(old.id)? {
                    return refuse(Code::NotEmpty, format!("{:?} has entries", place.name));
                }
                self.tables.delete(inode_key(old.id));
                self.count(&old, false);
            }
            (false, false) => {
                self.count(&old, false);
                self.drop_file(cx, old)?;
            }
        }
        self.tables.delete(dentry(place.parent.id, place.name.as_str()));
        Ok(())
    }
}
