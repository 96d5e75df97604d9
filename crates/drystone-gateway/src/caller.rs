//! On whose behalf a request is done, until there is authentication: who the request says it is.

use drystone_client::Caller;
use http::HeaderMap;

/// Names the user of a request.
pub const USER_HEADER: &str = "drystone-user";
/// The longest user name.
const MAX_USER_BYTES: usize = 64;

/// The caller that the headers name, or `default`.
///
/// # Errors
/// In words, if the header is not a user name.
pub fn caller(headers: &HeaderMap, default: &str) -> Result<Caller, String> {
    let Some(value) = headers.get(USER_HEADER) else {
        return Ok(Caller::new(default));
    };
    let bytes = value.as_bytes();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(byte);
    if bytes.is_empty() || bytes.len() > MAX_USER_BYTES || !bytes.iter().all(is_name) {
        return Err(format!(
            "Drystone-User must have 1 to {MAX_USER_BYTES} letters, digits and _ . @ -"
        ));
    }
    Ok(Caller::new(String::from_utf8_lossy(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_user_name_is_checked_and_its_absence_is_the_default() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_HEADER, HeaderValue::from_bytes(value).unwrap());
            caller(&headers, "me").map(|caller| caller.user)
        };
        assert_eq!(caller(&HeaderMap::new(), "me").unwrap().user, "me");
        assert_eq!(of(b"ada.l@example-1").unwrap(), "ada.l@example-1");
        for bad in [&b""[..], b"{}", b"a b", b"\xff", &[b'a'; 65]] {
            assert!(of(bad).is_err());
        }
    }
}
