//! Sealed parts as a command records them, and what it means when one cannot be made.

use super::chunk::{SealedPart, Trouble};
use crate::error::{Error, ErrorKind};
use crate::meta::Failed;
use crate::target::Target;
use drystone_proto::command::{Content, NewExtent, Receipt};
use drystone_types::Code;
use std::collections::BTreeSet;

/// What the errors of a writer say was being done.
pub(super) const WRITE: &str = "write";

/// Sealed parts as a command records them.
pub(super) fn content(parts: &[SealedPart]) -> Content {
    for SealedPart { length, chunk, .. } in parts {
        let disks: BTreeSet<Option<u64>> = chunk
            .receipts
            .iter()
            .map(|receipt| receipt.replica.map(|replica| replica.disk))
            .collect();
        let first = chunk.receipts.first().map(|first| (first.checksum, first.epoch));
        let equal = |receipt: &Receipt| {
            receipt.chunk == chunk.chunk
                && receipt.length == *length
                && Some((receipt.checksum, receipt.epoch)) == first
        };
        assert!(
            !disks.is_empty() && disks.len() == chunk.receipts.len() && chunk.receipts.iter().all(equal),
            "equal receipts of distinct disks"
        );
    }
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
