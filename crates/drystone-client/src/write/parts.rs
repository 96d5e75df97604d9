//! Sealed parts as a command records them, and what it means when one cannot be made.

use super::chunk::{SealedPart, Trouble};
use crate::error::{Error, ErrorKind};
use crate::meta::Failed;
use crate::target::Target;
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

/// Nothing is visible yet, so whatever a server left unknown certainly did not happen.
pub(super) fn impossible(target: &Target, trouble: Trouble) -> Error {
    let code = match trouble.code {
        Code::Unknown | Code::Conflict | Code::NotFound | Code::Corrupt | Code::Invalid => Code::Unavailable,
        code => code,
    };
    Error::of_code(code, WRITE, format!("{target}: {}", trouble.message))
}

/// A step before the publication whose outcome is unknown has published nothing.
pub(super) fn not_visible(failed: Failed, target: &Target) -> Error {
    match failed.error.kind() {
        ErrorKind::Unknown => Error::new(ErrorKind::Unavailable, WRITE, failed.error.context()).about(target),
        _ => failed.error.about(target),
    }
}
