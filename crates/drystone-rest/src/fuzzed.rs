//! What holds for every request: the body of the fuzz target `rest`.

use crate::call::{Call, split};
use crate::conditions::{Verdict, range_counts};
use crate::door::Door;
use crate::metadata::{Wanted, encode_path};
use crate::route::parameters;
use crate::{directories, files, range};
use drystone_client::{Client, ContentVersion, Precondition, WriteMode};
use drystone_env::Env;
use drystone_gateway::time::{parse_rfc3339, rfc3339};
use drystone_types::path::split_path;
use drystone_types::{InodeId, Since};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Nobody sets a file's time beyond it, and no later time can be written so that it is read again.
const END_OF_TIME: u64 = 253_402_300_800_000_000;

/// A door whose client is connected to something that is never asked.
pub struct Subject(Door);

impl Subject {
    /// For this client.
    pub fn new(env: Env, client: Client) -> Self {
        let default_user = "somebody".to_owned();
        Self(Door {
            env,
            client,
            default_user,
        })
    }

    /// A request as text: method and target, a line for each header, an empty line, a body. `{etag}` stands for an ETag
    /// of the cluster, `{session}` for a token of it. Understanding never panics; what is understood means the same
    /// when it is written in another way, and its numbers mean what is there.
    pub fn rest(&self, text: &[u8]) {
        let client = &self.0.client;
        let version = ContentVersion {
            inode: InodeId(258),
            version: Since(70_000),
        };
        let text = String::from_utf8_lossy(text)
            .replace("{etag}", &client.etag(version))
            .replace("{session}", &client.session_token());
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else {
            return;
        };
        let (Ok(method), Ok(target)) = (method.parse::<Method>(), target.parse::<Uri>()) else {
            return;
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.append(name, value);
            }
        }
        let (path, query) = (target.path(), target.query().unwrap_or_default());
        let (resource, rest) = split(path);
        let Ok(known) = parameters(resource, rest.is_some(), &method) else {
            return;
        };
        let understood = Call::understand(&self.0, &method, (path, query), &headers, known);
        if let Ok(call) = understood {
            self.written_again(&call, resource, rest.is_some(), known);
            check(&call, resource, version, body.as_bytes());
        }
    }

    /// The same request in the one way in which a client would write it.
    fn written_again(&self, call: &Call, resource: &str, has_path: bool, known: &[&str]) {
        split_path(&call.path).expect("a path that was checked");
        let path = if has_path {
            format!("/{resource}{}", encode_path(&call.path))
        } else {
            format!("/{resource}")
        };
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let query: Vec<String> = (known.iter())
            .filter_map(|name| Some(format!("{}={}", encoded(name), encoded(call.query.get(name)?))))
            .collect();
        let target = format!("{path}?{}", query.join("&"));
        let target: Uri = target.parse().expect("what is encoded is a target");
        let target = (target.path(), target.query().unwrap_or_default());
        let again = Call::understand(&self.0, &call.method, target, &call.headers, known);
        let Ok(again) = again else {
            panic!("{target:?} was understood before");
        };
        assert_eq!(again.path, call.path);
        assert_eq!(again.client.caller().user, call.client.caller().user);
        assert_eq!(again.client.session_token(), call.client.session_token());
        for name in known {
            assert_eq!(again.query.get(name), call.query.get(name), "{name}");
        }
    }
}

fn check(call: &Call, resource: &str, version: ContentVersion, body: &[u8]) {
    for name in ["parents", "append", "recursive", "extents"] {
        if let Ok(true) = call.query.flag(name) {
            assert!(call.query.get(name).is_some());
        }
    }
    if let Ok(limit) = directories::limit(&call.query) {
        assert!((1..=10_000).contains(&limit));
    }
    if let Ok(Some(idempotency)) = call.idempotency() {
        assert!((1..=255).contains(&idempotency.key.len()));
        let again = call.idempotency().ok().flatten().expect("it was one before");
        assert_eq!((again.key, again.hash), (idempotency.key, idempotency.hash));
        let mut other = call.clone();
        other
            .headers
            .append("if-match", HeaderValue::from_static("\"other\""));
        let other = other.idempotency().ok().flatten().expect("it is one still");
        assert_ne!(other.hash, idempotency.hash, "another request under the same key");
    }
    ranges(call, version);
    conditions(call, version);
    match (resource, call.method.as_str()) {
        ("files", "PUT") => replacement(call, body),
        ("files", "POST") => {
            if let Ok(options) = files::creation(call, None) {
                let appends = matches!(options.mode, WriteMode::Append);
                assert!(appends || options.precondition.absent);
            }
        }
        ("metadata", "PUT") => change(call, body),
        _ => {}
    }
}

