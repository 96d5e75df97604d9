//! How a file is opened.

use crate::options::Consistency;
use crate::version::ContentVersion;

/// How a file is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadOptions {
    /// The content must be this one; otherwise `changed`.
    pub pinned: Option<ContentVersion>,
    /// See [`Consistency`].
    pub consistency: Consistency,
    /// Where reading will begin: only the locations from here on are fetched at once. Default 0.
    pub offset: u64,
    /// How much will be read from there, if it is known: saves locations that are not needed.
    pub length: Option<u64>,
    /// Ask the replica on this disk first, whatever its load (tests: to read one replica's bytes).
    pub prefer_disk: Option<u64>,
    /// Never send a second read because the first is slow.
    pub no_hedge: bool,
}
