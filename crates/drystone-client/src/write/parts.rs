//! Sealed parts as a command records them, and what it means when one cannot be made.

use super::chunk::{SealedPart, Trouble};
use crate::error::{Error, ErrorKind};
use crate::meta::Failed;
use drystone_proto::command::{Content, NewExtent};
use drystone_types::Code;

/// What the errors of a writer say was being done.
pub(super) const WRITE: &str = "write";

/// Sealed parts as a command records them.
pub(super) fn content(parts: &[SealedPart]) -> Content {
    let extent = |part: &SealedPart| NewExtent {
        length: part.length,
        chunk: part.chunk.chunk,
        chunk_offset: 0,
    };
    Content {
        inline: None,
        extents: parts.iter().map(extent).collect(),
        chunks: parts.iter().map(|part| part.chunk.clone()).collect(),
    }
}

/// The path of the directory that `path` lies in; the root's is empty.
pub(super) fn parent_path(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rfind('/').map_or("", |at| &path[..at])
}

/// Nothing is visible yet, so whatever a server left unknown certainly did not happen.
pub(super) fn impossible(path: &str, trouble: Trouble) -> Error {
    let code = match trouble.code {
        Code::Unknown | Code::Conflict | Code::NotFound | Code::Corrupt | Code::Invalid => Code::Unavailable,
        code => code,
    };
    Error::of_code(code, WRITE, format!("{path}: {}", trouble.message))
}

/// A step before the publication whose outcome is unknown has published nothing.
pub(super) fn not_visible(failed: Failed, path: &str) -> Error {
    match failed.error.kind() {
        ErrorKind::Unknown => Error::new(ErrorKind::Unavailable, WRITE, failed.error.context()).about(path),
        _ => failed.error.about(path),
    }
}
