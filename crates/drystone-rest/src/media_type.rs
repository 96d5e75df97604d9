//! The media type of a file: what its upload said in `Content-Type`, kept as the extended attribute
//! [`CONTENT_TYPE_XATTR`], set by the command that publishes the content, and returned as it came.

use crate::respond::invalid;
use bytes::Bytes;
use drystone_client::{Attributes, SetAttributes, WriteMode};
use drystone_gateway::{CONTENT_TYPE_XATTR, Problem};
use http::{HeaderMap, HeaderValue, header};

/// Of a file for which nobody named one.
const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// Longer than any media type with its parameters.
const MAX_BYTES: usize = 1024;

/// The media type of a file.
pub(crate) fn of(attributes: &Attributes) -> HeaderValue {
    (attributes.xattrs.get(CONTENT_TYPE_XATTR))
        .and_then(|value| checked(value).ok())
        .unwrap_or(UNKNOWN)
}

/// What an upload in this `mode` makes of the type of its file: that of its headers, or none. A part of a file does not
/// change the type of the whole.
///
/// # Errors
/// If the header is no media type.
pub(crate) fn changed(headers: &HeaderMap, mode: WriteMode) -> Result<SetAttributes, Problem> {
    let mut changes = SetAttributes::default();
    if mode != WriteMode::Replace {
        return Ok(changes);
    }
    let name = CONTENT_TYPE_XATTR.to_owned();
    match headers.get(header::CONTENT_TYPE) {
        None => changes.remove_xattrs.push(name),
        Some(value) => {
            checked(value.as_bytes()).map_err(|()| {
                invalid("Content-Type must be a media type, as text/plain, of at most 1024 bytes")
            })?;
            let value = Bytes::copy_from_slice(value.as_bytes());
            changes.set_xattrs.insert(name, value);
        }
    }
    Ok(changes)
}

fn checked(value: &[u8]) -> Result<HeaderValue, ()> {
    let text = std::str::from_utf8(value).map_err(|_| ())?;
    let is_token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_type = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    if !is_type || text.len() > MAX_BYTES {
        return Err(());
    }
    HeaderValue::from_str(text).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &str, mode: WriteMode) -> Result<Option<Bytes>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        match changed(&headers, mode) {
            Ok(changes) => Ok(changes.set_xattrs.into_values().next()),
            Err(fault) => Err(fault.status),
        }
    }

    #[test]
    fn media_types_are_kept_as_they_came() {
        for value in [
            "text/plain",
            "text/html; charset=utf-8",
            "application/vnd.api+json",
            "multipart/form-data; boundary=\"x y\"",
        ] {
            let kept = Some(Bytes::from(value.to_owned()));
            assert_eq!(sent(value, WriteMode::Replace), Ok(kept));
            assert_eq!(sent(value, WriteMode::Append), Ok(None));
        }
        for value in ["", "text", "text/", "/plain", "te xt/plain", "a/b/c"] {
            assert_eq!(sent(value, WriteMode::Replace), Err(400), "{value}");
        }
        let long = format!("a/{}", "b".repeat(1024));
        assert_eq!(sent(&long, WriteMode::Replace), Err(400));
    }

    #[test]
    fn new_content_without_a_type_has_none() {
        let changes = changed(&HeaderMap::new(), WriteMode::Replace).unwrap();
        assert_eq!(changes.remove_xattrs, [CONTENT_TYPE_XATTR]);
        let changes = changed(&HeaderMap::new(), WriteMode::Range(5)).unwrap();
        assert_eq!(changes, SetAttributes::default());
    }
}
