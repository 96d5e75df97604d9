//! Who may do what: mode bits, owner and group, checked here and nowhere else ([`drystone_types::permission`] is the
//! rule).

use crate::read::Caller;
use crate::refusal::{ReadError, refuse};
use drystone_proto::record::InodeRecord;
use drystone_types::Code;
use drystone_types::permission::Mode;
pub(crate) use drystone_types::permission::{READ, SEARCH, SUPERUSER, WRITE};

impl Caller {
    pub(crate) fn is_superuser(&self) -> bool {
        self.user == SUPERUSER
    }

    pub(crate) fn owns(&self, inode: &InodeRecord) -> bool {
        self.is_superuser() || self.user == inode.owner
    }

    pub(crate) fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Group of what this caller creates: its first one, or one of its own name.
    pub(crate) fn primary_group(&self) -> &str {
        self.groups.first().map_or(&self.user, |group| group)
    }

    /// Refuses unless all of `bits` are granted.
    pub(crate) fn check(&self, inode: &InodeRecord, bits: u32) -> Result<(), ReadError> {
        let mode = Mode {
            bits: inode.mode,
            owner: &inode.owner,
            group: &inode.group,
        };
        if mode.grants(&self.user, &self.groups, bits) {
            return Ok(());
        }
        refuse(
            Code::Denied,
            format!(
                "{} may not do this to inode {} ({:04o} {} {})",
                self.user, inode.id, inode.mode, inode.owner, inode.group
            ),
        )
    }

    /// Refuses who may not move the file's content out of the metadata: neither its owner nor one who may write to it.
    pub(crate) fn check_convert(&self, inode: &InodeRecord) -> Result<(), ReadError> {
        if self.owns(inode) {
            return Ok(());
        }
        self.check(inode, WRITE)
    }

    /// Refuses all but the owner and the superuser.
    pub(crate) fn check_owner(&self, inode: &InodeRecord) -> Result<(), ReadError> {
        if self.owns(inode) {
            return Ok(());
        }
        refuse(
            Code::Denied,
            format!("only {} may do this to inode {}", inode.owner, inode.id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(mode: u32) -> InodeRecord {
        InodeRecord {
            mode,
            owner: "ann".into(),
            group: "staff".into(),
            ..InodeRecord::default()
        }
    }

    fn may(user: &str, groups: &[&str], mode: u32, bits: u32) -> bool {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        Caller::new(user, &groups).check(&inode(mode), bits).is_ok()
    }

    #[test]
    fn the_empty_user_is_nobody_and_not_the_superuser() {
        assert_eq!(Caller::new("", &[]).user, "nobody");
        assert!(!may("", &[], 0o770, READ));
    }
}
