//! Names and paths: what is accepted, checked in one place.

use std::fmt;

/// The longest name in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest path in a request, in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// The longest target of a symbolic link, in bytes: what Linux takes.
pub const MAX_LINK_BYTES: usize = 4095;

/// Why a path or a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path is longer than [`MAX_PATH_BYTES`].
    #[error("the path has {0} bytes, at most {MAX_PATH_BYTES} are allowed")]
    PathTooLong(usize),
    /// A name is longer than [`MAX_NAME_BYTES`].
    #[error("the name {0:?}... has {1} bytes, at most {MAX_NAME_BYTES} are allowed")]
    NameTooLong(String, usize),
    /// A name is empty, as in `a//b`.
    #[error("the path has an empty name at byte {0}")]
    EmptyName(usize),
    /// `.` and `..` are not names.
    #[error("{0:?} is not a name")]
    Dots(String),
    /// A name holds NUL or `/`.
    #[error("a name may not hold {0:?}")]
    Forbidden(char),
    /// The operation needs a name and the path is the root.
    #[error("the root directory cannot be the target of this operation")]
    Root,
}

/// One component of a path: UTF-8, 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks `name`.
    ///
    /// # Errors
    /// Any [`PathError`] but the two about paths.
    pub fn new(name: &str) -> Result<Self, PathError> {
        if name.is_empty() {
            return Err(PathError::EmptyName(0));
        }
        if name.len() > MAX_NAME_BYTES {
            return Err(PathError::NameTooLong(
                name.chars().take(32).collect(),
                name.len(),
            ));
        }
        if name == "." || name == ".." {
            return Err(PathError::Dots(name.to_owned()));
        }
        if let Some(bad) = name.chars().find(|&c| c == '/' || c == '\0') {
            return Err(PathError::Forbidden(bad));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Splits a path into its checked names. One leading and one trailing slash are allowed; the empty path and
/// `/` are the root and give no names.
///
/// # Errors
/// [`PathError`] naming the first fault.
pub fn split_path(path: &str) -> Result<Vec<Name>, PathError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(PathError::PathTooLong(path.len()));
    }
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
    if trimmed.is_empty() {
        return if path.len() > 1 {
            Err(PathError::EmptyName(1))
        } else {
            Ok(Vec::new())
        };
    }
    let mut names = Vec::new();
    let mut at = path.len() - path.strip_prefix('/').unwrap_or(path).len();
    for part in trimmed.split('/') {
        if part.is_empty() {
            return Err(PathError::EmptyName(at));
        }
        at += part.len() + 1;
        names.push(Name::new(part)?);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Result<Vec<String>, PathError> {
        split_path(path).map(|names| names.iter().map(Name::to_string).collect())
    }

    #[test]
    fn root_has_no_names() {
        assert_eq!(names(""), Ok(vec![]));
        assert_eq!(names("/"), Ok(vec![]));
    }

    #[test]
    fn one_leading_and_trailing_slash_are_allowed() {
        for path in ["a/b", "/a/b", "a/b/", "/a/b/"] {
            assert_eq!(names(path), Ok(vec!["a".into(), "b".into()]), "{path}");
        }
    }

    #[test]
    fn absurd_names_are_refused() {
        assert_eq!(names("//"), Err(PathError::EmptyName(1)));
        assert_eq!(names("a//b"), Err(PathError::EmptyName(2)));
        assert_eq!(names("/a//b"), Err(PathError::EmptyName(3)));
        assert_eq!(names("a/../b"), Err(PathError::Dots("..".into())));
        assert_eq!(names("./a"), Err(PathError::Dots(".".into())));
        assert_eq!(names("a\0b"), Err(PathError::Forbidden('\0')));
        assert!(matches!(
            names(&"x".repeat(256)),
            Err(PathError::NameTooLong(_, 256))
        ));
        assert!(names(&"x".repeat(255)).is_ok());
        assert_eq!(names(&"x/".repeat(2049)), Err(PathError::PathTooLong(4098)));
    }
}
