//! Publish: creates a file or changes its content, in one command.
//!
//! A file keeps its inode when its content changes, but in two cases it gets a new one that takes over its
//! attributes: its new content was staged, or its old content has too many extents to be dropped at once.

use crate::attributes::apply_changes;
use crate::directory::{MODE_BITS, checked_policy, new_record};
use crate::extents::{NewContent, check_size};
use crate::limits::{MAX_INLINE_BYTES, MAX_TOTAL_BYTES, RECLAIM_AT_ONCE};
use crate::namespace::{Context, Namespace, inode_key};
use crate::permission::WRITE;
use crate::refusal::{ReadError, refuse};
use crate::resolve::{Place, check_entries, check_not_link, check_precondition, named};
use crate::store::OrderedStore;
use bytes::Bytes;
use drystone_env::planted::{Bug, planted};
use drystone_proto::command::{Outcome, Publish, PublishMode};
use drystone_proto::record::{DentryRecord, InodeKind, InodeRecord, PolicyRecord};
use drystone_types::Code;
use std::collections::BTreeSet;

fn inline_refused<T>(detail: &str) -> Result<T, ReadError> {
    refuse(Code::InlineRefused, detail)
}

impl<S: OrderedStore> Namespace<S> {
    /// Creates or changes a file.
    pub(crate) fn publish(&mut self, cx: &Context, command: &Publish) -> Result<Outcome, ReadError> {
        let Ok(mode) = PublishMode::try_from(command.mode) else {
            return refuse(
                Code::NotSupported,
                format!("publish mode {} is not known here", command.mode),
            );
        };
        let spot = self.spot(cx, command.target.as_ref(), command.parents)?;
        if !planted(Bug::PreconditionNotChecked) {
            check_precondition(command.precondition.as_ref(), spot.inode.as_ref())?;
        }
        if let Some(inode) = &spot.inode {
            if inode.kind() == InodeKind::Directory {
                return refuse(Code::IsADirectory, "content is published to files");
            }
            check_not_link(inode)?;
            cx.caller.check(inode, WRITE)?;
        }
        if command.staged != 0 {
            if mode != PublishMode::Replace || command.content.is_some() {
                return refuse(Code::Invalid, "staged content replaces, and comes alone");
            }
            return self.publish_staged(cx, command, spot.place, spot.inode);
        }
        let size = spot.inode.as_ref().map_or(0, |inode| inode.size);
        let offset = match mode {
            PublishMode::Replace => 0,
            PublishMode::Append => size,
            PublishMode::Range if command.offset > size => {
                return refuse(
                    Code::Range,
                    format!("offset {} lies beyond the end ({size})", command.offset),
                );
            }
            PublishMode::Range => command.offset,
        };
        let file = spot
            .inode
            .as_ref()
            .or(spot.place.as_ref().map(|place| &place.parent));
        let Some(file) = file.cloned() else {
            return refuse(Code::NotFound, "the inode is not there");
        };
        let content = self.take_content(cx, command.content.as_ref(), &file)?;
        self.check_total(content.length)?;
        let (redundancy, created) = (content.redundancy, spot.inode.is_none());
        let inode = match spot.inode {
            None => self.create_file(cx, command, named(spot.place)?, content)?,
            Some(inode) => {
                let whole = mode == PublishMode::Replace || (offset == 0 && content.length >= size);
                if whole && content.length > 0 || mode == PublishMode::Replace {
                    self.replace_content(cx, command, spot.place, inode, content)?
                } else {
                    self.change_content(cx, command, inode, offset, content)?
                }
            }
        };
        Ok(Outcome {
            inode: inode.id,
            version: inode.version,
            created,
            size: inode.size,
            offset,
            redundancy,
            ..Outcome::default()
        })
    }

    fn create_file(
        &mut self,
        cx: &Context,
        command: &Publish,
        place: Place,
        content: NewContent,
    ) -> Result<InodeRecord, ReadError> {
        check_entries(&cx.caller, &place.parent)?;
        let id = self.new_inode()?;
        let mode = file_mode(command);
        let mut inode = new_record(
            cx,
            id,
            InodeKind::File,
            mode,
            &cx.caller.user,
            cx.caller.primary_group(),
        );
        inode.parent = place.parent.id;
        (inode.size, inode.inline) = (content.length, content.inline);
        self.add_extents(cx, &mut inode, 0, &content.extents)?;
        apply_changes(cx, command.attributes.as_ref(), &mut inode)?;
        self.tables.put_new(inode_key(id), &inode);
        self.link(cx, place.parent, &place.name, &inode);
        Ok(inode)
    }

    /// New content in the place of all the old.
    fn replace_content(
        &mut self,
        cx: &Context,
        command: &Publish,
        place: Option<Place>,
        mut inode: InodeRecord,
        content: NewContent,
    ) -> Result<InodeRecord, ReadError> {
        self.count(&inode, false);
        let mut touched = BTreeSet::new();
        if inode.extents > RECLAIM_AT_ONCE {
            let place = named(place)?;
            let id = self.new_inode()?;
            let successor = InodeRecord {
                id,
                extents: 0,
                ..inode.clone()
            };
            self.queue(cx, inode);
            self.relink(cx, &place, &successor);
            inode = successor;
        } else {
            self.remove_extents(&mut inode, RECLAIM_AT_ONCE as usize, &mut touched)?;
        }
        (inode.size, inode.inline) = (content.length, content.inline);
        self.add_extents(cx, &mut inode, 0, &content.extents)?;
        self.finish_content(cx, command, &mut inode, &touched)?;
        Ok(inode)
    }

