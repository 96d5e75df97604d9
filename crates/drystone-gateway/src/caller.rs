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
    let name = value
        .to_str()
        .map_err(|_| "Drystone-User is not printable ASCII".to_owned())?;
    if name.is_empty() || name.len() > MAX_USER_BYTES {
        return Err(format!("Drystone-User must have 1 to {MAX_USER_BYTES} bytes"));
    }
    Ok(Caller::new(name))
}
