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

/// The user as whom this process runs: `USER`, or where that is not set (services, containers) the name of its
/// user id in /etc/passwd; `nobody` if it has none.
pub fn system_user() -> String {
    let named = std::env::var("USER").ok().filter(|user| !user.is_empty());
    named
        .or_else(|| {
            let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
            name_of(rustix::process::geteuid().as_raw(), &passwd)
        })
        .unwrap_or_else(|| "nobody".to_owned())
}

/// The name of a user id in the text of /etc/passwd (`name:password:uid:...`).
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_user_id_has_the_first_name_in_the_table() {
        let passwd = "# a comment\n\nada:x:1000:1000:Ada:/home/ada:/bin/sh\nroot:x:0:0::/root:/bin/sh\ntoor:x:0:0:::\n:x:7::::\n";
        let of = |uid| name_of(uid, passwd);
        assert_eq!(of(0).as_deref(), Some("root"));
        assert_eq!(of(1000).as_deref(), Some("ada"));
        assert_eq!((of(7), of(100), of(1)), (None, None, None));
    }

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
