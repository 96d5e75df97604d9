//! Delete: a file, an empty directory, or a whole tree, which is detached at once and reclaimed by housekeeping.

use crate::namespace::{Context, Namespace, inode_key};
use crate::permission::{READ, SEARCH, WRITE};
use crate::refusal::{ReadError, refuse};
use crate::resolve::{check_entries, check_precondition, named};
use crate::store::OrderedStore;
use drystone_proto::command::{Delete, Outcome};
use drystone_proto::record::InodeKind;
use drystone_types::Code;

impl<S: OrderedStore> Namespace<S> {
    /// Deletes. A tree needs the caller's read, write and search right on its top directory: what lies below
    /// is not looked at, because the command takes the same time for every size.
    pub(crate) fn delete(&mut self, cx: &Context, command: &Delete) -> Result<Outcome, ReadError> {
        let spot = self.spot(cx, command.target.as_ref(), false)?;
        let (place, inode) = spot.existing()?;
        check_precondition(command.precondition.as_ref(), Some(&inode))?;
        let directory = inode.kind() == InodeKind::Directory;
        match command.expect {
            1 if directory => return refuse(Code::IsADirectory, "it is a directory"),
            2 if !directory => return refuse(Code::NotADirectory, "it is a file"),
            0..=2 => {}
            other => return refuse(Code::Invalid, format!("expect is 0, 1 or 2, not {other}")),
        }
        let place = named(place)?;
        check_entries(&cx.caller, &place.parent)?;
        let outcome = Outcome {
            inode: inode.id,
            version: inode.version,
            size: inode.size,
            ..Outcome::default()
        };
        let empty = !directory || self.is_empty_directory(inode.id)?;
        if !empty && !command.recursive {
            return refuse(Code::NotEmpty, format!("{:?} has entries", place.name));
        }
        if !empty {
            cx.caller.check(&inode, READ | WRITE | SEARCH)?;
        }
        self.unlink(cx, place.parent, &place.name, &inode);
        if !directory {
            self.drop_file(cx, inode)?;
        } else if empty {
            self.tables.delete(inode_key(inode.id));
        } else {
            self.queue(cx, inode);
        }
        Ok(outcome)
    }
}
