//! Attributes: mode, owner, group, times, extended attributes, policy.

use crate::directory::{MODE_BITS, checked_policy};
use crate::limits::{MAX_LABEL_BYTES, MAX_XATTR_BYTES, MAX_XATTRS, MAX_XATTRS_BYTES};
use crate::namespace::{Context, Namespace, inode_key};
use crate::permission::WRITE;
use crate::refusal::{ReadError, refuse};
use crate::resolve::check_precondition;
use crate::store::OrderedStore;
use drystone_proto::command::{AttributeChanges, Outcome, SetAttributes};
use drystone_proto::record::{InodeKind, InodeRecord, Xattr};
use drystone_types::Code;

impl<S: OrderedStore> Namespace<S> {
    /// Changes attributes, all or none. A directory's version changes with its mode, owner, group and policy.
    pub(crate) fn set_attributes(
        &mut self,
        cx: &Context,
        command: &SetAttributes,
    ) -> Result<Outcome, ReadError> {
        let (_, mut inode) = self.spot(cx, command.target.as_ref(), false)?.existing()?;
        check_precondition(command.precondition.as_ref(), Some(&inode))?;
        let before = (inode.mode, inode.owner.clone(), inode.group.clone(), inode.policy);
        apply_changes(cx, command.changes.as_ref(), &mut inode)?;
        (inode.changed, inode.since) = (cx.wall, cx.since);
        let policy = inode.policy;
        if inode.kind() == InodeKind::Directory
            && before != (inode.mode, inode.owner.clone(), inode.group.clone(), policy)
        {
            inode.version = cx.since;
        }
        self.tables.put(inode_key(inode.id), &inode);
        Ok(Outcome {
            inode: inode.id,
            version: inode.version,
            size: inode.size,
            ..Outcome::default()
        })
    }
}

/// Sets in `inode` what `changes` name, if the caller may. Its record is still to be written.
pub(crate) fn apply_changes(
    cx: &Context,
    changes: Option<&AttributeChanges>,
    inode: &mut InodeRecord,
) -> Result<(), ReadError> {
    let Some(changes) = changes else { return Ok(()) };
    check_rights(cx, changes, inode)?;
    if let Some(policy) = &changes.policy {
        checked_policy(policy)?;
    }
    let of_content = changes.mode.is_some() || changes.policy.is_some() || changes.inherit_policy;
    if inode.kind() == InodeKind::SymbolicLink && of_content {
        return refuse(
            Code::Invalid,
            "a symbolic link has no permission bits and no policy",
        );
    }
    if let Some(mode) = changes.mode {
        inode.mode = mode & MODE_BITS;
    }
    for (name, field) in [
        (&changes.owner, &mut inode.owner),
        (&changes.group, &mut inode.group),
    ] {
        if let Some(name) = name {
            if name.is_empty() || name.len() > MAX_LABEL_BYTES {
                return refuse(
                    Code::Invalid,
                    format!("owner and group have 1 to {MAX_LABEL_BYTES} bytes"),
                );
            }
            field.clone_from(name);
        }
    }
    if changes.inherit_policy {
        inode.policy = None;
    }
    inode.policy = changes.policy.or(inode.policy);
    inode.modified = changes.modified.unwrap_or(inode.modified);
    inode.accessed = changes.accessed.unwrap_or(inode.accessed);
    if changes.replace_xattrs || !changes.set_xattrs.is_empty() || !changes.remove_xattrs.is_empty() {
        set_xattrs(changes, &mut inode.xattrs)?;
    }
    Ok(())
}

fn check_rights(cx: &Context, command: &AttributeChanges, inode: &InodeRecord) -> Result<(), ReadError> {
    let caller = &cx.caller;
    let owners = command.mode.is_some()
        || command.owner.is_some()
        || command.group.is_some()
        || command.modified.is_some()
        || command.accessed.is_some()
        || command.policy.is_some()
        || command.inherit_policy
        // The bits of a link are all set and say nothing.
        || inode.kind() == InodeKind::SymbolicLink;
    if owners {
        caller.check_owner(inode)?;
    } else if !caller.owns(inode) {
        caller.check(inode, WRITE)?;
    }
    if command.owner.as_ref().is_some_and(|owner| *owner != inode.owner) && !caller.is_superuser() {
        return refuse(Code::Denied, "only the superuser gives files away");
    }
    let foreign = |group: &String| *group != inode.group && !caller.in_group(group);
    if command.group.as_ref().is_some_and(foreign) && !caller.is_superuser() {
        return refuse(Code::Denied, "the owner can choose among its own groups");
    }
    Ok(())
}

fn set_xattrs(command: &AttributeChanges, xattrs: &mut Vec<Xattr>) -> Result<(), ReadError> {
    if command.replace_xattrs {
        xattrs.clear();
    }
    xattrs.retain(|xattr| !command.remove_xattrs.contains(&xattr.name));
    for new in &command.set_xattrs {
        if new.name.is_empty() || new.name.len() > MAX_LABEL_BYTES || new.name.contains('\0') {
            return refuse(
                Code::Invalid,
                format!("an attribute's name has 1 to {MAX_LABEL_BYTES} bytes, no NUL"),
            );
        }
        if new.value.len() > MAX_XATTR_BYTES {
            return refuse(
                Code::TooLarge,
                format!("{:?} is above {MAX_XATTR_BYTES} bytes", new.name),
            );
        }
        match xattrs.binary_search_by(|xattr| xattr.name.cmp(&new.name)) {
            Ok(at) => xattrs[at] = new.clone(),
            Err(at) => xattrs.insert(at, new.clone()),
        }
    }
    let bytes: usize = xattrs
        .iter()
        .map(|xattr| xattr.name.len() + xattr.value.len())
        .sum();
    if xattrs.len() > MAX_XATTRS || bytes > MAX_XATTRS_BYTES {
        let detail = format!("at most {MAX_XATTRS} extended attributes, {MAX_XATTRS_BYTES} bytes in all");
        return refuse(Code::TooLarge, detail);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
