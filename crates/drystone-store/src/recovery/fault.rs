//! Why opening fails.

use crate::error::OpenError;
use std::io;

/// The disk failed while this was done.
pub(super) fn during(doing: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let doing = doing.into();
    move |source| OpenError::Io { doing, source }
}

/// What was durable is not there.
pub(super) fn damaged(
    place: impl Into<String>,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> OpenError {
    OpenError::Damaged {
        place: place.into(),
        expected: expected.into(),
        found: found.into(),
    }
}