/// A part lies inside its file, and is the one that its first and last byte name.
fn ranges(call: &Call, version: ContentVersion) {
    let _ = range_counts(&call.client, &call.headers, version);
    let header = |name| {
        call.headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    for size in [0, 1, 100, u64::from(u32::MAX), u64::MAX] {
        let Some(Ok(Some(part))) = header("range").map(|text| range::requested(text, size)) else {
            continue;
        };
        let end = part
            .offset
            .checked_add(part.length)
            .expect("a part that has an end");
        assert!(part.length > 0 && end <= size);
        let plain = format!("bytes={}-{}", part.offset, end - 1);
        assert_eq!(range::requested(&plain, size).ok(), Some(Some(part)));
    }
    if let Some(Ok(part)) = header("content-range").map(range::written) {
        let end = part
            .offset
            .checked_add(part.length)
            .expect("a part that has an end");
        assert!(part.length > 0);
        let plain = format!("bytes {}-{}/*", part.offset, end - 1);
        assert_eq!(range::written(&plain).ok(), Some(part));
    }
}

/// Tags that a header names are the ones that count, and a date where there are none.
fn conditions(call: &Call, version: ContentVersion) {
    let Ok(conditions) = call.conditions() else { return };
    let found = conditions.precondition();
    let there = |name: &str| call.headers.contains_key(name);
    assert_eq!(found.present, there("if-match"));
    assert!(found.versions.is_empty() || there("if-match"));
    assert!(there("if-none-match") || (!found.absent && found.not_versions.is_empty()));
    // Later than every date, then earlier.
    let late = conditions.judge_content_read(version, u64::MAX);
    let early = conditions.judge_content_read(version, 0);
    let Precondition {
        absent,
        versions,
        not_versions,
        ..
    } = found;
    let failed = !versions.is_empty() && !versions.contains(&version);
    assert_eq!(early == Verdict::Failed, failed);
    assert!(late == early || there("if-unmodified-since") || there("if-modified-since"));
    let known = absent || not_versions.contains(&version);
    if !there("if-modified-since") {
        assert_eq!(early == Verdict::NotModified, !failed && known);
    }
    for version in versions.into_iter().chain(not_versions) {
        assert_eq!(call.client.parse_etag(&call.client.etag(version)), Some(version));
    }
}

fn replacement(call: &Call, body: &[u8]) {
    let length = body.len() as u64;
    let Ok((options, expected)) = files::replacement(call, Some(length)) else {
        return;
    };
    assert!(expected.length.is_none_or(|expected| expected == length));
    assert_eq!(options.size_hint, Some(length));
    if let WriteMode::Range(offset) = options.mode {
        offset.checked_add(length).expect("a range that has an end");
    }
}

fn change(call: &Call, body: &[u8]) {
    match Wanted::understand(call, body) {
        Ok(Wanted::Rename(to, _)) => {
            split_path(&to).expect("a path that was checked");
        }
        Ok(Wanted::Attributes(wanted, policy)) => {
            assert!(wanted.mode.is_none_or(|mode| mode <= 0o7777));
            assert!(!(wanted.inherit_policy && policy.is_some()));
            for time in wanted.modified.into_iter().chain(wanted.accessed) {
                assert!(time < END_OF_TIME);
                assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
            }
            let held: usize = wanted.set_xattrs.values().map(|value| value.len()).sum();
            assert!(held <= body.len());
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
