//! Symbolic links: a text under a name. Servers never follow one: a path that ends in a link names the link itself,
//! and one that leads through a link is refused (`is_a_link`), because what the text means is the reader's matter: a
//! mount resolves it from its own root, a tool may not want to follow it at all.

use crate::attributes::apply_changes;
use crate::directory::new_record;
use crate::key::dentry;
use crate::namespace::{Context, Namespace, inode_key};
use crate::refusal::{ReadError, refuse};
use crate::resolve::{check_entries, check_precondition, named};
use crate::store::OrderedStore;
use drystone_proto::command::{MakeSymbolicLink, Outcome};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord};
use drystone_types::Code;
use drystone_types::path::MAX_LINK_BYTES;

impl<S: OrderedStore> Namespace<S> {
    /// Makes a link; with `overwrite` it takes the place of a file or a link.
    pub(crate) fn make_symbolic_link(
        &mut self,
        cx: &Context,
        command: &MakeSymbolicLink,
    ) -> Result<Outcome, ReadError> {
        if command.link.is_empty() || command.link.len() > MAX_LINK_BYTES || command.link.contains('\0') {
            return refuse(
                Code::Invalid,
                format!("the target of a link has 1 to {MAX_LINK_BYTES} bytes, no NUL"),
            );
        }
        let spot = self.spot(cx, command.target.as_ref(), command.parents)?;
        check_precondition(command.precondition.as_ref(), spot.inode.as_ref())?;
        match &spot.inode {
            Some(_) if !command.overwrite => return refuse(Code::Exists, "the name is taken"),
            Some(old) if old.kind() == InodeKind::Directory => {
                return refuse(Code::IsADirectory, "a link cannot replace a directory");
            }
            _ => {}
        }
        let place = named(spot.place)?;
        check_entries(&cx.caller, &place.parent)?;
        let id = self.new_inode()?;
        let (user, group) = (&cx.caller.user, cx.caller.primary_group());
        let mut inode = InodeRecord {
            parent: place.parent.id,
            link: command.link.clone(),
            size: command.link.len() as u64,
            ..new_record(cx, id, InodeKind::SymbolicLink, 0o777, user, group)
        };
        apply_changes(cx, command.attributes.as_ref(), &mut inode)?;
        self.tables.put_new(inode_key(id), &inode);
        let created = spot.inode.is_none();
        match spot.inode {
            None => self.link(cx, place.parent, &place.name, &inode),
            Some(old) => {
                let entry = DentryRecord {
                    inode: id,
                    kind: inode.kind,
                    since: cx.since,
                };
                self.tables
                    .put(dentry(place.parent.id, place.name.as_str()), &entry);
                self.count(&old, false);
                self.count(&inode, true);
                self.drop_file(cx, old)?;
                self.touch_entries(cx, place.parent);
            }
        }
        Ok(Outcome {
            inode: id,
            version: inode.version,
            size: inode.size,
            created,
            ..Outcome::default()
        })
    }
}
