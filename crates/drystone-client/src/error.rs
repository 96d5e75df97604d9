//! The one error type of the public API, and what a caller does next.

use drystone_types::Code;
use std::fmt;
use std::sync::Arc;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// What went wrong, by what the caller does next. Each is the [`Code`] of the same name.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            /// Every kind.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)*];
            /// The stable code that doors tell.
            pub const fn code(self) -> Code { match self { $(ErrorKind::$name => Code::$name,)* } }
        }
    };
}

kinds! {
    /// The name does not exist (nor, for a creation, its parent). Nothing was done.
    NotFound;
    /// The name is taken. Nothing was done.
    Exists;
    /// The directory has entries: say `recursive`. Nothing was done.
    NotEmpty;
    /// A file was needed. Nothing was done.
    IsADirectory;
    /// A directory was needed. Nothing was done.
    NotADirectory;
    /// The path leads through a symbolic link, or names one where a file or directory was needed: look the link up and
    /// go on with its target, if it shall be followed. Nothing was done.
    IsALink;
    /// The content that was being read, or prepared against, was replaced meanwhile: open it again.
    Changed;
    /// The given precondition does not hold: look again, decide again. Nothing was done.
    PreconditionFailed;
    /// The request makes no sense; repeating it cannot help. Nothing was done.
    Invalid;
    /// The range lies outside the file. Nothing was done.
    Range;
    /// The caller may not do this. Nothing was done.
    Denied;
    /// A limit was exceeded. Nothing was done.
    TooLarge;
    /// The idempotency key belongs to another request. Nothing was done.
    IdempotencyKeyReused;
    /// Overloaded: come back after [`Error::retry`] says. Nothing was done.
    Busy;
    /// Nobody who could do this was reached in time. Nothing was done: repeating it is safe.
    Unavailable;
    /// Fewer failure domains than the policy names take data. Nothing was done.
    NotEnoughDomains;
    /// It may or may not have happened: look, or repeat it with the same idempotency key.
    Unknown;
    /// The cluster is full. Nothing was done: free space first.
    NoSpace;
    /// No copy of the bytes passes its checksum. Reading again cannot help until repair or an operator has acted.
    Corrupt;
    /// This version of the cluster cannot do it.
    NotSupported;
}

impl ErrorKind {
    /// The kind under which a code from the wire is told. Codes that only concern servers among themselves become
    /// what they mean to a caller.
    pub const fn from_code(code: Code) -> Self {
        match code {
            Code::NotFound => ErrorKind::NotFound,
            Code::Exists => ErrorKind::Exists,
            Code::NotEmpty => ErrorKind::NotEmpty,
            Code::IsADirectory => ErrorKind::IsADirectory,
            Code::NotADirectory => ErrorKind::NotADirectory,
            Code::IsALink => ErrorKind::IsALink,
            Code::Changed | Code::Conflict | Code::PolicyDiffers => ErrorKind::Changed,
            Code::PreconditionFailed => ErrorKind::PreconditionFailed,
            Code::Invalid => ErrorKind::Invalid,
            Code::Range => ErrorKind::Range,
            Code::Denied => ErrorKind::Denied,
            Code::TooLarge => ErrorKind::TooLarge,
            Code::IdempotencyKeyReused => ErrorKind::IdempotencyKeyReused,
            Code::Busy => ErrorKind::Busy,
            Code::Unavailable
            | Code::NotLeader
            | Code::Stranger
            | Code::GrantExpired
            | Code::Fenced
            | Code::InlineRefused => ErrorKind::Unavailable,
            Code::NotEnoughDomains => ErrorKind::NotEnoughDomains,
            Code::Unknown | Code::SessionUnknown => ErrorKind::Unknown,
            Code::NoSpace => ErrorKind::NoSpace,
            Code::Corrupt => ErrorKind::Corrupt,
            Code::NotSupported => ErrorKind::NotSupported,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code().name())
    }
}

/// Whether repeating the operation can help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// Not as it is.
    Never,
    /// After looking again (open the file again, take the new version).
    AfterLook,
    /// Yes, after this many milliseconds: nothing was done.
    After(u64),
    /// Only idempotently: it may have happened.
    Idempotently,
}

/// Why an operation did not succeed.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    context: String,
    retry_after_ms: u64,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `operation` about `context` (a path, and what was met, for people).
    pub fn new(kind: ErrorKind, operation: &'static str, context: impl Into<String>) -> Self {
        Self {
            kind,
            operation,
            context: context.into(),
            retry_after_ms: 0,
            source: None,
        }
    }

    /// The same, of a code from the wire.
    pub(crate) fn of_code(code: Code, operation: &'static str, context: impl Into<String>) -> Self {
        Self::new(ErrorKind::from_code(code), operation, context)
    }

    /// With what caused it.
    pub(crate) fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// With the server's wish when to come back.
    pub(crate) fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = ms;
        self
    }

    /// With `subject` before the words there are.
    pub(crate) fn about(mut self, subject: impl fmt::Display) -> Self {
        self.context = if self.context.is_empty() {
            subject.to_string()
        } else {
            format!("{subject}: {}", self.context)
        };
        self
    }

    /// What the caller can do next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The stable code that doors tell.
    pub fn code(&self) -> Code {
        self.kind.code()
    }

    /// What was being done.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// To what, and what was met, for people.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Whether repeating the operation can help.
    pub fn retry(&self) -> Retry {
        match self.kind {
            ErrorKind::NotFound
            | ErrorKind::Exists
            | ErrorKind::NotEmpty
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::IsALink
            | ErrorKind::Invalid
            | ErrorKind::Range
            | ErrorKind::Denied
            | ErrorKind::TooLarge
            | ErrorKind::IdempotencyKeyReused
            | ErrorKind::NoSpace
            | ErrorKind::Corrupt
            | ErrorKind::NotSupported => Retry::Never,
            ErrorKind::Changed | ErrorKind::PreconditionFailed => Retry::AfterLook,
            // 1 s: about the time of a failover, when the server named none.
            ErrorKind::Busy | ErrorKind::Unavailable | ErrorKind::NotEnoughDomains => {
                Retry::After(if self.retry_after_ms == 0 {
                    1000
                } else {
                    self.retry_after_ms
                })
            }
            ErrorKind::Unknown => Retry::Idempotently,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.kind)?;
        if !self.context.is_empty() {
            write!(f, ": {}", self.context)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_and_its_code_lead_to_each_other() {
        for &kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_code(kind.code()), kind);
        }
    }

    #[test]
    fn codes_among_servers_become_what_they_mean_to_a_caller() {
        assert_eq!(ErrorKind::from_code(Code::NotLeader), ErrorKind::Unavailable);
        assert_eq!(ErrorKind::from_code(Code::SessionUnknown), ErrorKind::Unknown);
        assert_eq!(
            Error::new(ErrorKind::Unknown, "put", "/a").retry(),
            Retry::Idempotently
        );
    }
}
