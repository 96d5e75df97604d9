//! Mode bits: what owner, group and mode of a file or directory let somebody do.
//!
//! The superuser may do everything. For all others the first class that fits decides, as in POSIX: owner, then
//! group, then others. There is no sticky bit and no set-id.

/// May do everything.
pub const SUPERUSER: &str = "drystone";

/// Read a file, list a directory.
pub const READ: u32 = 4;
/// Change a file's content or xattrs; change a directory's entries (with [`SEARCH`]).
pub const WRITE: u32 = 2;
/// Reach what is below a directory.
pub const SEARCH: u32 = 1;

/// Who may do what to one file or directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode<'a> {
    /// Permission bits.
    pub bits: u32,
    /// Its owner.
    pub owner: &'a str,
    /// Its group.
    pub group: &'a str,
}

impl Mode<'_> {
    /// True if `user`, a member of `groups`, may do all of `wanted` ([`READ`], [`WRITE`], [`SEARCH`]).
    pub fn grants(&self, user: &str, groups: &[String], wanted: u32) -> bool {
        if user == SUPERUSER {
            return true;
        }
        let class = if user == self.owner {
            self.bits >> 6
        } else if groups.iter().any(|group| group == self.group) {
            self.bits >> 3
        } else {
            self.bits
        };
        class & wanted == wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(user: &str, groups: &[&str], bits: u32, wanted: u32) -> bool {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let mode = Mode {
            bits,
            owner: "ann",
            group: "staff",
        };
        mode.grants(user, &groups, wanted)
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        assert!(may("ann", &[], 0o600, READ | WRITE));
        assert!(!may("ann", &["staff"], 0o077, READ));
        assert!(may("bob", &["staff"], 0o040, READ));
        assert!(!may("bob", &["staff"], 0o007, READ));
        assert!(may("bob", &["other"], 0o004, READ));
        assert!(!may("bob", &[], 0o004, READ | WRITE));
        assert!(may(SUPERUSER, &[], 0, READ | WRITE | SEARCH));
    }
}
