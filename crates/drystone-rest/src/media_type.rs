//! The media type of a file: what its upload said in `Content-Type`, kept as the extended attribute
//! [`CONTENT_TYPE_XATTR`] and returned as it came.

use crate::route::{Call, invalid};
use bytes::Bytes;
use drystone_client::{Attributes, ErrorKind, Precondition, Published, SetAttributes, WriteMode};
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

/// What the headers of an upload in this `mode` say: a part of a file does not change the type of the whole.
///
/// # Errors
/// If it is no media type.
pub(crate) fn named(headers: &HeaderMap, mode: WriteMode) -> Result<Option<Bytes>, Problem> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .filter(|_| mode == WriteMode::Replace);
    let Some(value) = value else { return Ok(None) };
    checked(value.as_bytes())
        .map(|value| Some(Bytes::copy_from_slice(value.as_bytes())))
        .map_err(|()| invalid("Content-Type must be a media type, as text/plain, of at most 1024 bytes"))
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

impl Call {
    /// Keeps the media type of what was published, unless it was replaced since: then that has a type of its own.
    ///
    /// # Errors
    /// If the namespace does not answer: the content is there, its type perhaps not, and the request may be repeated.
    pub(crate) async fn keep_media_type(&self, value: Bytes, published: &Published) -> Result<(), Problem> {
        let attributes = SetAttributes {
            set_xattrs: [(CONTENT_TYPE_XATTR.to_owned(), value)].into(),
            precondition: Precondition::version(published.content_version()),
            ..SetAttributes::default()
        };
        match self.client.set_attributes(&self.path, attributes).await {
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::PreconditionFailed | ErrorKind::NotFound | ErrorKind::IsADirectory
                ) =>
            {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &str, mode: WriteMode) -> Result<Option<Bytes>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        named(&headers, mode).map_err(|fault| fault.status)
    }

    #[test]
    fn media_types_are_kept_as_they_came() {
        for value in [
            "text/plain",
            "text/html; charset=utf-8",
            "application/vnd.api+json",
            "multipart/form-data; boundary=\"x y\"",
        ] {
            assert_eq!(
                sent(value, WriteMode::Replace),
                Ok(Some(Bytes::from(value.to_owned())))
            );
            assert_eq!(sent(value, WriteMode::Append), Ok(None));
        }
        for value in ["", "text", "text/", "/plain", "te xt/plain", "a/b/c"] {
            assert_eq!(sent(value, WriteMode::Replace), Err(400), "{value}");
        }
        assert_eq!(
            sent(&format!("a/{}", "b".repeat(1024)), WriteMode::Replace),
            Err(400)
        );
    }
}
