//! Which file or directory is meant: by a path, by its inode, or by a path from a directory's inode.

use crate::error::{Error, ErrorKind};
use drystone_proto::command;
use drystone_types::{InodeId, path};
use std::fmt;

/// A file or directory that an operation is about.
///
/// | made by | is | follows renames of |
/// |---|---|---|
/// | [`Target::path`], `"/a/b".into()` | what has this path when the operation takes place | nothing |
/// | [`Target::inode`], `inode.into()` | this file or directory, wherever it is | itself and what is above it |
/// | [`Target::below`], `(directory, "a/b").into()` | what has this path from the directory | the directory and what is above it |
///
/// **Guarantees.** The server walks to the target in the same step in which the operation takes place: nothing changes
/// between the two. An inode that was deleted is `not_found` and never another file: ids are not used again. An inode
/// target is checked for permissions on itself, and on the names below it; not on the directories above it, as with an
/// open handle of a local file system. What needs a name (create, make a directory, rename, delete) takes a path or a
/// path from a directory; with an inode alone it is `invalid`. The path from the directory has at most 4,096 bytes,
/// so that every place can be named from some directory however deep it lies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Target {
    // 0: the root.
    base: u64,
    path: String,
}

impl Target {
    /// By its path from the root.
    pub fn path(path: impl Into<String>) -> Self {
        Self {
            base: 0,
            path: path.into(),
        }
    }

    /// By its inode.
    pub fn inode(inode: InodeId) -> Self {
        Self {
            base: inode.0,
            path: String::new(),
        }
    }

    /// By its name in `directory`, or a path from there. The empty path is the directory itself.
    pub fn below(directory: InodeId, path: impl Into<String>) -> Self {
        Self {
            base: directory.0,
            path: path.into(),
        }
    }

    /// The directory that it lies in; `None` if that is not known: of an inode alone, and of the root.
    pub(crate) fn parent(&self) -> Option<Target> {
        let path = self.path.trim_end_matches('/');
        let at = path.rfind('/').unwrap_or(0);
        (!path.is_empty()).then(|| Target {
            base: self.base,
            path: path[..at].to_owned(),
        })
    }

    /// As the wire has it, checked before anything is sent.
    ///
    /// # Errors
    /// `invalid` with what is wrong with the path.
    pub(crate) fn message(&self, operation: &'static str) -> Result<command::Target, Error> {
        path::split_path(&self.path)
            .map_err(|fault| Error::new(ErrorKind::Invalid, operation, fault.to_string()).because(fault))?;
        Ok(command::Target {
            base: self.base,
            path: self.path.clone(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.base, self.path.as_str()) {
            (0, path) => f.write_str(path),
            (base, "") => write!(f, "inode {base}"),
            (base, path) => write!(f, "{path} in inode {base}"),
        }
    }
}

impl From<&str> for Target {
    fn from(path: &str) -> Self {
        Self::path(path)
    }
}

impl From<&String> for Target {
    fn from(path: &String) -> Self {
        Self::path(path.as_str())
    }
}

impl From<String> for Target {
    fn from(path: String) -> Self {
        Self::path(path)
    }
}

impl From<InodeId> for Target {
    fn from(inode: InodeId) -> Self {
        Self::inode(inode)
    }
}

impl From<(InodeId, &str)> for Target {
    fn from((directory, path): (InodeId, &str)) -> Self {
        Self::below(directory, path)
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Self {
        target.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_named_from_the_same_base() {
        let parent = |target: Target| target.parent();
        assert_eq!(parent("/a/b/".into()), Some("/a".into()));
        assert_eq!(parent("/a".into()), Some("".into()));
        assert_eq!(parent("/".into()), None);
        assert_eq!(parent((InodeId(7), "a/b").into()), Some((InodeId(7), "a").into()));
        assert_eq!(parent((InodeId(7), "a").into()), Some(InodeId(7).into()));
        assert_eq!(parent(InodeId(7).into()), None);
    }

    #[test]
    fn a_path_is_checked_before_it_is_sent() {
        for bad in ["a//b", "a/../b", "a\0"] {
            let target = Target::below(InodeId(7), bad);
            assert_eq!(
                target.message("stat").unwrap_err().kind(),
                ErrorKind::Invalid,
                "{bad:?}"
            );
        }
        let sent = Target::below(InodeId(7), "a/b").message("stat").unwrap();
        assert_eq!((sent.base, sent.path.as_str()), (7, "a/b"));
    }
}
