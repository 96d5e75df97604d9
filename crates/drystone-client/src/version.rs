//! Content versions, what an ETag stands for, and preconditions on them.

use drystone_proto::command;
use drystone_types::{HistoryId, InodeId, Since};
use std::fmt::Write as _;

/// One content of one file: it never changes, and no other content has it. A file that is deleted and created
/// again has another inode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ContentVersion {
    /// The file.
    pub inode: InodeId,
    /// Its content.
    pub version: Since,
}

impl ContentVersion {
    pub(crate) fn tag(self) -> command::VersionTag {
        command::VersionTag {
            inode: self.inode.0,
            version: self.version.0,
        }
    }

    /// The ETag, with its quotes: history, inode and version in hexadecimal.
    pub(crate) fn etag(self, history: HistoryId) -> String {
        let mut tag = String::with_capacity(72);
        let _ = write!(tag, "\"{history}-{:x}-{:x}\"", self.inode.0, self.version.0);
        tag
    }

    /// The version that `etag` (with or without quotes) stands for; `None` if it is not one of this history.
    pub(crate) fn from_etag(etag: &str, history: HistoryId) -> Option<Self> {
        let bare = etag.trim();
        let bare = bare
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .unwrap_or(bare);
        let mut parts = bare.split('-');
        let (of, inode, version) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || HistoryId::from_hex(of)? != history {
            return None;
        }
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            inode: InodeId(number(inode)?),
            version: Since(number(version)?),
        })
    }
}

/// What must hold for the target's present content when the command is applied. The default asks nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Precondition {
    /// The name must be free (`If-None-Match: *`); otherwise `exists`.
    pub absent: bool,
    /// The name must exist (`If-Match: *`).
    pub present: bool,
    /// It must have one of these contents (`If-Match`); empty: any.
    pub versions: Vec<ContentVersion>,
    /// It must have none of these (`If-None-Match`).
    pub not_versions: Vec<ContentVersion>,
}

impl Precondition {
    /// The name must be free.
    pub fn absent() -> Self {
        Self {
            absent: true,
            ..Self::default()
        }
    }

    /// It must have this content.
    pub fn version(version: ContentVersion) -> Self {
        Self {
            versions: vec![version],
            ..Self::default()
        }
    }

    pub(crate) fn message(&self) -> Option<command::Precondition> {
        (*self != Self::default()).then(|| command::Precondition {
            absent: self.absent,
            present: self.present,
            versions: self.versions.iter().map(|version| version.tag()).collect(),
            not_versions: self.not_versions.iter().map(|version| version.tag()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_leads_back_to_its_version_in_its_history_only() {
        let (history, other) = (HistoryId([7; 16]), HistoryId([8; 16]));
        let version = ContentVersion {
            inode: InodeId(258),
            version: Since(70_000),
        };
        let tag = version.etag(history);
        assert_eq!(tag, format!("\"{history}-102-11170\""));
        assert_eq!(ContentVersion::from_etag(&tag, history), Some(version));
        assert_eq!(
            ContentVersion::from_etag(tag.trim_matches('"'), history),
            Some(version)
        );
        assert_eq!(ContentVersion::from_etag(&tag, other), None);
        for bad in ["", "\"\"", "*", "\"x-1-2\"", "\"1-2-3-4\""] {
            assert_eq!(ContentVersion::from_etag(bad, history), None, "{bad}");
        }
    }
}
