use std::io;

/// Why a directory has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It was never formatted.
    #[error("the directory is not formatted: run `drystone format`")]
    NotFormatted,
    /// It is formatted already; formatting it again would forget who it is.
    #[error("the directory is formatted already")]
    AlreadyFormatted,
    /// It holds files that are not ours to overwrite.
    #[error("the directory is not empty: it holds {0:?}")]
    NotEmpty(String),
    /// A file does not match its checksum, or is not ours.
    #[error("{file} is damaged: {what} is {found:#x}, expected {expected:#x}")]
    Damaged {
        /// The file.
        file: &'static str,
        /// The part of it.
        what: &'static str,
        /// In the file.
        found: u64,
        /// What should be there.
        expected: u64,
    },
    /// The file is whole but says something impossible.
    #[error("{file} is malformed: {reason}")]
    Malformed {
        /// The file.
        file: &'static str,
        /// For people.
        reason: String,
    },
    /// Written by a version of Drystone that this one does not know.
    #[error("{file} has format {found}, this build reads {supported}")]
    Version {
        /// The file.
        file: &'static str,
        /// In the file.
        found: u32,
        /// The newest that can be read.
        supported: u32,
    },
    /// The disk failed.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl IdentityError {
    pub(crate) fn io(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}
