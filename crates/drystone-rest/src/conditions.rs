//! Conditional requests (RFC 9110 section 13).

use crate::route::invalid;
use drystone_client::{Client, ContentVersion, Precondition};
use drystone_gateway::Problem;
use http::{HeaderMap, HeaderName, header};

enum Tags {
    Any,
    // Tags that are not ours (or weak, where only strong ones count) match nothing and leave no entry.
    Some(Vec<ContentVersion>),
}

fn tags(client: &Client, headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
    let mut found = Vec::new();
    let mut is_there = false;
    for value in headers.get_all(name) {
        is_there = true;
        let text = value
            .to_str()
            .map_err(|_| invalid(format!("{name} is not printable ASCII")))?;
        if text.trim() == "*" {
            return Ok(Some(Tags::Any));
        }
        let fault = || {
            invalid(format!(
                "{name}: {text} is no list of entity tags: write \"...\" or *"
            ))
        };
        let mut rest = text.trim();
        loop {
            let bare = rest.strip_prefix("W/").unwrap_or(rest);
            // A comma may stand inside a tag.
            let (tag, behind) = (bare.strip_prefix('"'))
                .and_then(|open| open.split_once('"'))
                .ok_or_else(fault)?;
            if bare.len() == rest.len() || name == header::IF_NONE_MATCH {
                found.extend(client.parse_etag(tag));
            }
            rest = behind.trim_start();
            if rest.is_empty() {
                break;
            }
            rest = rest.strip_prefix(',').ok_or_else(fault)?.trim_start();
        }
    }
    Ok(is_there.then_some(Tags::Some(found)))
}

/// What must hold for a change to be applied.
///
/// # Errors
/// A malformed header.
pub fn precondition(client: &Client, headers: &HeaderMap) -> Result<Precondition, Problem> {
    let mut precondition = Precondition::default();
    match tags(client, headers, &header::IF_MATCH)? {
        None => {}
        Some(Tags::Any) => precondition.present = true,
        Some(Tags::Some(versions)) => {
            precondition.present = true;
            // No tag of ours is left: no content can match.
            precondition.versions = if versions.is_empty() {
                vec![ContentVersion::default()]
            } else {
                versions
            };
        }
    }
    match tags(client, headers, &header::IF_NONE_MATCH)? {
        None => {}
        Some(Tags::Any) => precondition.absent = true,
        Some(Tags::Some(versions)) => precondition.not_versions = versions,
    }
    Ok(precondition)
}

/// How a conditional read ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send the content.
    Send,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Judges a read of `present`.
///
/// # Errors
/// A malformed header.
pub fn judge_read(client: &Client, headers: &HeaderMap, present: ContentVersion) -> Result<Verdict, Problem> {
    if let Some(Tags::Some(versions)) = tags(client, headers, &header::IF_MATCH)?
        && !versions.contains(&present)
    {
        return Ok(Verdict::Failed);
    }
    Ok(match tags(client, headers, &header::IF_NONE_MATCH)? {
        Some(Tags::Any) => Verdict::NotModified,
        Some(Tags::Some(versions)) if versions.contains(&present) => Verdict::NotModified,
        _ => Verdict::Send,
    })
}

/// True if a `Range` header counts: there is no `If-Range`, or it names this content.
pub fn range_counts(client: &Client, headers: &HeaderMap, present: ContentVersion) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    value.to_str().ok().and_then(|tag| client.parse_etag(tag)) == Some(present)
}