    /// Refuses so many bytes more than the namespace can count.
    fn check_total(&self, more: u64) -> Result<(), ReadError> {
        if self.state.bytes + more > MAX_TOTAL_BYTES {
            return refuse(
                Code::NoSpace,
                "the namespace counts 4 EiB at most, holes included",
            );
        }
        Ok(())
    }

    /// The name of a file names its successor.
    fn relink(&mut self, cx: &Context, place: &Place, successor: &InodeRecord) {
        let entry = DentryRecord {
            inode: successor.id,
            kind: successor.kind,
            since: cx.since,
        };
        self.tables
            .put(crate::key::dentry(place.parent.id, place.name.as_str()), &entry);
    }

    /// Appends or overwrites; see the table in [`crate::extents`].
    fn change_content(
        &mut self,
        cx: &Context,
        command: &Publish,
        mut inode: InodeRecord,
        offset: u64,
        content: NewContent,
    ) -> Result<InodeRecord, ReadError> {
        self.count(&inode, false);
        let mut touched = BTreeSet::new();
        let size = inode.size.max(offset + content.length);
        check_size(size)?;
        if content.length == 0 {
            // Nothing changes but the version.
        } else if let Some(new) = content.inline {
            if inode.extents > 0 {
                return inline_refused("the file is in chunks: write the bytes to a chunk");
            }
            if size > MAX_INLINE_BYTES as u64 {
                return inline_refused("the file grows beyond what may be inline: convert it to chunks");
            }
            let old = inode.inline.take().unwrap_or_default();
            inode.inline = Some(spliced(&old, offset as usize, &new));
        } else {
            if inode.inline.is_some() {
                return inline_refused("the file is inline: convert it to chunks");
            }
            self.overwrite(cx, &mut inode, offset, &content, &mut touched)?;
        }
        inode.size = size;
        self.finish_content(cx, command, &mut inode, &touched)?;
        Ok(inode)
    }

    /// Stamps and writes a named file whose content has changed, counts it, dooms what is not referred to.
    fn finish_content(
        &mut self,
        cx: &Context,
        command: &Publish,
        inode: &mut InodeRecord,
        touched: &BTreeSet<u64>,
    ) -> Result<(), ReadError> {
        (inode.modified, inode.changed) = (cx.wall, cx.wall);
        (inode.version, inode.since) = (cx.since, cx.since);
        apply_changes(cx, command.attributes.as_ref(), inode)?;
        if let Some(inline) = &inode.inline {
            assert_eq!(
                (inline.len() as u64, inode.extents),
                (inode.size, 0),
                "inline content is all of a file's content"
            );
        }
        self.count(inode, true);
        self.tables.put(inode_key(inode.id), inode);
        Ok(self.doom_unreferenced(cx, touched)?)
    }

    /// Links a staged inode in the place of what is there.
    fn publish_staged(
        &mut self,
        cx: &Context,
        command: &Publish,
        place: Option<Place>,
        old: Option<InodeRecord>,
    ) -> Result<Outcome, ReadError> {
        let place = named(place)?;
        let mut inode = self.take_staged(cx, command.staged)?;
        self.check_total(inode.size)?;
        let in_force = self.policy_of(old.as_ref().unwrap_or(&place.parent))?;
        check_staged_policy(&inode, &in_force)?;
        inode.policy = None;
        (inode.parent, inode.version, inode.since) = (place.parent.id, cx.since, cx.since);
        (inode.modified, inode.changed) = (cx.wall, cx.wall);
        let created = old.is_none();
        let (id, size) = (inode.id, inode.size);
        match old {
            None => {
                check_entries(&cx.caller, &place.parent)?;
                inode.mode = file_mode(command);
                (inode.created, inode.accessed) = (cx.wall, cx.wall);
                apply_changes(cx, command.attributes.as_ref(), &mut inode)?;
                self.tables.put(inode_key(id), &inode);
                self.link(cx, place.parent, &place.name, &inode);
            }
            Some(old) => {
                (inode.mode, inode.created, inode.accessed) = (old.mode, old.created, old.accessed);
                (inode.owner, inode.group) = (old.owner.clone(), old.group.clone());
                (inode.policy, inode.xattrs) = (old.policy, old.xattrs.clone());
                apply_changes(cx, command.attributes.as_ref(), &mut inode)?;
                self.tables.put(inode_key(id), &inode);
                self.count(&old, false);
                self.count(&inode, true);
                self.relink(cx, &place, &inode);
                self.drop_file(cx, old)?;
            }
        }
        Ok(Outcome {
            inode: id,
            version: cx.since,
            created,
            size,
            ..Outcome::default()
        })
    }
}

/// The permission bits that the file gets if it is new.
fn file_mode(command: &Publish) -> u32 {
    command.file_mode.unwrap_or(0o644) & MODE_BITS
}

/// Refuses staged content whose chunks were recorded under a policy that asks for less than the one in force now.
fn check_staged_policy(staged: &InodeRecord, in_force: &PolicyRecord) -> Result<(), ReadError> {
    let (followed, in_force) = (staged.policy, checked_policy(in_force)?);
    let enough = match followed {
        Some(followed) => checked_policy(&followed)?.receipts() >= in_force.receipts(),
        None => false,
    };
    if staged.extents > 0 && !enough {
        let detail = format!(
            "the policy in force wants {} replicas of each chunk confirmed, the content was staged under another one",
            in_force.receipts()
        );
        return refuse(Code::PolicyDiffers, detail);
    }
    Ok(())
}

/// `old` with `new` written at `offset`, which is not beyond its end.
fn spliced(old: &[u8], offset: usize, new: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(old.len().max(offset + new.len()));
    bytes.extend_from_slice(&old[..offset]);
    bytes.extend_from_slice(new);
    bytes.extend_from_slice(old.get(offset + new.len()..).unwrap_or_default());
    bytes.into()
}
