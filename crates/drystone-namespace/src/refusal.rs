//! Why a command or a read was not done.

use crate::store::StoreError;
use drystone_proto::command::Outcome;
use drystone_types::{Code, PathError};

/// The caller's fault or the state's: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Which kind.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// As apply answers it.
    pub(crate) fn outcome(self) -> Outcome {
        Outcome {
            code: self.code.number(),
            message: self.message,
            ..Outcome::default()
        }
    }
}

/// Why a read was not answered, or a command not applied.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The answer is this refusal.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed: final for this voter.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PathError> for ReadError {
    fn from(fault: PathError) -> Self {
        ReadError::Refused(Refusal::new(Code::Invalid, fault.to_string()))
    }
}

/// Shorthand for a refusal on its way out.
pub(crate) fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError::Refused(Refusal::new(code, message)))
}
