//! Namespace operations: each is one command or one look-up.

use crate::attributes::{
    Attributes, DeleteOptions, FileLayout, MakeDirectoryOptions, Page, RenameOptions, SetAttributes,
};
use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Attributes of a file or directory.
    ///
    /// # Errors
    /// `not_found`, `not_a_directory`, `denied`, `invalid`, `unavailable`.
    pub async fn stat(&self, _path: &str) -> Result<Attributes, Error> {
        unreachable!("written next")
    }

    /// Entries of a directory with names above `after` (empty: from the first) in byte order, `limit` (1 to 10,000)
    /// at most.
    ///
    /// # Errors
    /// As [`Client::stat`], and `not_a_directory`.
    pub async fn list(&self, _path: &str, _after: &str, _limit: u32) -> Result<Page, Error> {
        unreachable!("written next")
    }

    /// Attributes of a file and where every byte of it is, on which replicas.
    ///
    /// # Errors
    /// As [`Client::stat`]; `changed` if it was replaced while its pages were read.
    pub async fn extents(&self, _path: &str) -> Result<FileLayout, Error> {
        unreachable!("written next")
    }

    /// Makes a directory; true if it was not there before. Atomic, durable, exactly once.
    ///
    /// # Errors
    /// `exists` (without `parents`), `not_found`, `not_a_directory`, `denied`, `unknown`, `unavailable`.
    pub async fn make_directory(&self, _path: &str, _options: MakeDirectoryOptions) -> Result<bool, Error> {
        unreachable!("written next")
    }

    /// Renames a file or directory; atomic: at every moment it has exactly one of the names.
    ///
    /// # Errors
    /// `not_found`, `exists`, `not_empty`, `invalid` (below itself), `precondition_failed`, `denied`, `unknown`,
    /// `unavailable`.
    pub async fn rename(&self, _from: &str, _to: &str, _options: RenameOptions) -> Result<(), Error> {
        unreachable!("written next")
    }

    /// Deletes a file or directory; with `recursive` a whole tree at once.
    ///
    /// # Errors
    /// `not_found`, `not_empty`, `is_a_directory`, `not_a_directory`, `precondition_failed`, `denied`, `unknown`,
    /// `unavailable`.
    pub async fn delete(&self, _path: &str, _options: DeleteOptions) -> Result<(), Error> {
        unreachable!("written next")
    }

    /// Changes attributes in one step.
    ///
    /// # Errors
    /// `not_found`, `denied`, `invalid`, `precondition_failed`, `unknown`, `unavailable`.
    pub async fn set_attributes(&self, _path: &str, _changes: SetAttributes) -> Result<(), Error> {
        unreachable!("written next")
    }
}
