//! A request whose head has been understood: for whom, about what, under which conditions.

use crate::conditions::Conditions;
use crate::door::Door;
use crate::respond::{SESSION_HEADER, invalid};
use drystone_client::{Client, Code, Idempotency};
use drystone_gateway::Problem;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

const KEY_HEADER: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 255;

/// A request whose head has been understood.
#[cfg_attr(any(test, fuzzing), derive(Clone))]
pub struct Call {
    /// For its caller and session.
    pub client: Client,
    /// Path in the namespace, decoded.
    pub path: String,
    /// Its parameters.
    pub query: Query,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its method.
    pub method: Method,
}

/// Query parameters; each name at most once, unknown ones refused.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode = |text: &str| -> Result<String, Problem> {
                let spaced = text.replace('+', " ");
                let bytes: Vec<u8> = percent_decode_str(&spaced).collect();
                String::from_utf8(bytes)
                    .map_err(|_| invalid(format!("the query parameter {text:?} is not UTF-8")))
            };
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let list = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                return Err(invalid(format!(
                    "unknown query parameter {name:?}: known here are {list}"
                )));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(invalid(format!("the query parameter {name} stands twice")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// A flag: `name`, `name=true` or `name=false`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(invalid(format!("{name} is {other:?}, must be true or false"))),
        }
    }
}

/// The first segment of a target's path, and what is behind it.
pub(crate) fn split(path: &str) -> (&str, Option<&str>) {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        Some((resource, rest)) => (resource, Some(rest)),
        None => (path, None),
    }
}

impl Call {
    /// The conditions in the headers.
    pub fn conditions(&self) -> Result<Conditions, Problem> {
        Conditions::parse(&self.client, &self.headers)
    }

    /// The `Idempotency-Key` with what it is used for.
    pub fn idempotency(&self) -> Result<Option<Idempotency>, Problem> {
        let Some(value) = self.headers.get(KEY_HEADER) else {
            return Ok(None);
        };
        let key = value
            .to_str()
            .map_err(|_| invalid("Idempotency-Key is not printable ASCII"))?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid(format!(
                "Idempotency-Key must have 1 to {MAX_KEY_BYTES} characters and no spaces"
            )));
        }
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(self.method.as_str().as_bytes());
        add(self.path.as_bytes());
        for (name, value) in &self.query.0 {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        for name in [
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_UNMODIFIED_SINCE,
            header::CONTENT_RANGE,
            // Of the body, which is not read before, as much as is said: another body is another request.
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            HeaderName::from_static("content-md5"),
            HeaderName::from_static("content-digest"),
            HeaderName::from_static("repr-digest"),
        ] {
            // All that stand there count.
            let values: Vec<&[u8]> = (self.headers.get_all(name).iter())
                .map(HeaderValue::as_bytes)
                .collect();
            add(&values.join(&b','));
        }
        let digest = hash.finalize();
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        Ok(Some(Idempotency {
            key: key.to_owned(),
            hash: short,
        }))
    }
}

impl Call {
    /// Understands the head of a request for a resource that knows these query parameters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn understand(
        door: &Door,
        method: &Method,
        (path, query): (&str, &str),
        headers: &HeaderMap,
        known: &[&str],
    ) -> Result<Call, Problem> {
        let (_, rest) = split(path);
        let bytes: Vec<u8> = percent_decode_str(rest.unwrap_or_default()).collect();
        let path = String::from_utf8(bytes).map_err(|_| invalid("the path is not UTF-8"))?;
        drystone_types::path::split_path(&path).map_err(|error| invalid(error.to_string()))?;
        let query = Query::parse(query, known)?;
        let caller = drystone_gateway::caller::caller(headers, &door.default_user).map_err(invalid)?;
        let mut client = door.client.as_caller(caller);
        if let Some(token) = headers.get(SESSION_HEADER) {
            client = with_session(&client, token)?;
        }
        Ok(Call {
            client,
            path: format!("/{}", path.trim_matches('/')),
            query,
            headers: headers.clone(),
            method: method.clone(),
        })
    }
}

/// A token of another history is no fault of the request: the cluster was restored since.
fn with_session(client: &Client, token: &HeaderValue) -> Result<Client, Problem> {
    let is_hex =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    let token = token.to_str().ok().filter(|token| {
        token.split_once('-').is_some_and(|(history, index)| {
            history.len() == 32 && index.len() <= 16 && is_hex(history) && is_hex(index)
        })
    });
    let token = token.ok_or_else(|| invalid("Drystone-Session is not a token of an earlier answer"))?;
    client.with_session_token(token).map_err(|_| {
        Problem::new(
            Code::Changed,
            "Drystone-Session is of another history: drop it and look again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_strict() {
        let query = Query::parse("limit=5&after=a%2Fb+c", &["limit", "after"]).unwrap();
        assert_eq!(
            (query.get("limit"), query.get("after")),
            (Some("5"), Some("a/b c"))
        );
        assert!(Query::parse("limit=5&limit=6", &["limit"]).is_err());
        assert!(Query::parse("colour=5", &["limit"]).is_err());
        assert!(Query::parse("limit=%ff", &["limit"]).is_err());
        assert!(
            Query::parse("parents", &["parents"])
                .unwrap()
                .flag("parents")
                .unwrap()
        );
        assert!(
            Query::parse("parents=1", &["parents"])
                .unwrap()
                .flag("parents")
                .is_err()
        );
    }
}
