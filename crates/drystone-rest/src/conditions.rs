//! Conditional requests (RFC 9110 section 13).
//!
//! Conditions are judged twice: by what a look-up finds, before a byte of the body is read, and again by the command
//! that is applied. The command knows content versions only, so a date is given to it as the version that was judged.

use crate::respond::invalid;
use drystone_client::{Attributes, Client, Code, ContentVersion, Precondition};
use drystone_gateway::Problem;
use drystone_gateway::time::parse_http_date;
use http::{HeaderMap, HeaderName, header};

const MICROS: u64 = 1_000_000;

/// What `If-Match` or `If-None-Match` names.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Tags {
    Any,
    // Tags that are not ours (or weak, where only strong ones count) match nothing and leave no entry.
    Some(Vec<ContentVersion>),
}

impl Tags {
    fn hold(&self, present: Option<ContentVersion>) -> bool {
        match (self, present) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::Some(versions), Some(present)) => versions.contains(&present),
        }
    }
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

/// The second that a date header names. What is not an HTTP date, or stands twice, is ignored (RFC 9110 sections
/// 13.1.3 and 13.1.4).
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    parse_http_date(value.to_str().ok()?).map(|micros| micros / MICROS)
}

/// How a condition ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on.
    Holds,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// The conditions of a request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    /// Seconds since 1970.
    if_unmodified_since: Option<u64>,
    /// Seconds since 1970.
    if_modified_since: Option<u64>,
}

impl Conditions {
    /// The conditions in `headers`.
    ///
    /// # Errors
    /// A malformed list of entity tags.
    pub fn parse(client: &Client, headers: &HeaderMap) -> Result<Self, Problem> {
        let if_match = tags(client, headers, &header::IF_MATCH)?;
        let if_none_match = tags(client, headers, &header::IF_NONE_MATCH)?;
        Ok(Self {
            // A date counts only where there is no list of tags.
            if_unmodified_since: date(headers, &header::IF_UNMODIFIED_SINCE).filter(|_| if_match.is_none()),
            if_modified_since: date(headers, &header::IF_MODIFIED_SINCE).filter(|_| if_none_match.is_none()),
            if_match,
            if_none_match,
        })
    }

    /// True if a change depends on what is there.
    pub fn guard_changes(&self) -> bool {
        self.if_match.is_some() || self.if_none_match.is_some() || self.if_unmodified_since.is_some()
    }

    /// True if nothing may have the name (`If-None-Match: *`).
    pub fn want_absence(&self) -> bool {
        self.if_none_match == Some(Tags::Any)
    }

    /// Judges a read of what is there.
    pub fn judge_read(&self, present: &Attributes) -> Verdict {
        self.judge_content_read(present.content_version(), present.modified)
    }

    /// Judges a read of this content, last modified at so many microseconds since 1970.
    pub(crate) fn judge_content_read(&self, version: ContentVersion, modified: u64) -> Verdict {
        let modified = modified / MICROS;
        let (version, is_newer) = (Some(version), |than: u64| modified > than);
        if self.if_match.as_ref().is_some_and(|tags| !tags.hold(version))
            || self.if_unmodified_since.is_some_and(is_newer)
        {
            return Verdict::Failed;
        }
        let is_known = self.if_none_match.as_ref().is_some_and(|tags| tags.hold(version))
            || self.if_modified_since.is_some_and(|since| !is_newer(since));
        if is_known {
            Verdict::NotModified
        } else {
            Verdict::Holds
        }
    }

    /// Judges a change of what is there (`None`: nothing has the name). `If-Modified-Since` is about reads alone.
    pub fn judge_change(&self, present: Option<&Attributes>) -> Verdict {
        let version = present.map(Attributes::content_version);
        let is_modified = |since: u64| present.is_some_and(|attributes| attributes.modified / MICROS > since);
        let fails = self.if_match.as_ref().is_some_and(|tags| !tags.hold(version))
            || self.if_unmodified_since.is_some_and(is_modified)
            || self.if_none_match.as_ref().is_some_and(|tags| tags.hold(version));
        if fails { Verdict::Failed } else { Verdict::Holds }
    }

    /// What the tags say must hold when a change is applied.
    pub fn precondition(&self) -> Precondition {
        let mut precondition = Precondition::default();
        match &self.if_match {
            None => {}
            Some(Tags::Any) => precondition.present = true,
            Some(Tags::Some(versions)) => {
                precondition.present = true;
                // No tag of ours is left: no content can match.
                precondition.versions = if versions.is_empty() {
                    vec![ContentVersion::default()]
                } else {
                    versions.clone()
                };
            }
        }
        match &self.if_none_match {
            None => {}
            Some(Tags::Any) => precondition.absent = true,
            Some(Tags::Some(versions)) => precondition.not_versions.clone_from(versions),
        }
        precondition
    }

    /// What must hold when a change is applied that was judged by `present`: what the tags say, and for a date that
    /// nothing has changed since it was compared.
    pub fn precondition_after(&self, present: Option<&Attributes>) -> Precondition {
        let mut precondition = self.precondition();
        if self.if_unmodified_since.is_some() {
            match present {
                // A version that nothing has: a date that failed must not hold by chance.
                Some(_) if self.judge_change(present) == Verdict::Failed => {
                    precondition.versions = vec![ContentVersion::default()];
                }
                Some(attributes) => precondition.versions = vec![attributes.content_version()],
                None => precondition.absent = true,
            }
        }
        precondition
    }
}

/// The refusal of a condition that does not hold.
pub fn failed(path: &str, present: Option<&str>) -> Problem {
    let detail = match present {
        Some(etag) => format!("{path} has the content {etag}"),
        None => format!("nothing has the name {path}"),
    };
    Problem::new(Code::PreconditionFailed, detail)
}

/// True if a `Range` header counts: there is no `If-Range`, or it names this content (a date names none for sure).
pub fn range_counts(client: &Client, headers: &HeaderMap, present: ContentVersion) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else {
        return true;
    };
    value.to_str().ok().and_then(|tag| client.parse_etag(tag)) == Some(present)
}

#[cfg(test)]
mod tests;
