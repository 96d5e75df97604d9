//! Who may do what: mode bits, owner and group, checked here and nowhere else.
//!
//! The superuser `drystone` may do everything. For all others the first class that fits decides, as in POSIX:
//! owner, then group, then others. There is no sticky bit and no set-id.

use crate::read::Caller;
use crate::refusal::{ReadError, refuse};
use drystone_proto::record::InodeRecord;
use drystone_types::Code;

/// May do everything.
pub(crate) const SUPERUSER: &str = "drystone";

/// Read a file, list a directory.
pub(crate) const READ: u32 = 4;
/// Change a file's content or xattrs; change a directory's entries (with [`SEARCH`]).
pub(crate) const WRITE: u32 = 2;
/// Reach what is below a directory.
pub(crate) const SEARCH: u32 = 1;

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
        if self.is_superuser() {
            return Ok(());
        }
        let class = if self.user == inode.owner {
            inode.mode >> 6
        } else if self.in_group(&inode.group) {
            inode.mode >> 3
        } else {
            inode.mode
        };
        if class & bits == bits {
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
            group: "crew".into(),
            ..InodeRecord::default()
        }
    }

    fn may(user: &str, groups: &[&str], mode: u32, bits: u32) -> bool {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        Caller::new(user, &groups).check(&inode(mode), bits).is_ok()
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        assert!(may("ann", &[], 0o600, READ | WRITE));
        assert!(!may("ann", &["crew"], 0o077, READ));
        assert!(may("bob", &["crew"], 0o040, READ));
        assert!(!may("bob", &["crew"], 0o007, READ));
        assert!(may("bob", &["other"], 0o004, READ));
        assert!(!may("bob", &[], 0o004, READ | WRITE));
        assert!(may("drystone", &[], 0, READ | WRITE | SEARCH));
    }

    #[test]
    fn the_empty_user_is_nobody_and_not_the_superuser() {
        assert_eq!(Caller::new("", &[]).user, "nobody");
        assert!(!may("", &[], 0o770, READ));
    }
}
