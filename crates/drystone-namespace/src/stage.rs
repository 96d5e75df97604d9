//! Staged files: an inode without a name, under a lease, to which extents are added in bounded commands.

use crate::directory::{checked_policy, new_record};
use crate::extents::check_size;
use crate::key::{numbers, table};
use crate::limits::{MAX_LEASE, MAX_STAGED};
use crate::namespace::{Context, Namespace, inode_key};
use crate::permission::WRITE;
use crate::records::MarkRecord;
use crate::refusal::{ReadError, refuse};
use crate::resolve::{check_entries, check_not_link};
use crate::store::OrderedStore;
use drystone_proto::command::{Outcome, Stage, StageAbandon, StageExtend};
use drystone_proto::record::{InodeKind, InodeRecord};
use drystone_types::Code;

impl<S: OrderedStore> Namespace<S> {
    /// Makes a staged inode. The target is a directory, a file, or a free name in a directory, to which the
    /// caller must be allowed to write.
    pub(crate) fn stage(&mut self, cx: &Context, command: &Stage) -> Result<Outcome, ReadError> {
        let spot = self.spot(cx, command.target.as_ref(), false)?;
        match (&spot.inode, &spot.place) {
            (Some(inode), _) if inode.kind() == InodeKind::Directory => check_entries(&cx.caller, inode)?,
            (Some(inode), _) => {
                check_not_link(inode)?;
                cx.caller.check(inode, WRITE)?;
            }
            (None, Some(place)) => check_entries(&cx.caller, &place.parent)?,
            (None, None) => return refuse(Code::NotFound, "the inode is not there"),
        }
        if command.lease == 0 {
            return refuse(Code::Invalid, "a stage has a lease");
        }
        if self.state.staged >= MAX_STAGED {
            return refuse(Code::Busy, format!("{MAX_STAGED} files are staged"));
        }
        let file = spot
            .inode
            .as_ref()
            .or(spot.place.as_ref().map(|place| &place.parent));
        let followed = match &command.policy {
            Some(followed) => {
                checked_policy(followed)?;
                Some(*followed)
            }
            None => file.map(|file| self.policy_of(file)).transpose()?,
        };
        self.state.staged += 1;
        let id = self.new_inode()?;
        let mut inode = new_record(
            cx,
            id,
            InodeKind::File,
            0o600,
            &cx.caller.user,
            cx.caller.primary_group(),
        );
        // Its chunks are recorded under it, and it is compared with the one in force when the content is published.
        inode.policy = followed;
        self.renew_lease(cx, &mut inode, command.lease);
        self.tables.put_new(inode_key(id), &inode);
        Ok(Outcome {
            inode: id,
            version: inode.version,
            created: true,
            ..Outcome::default()
        })
    }

    /// Adds extents at the end of a staged inode.
    pub(crate) fn stage_extend(&mut self, cx: &Context, command: &StageExtend) -> Result<Outcome, ReadError> {
        let mut inode = self.staged(cx, command.inode)?;
        if command.offset != inode.size {
            let detail = format!("the staged file has {} bytes, not {}", inode.size, command.offset);
            return refuse(Code::Conflict, detail);
        }
        let content = self.take_content(cx, command.content.as_ref(), &inode)?;
        if content.inline.is_some() {
            return refuse(Code::InlineRefused, "staged content is in chunks");
        }
        check_size(inode.size + content.length)?;
        self.add_extents(cx, &mut inode, command.offset, &content.extents)?;
        inode.size += content.length;
        (inode.modified, inode.changed) = (cx.wall, cx.wall);
        (inode.version, inode.since) = (cx.since, cx.since);
        if command.lease != 0 {
            self.renew_lease(cx, &mut inode, command.lease);
        }
        self.tables.put(inode_key(inode.id), &inode);
        Ok(Outcome {
            inode: inode.id,
            version: inode.version,
            size: inode.size,
            offset: command.offset,
            redundancy: content.redundancy,
            ..Outcome::default()
        })
    }

    /// Gives a staged inode up.
    pub(crate) fn stage_abandon(
        &mut self,
        cx: &Context,
        command: &StageAbandon,
    ) -> Result<Outcome, ReadError> {
        let inode = self.take_staged(cx, command.inode)?;
        let id = inode.id;
        self.drop_file(cx, inode)?;
        Ok(Outcome {
            inode: id,
            ..Outcome::default()
        })
    }

    fn staged(&mut self, cx: &Context, id: u64) -> Result<InodeRecord, ReadError> {
        let inode = self.tables.load_record::<InodeRecord>(&inode_key(id))?;
        let Some(inode) = inode.filter(|inode| inode.staged_until != 0) else {
            return refuse(Code::NotFound, format!("there is no staged inode {id}"));
        };
        cx.caller.check_owner(&inode)?;
        Ok(inode)
    }

    /// The caller's staged inode, which is not staged any more. The record still is to be written.
    pub(crate) fn take_staged(&mut self, cx: &Context, id: u64) -> Result<InodeRecord, ReadError> {
        let mut inode = self.staged(cx, id)?;
        self.unstage(&mut inode);
        Ok(inode)
    }

    /// Ends the lease.
    pub(crate) fn unstage(&mut self, inode: &mut InodeRecord) {
        self.tables
            .delete(numbers(table::LEASE, [inode.staged_until, inode.id]));
        inode.staged_until = 0;
        self.state.staged -= 1;
    }

    fn renew_lease(&mut self, cx: &Context, inode: &mut InodeRecord, lease: u64) {
        let until = cx.now.saturating_add(lease.min(MAX_LEASE)).max(1);
        if inode.staged_until != 0 {
            self.tables
                .delete(numbers(table::LEASE, [inode.staged_until, inode.id]));
        }
        inode.staged_until = until;
        self.tables.put(
            numbers(table::LEASE, [until, inode.id]),
            &MarkRecord { since: cx.since },
        );
    }
}
