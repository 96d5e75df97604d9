//! Exit codes, and how an error is told to a person or a program.

use drystone_types::Code;
use std::process::ExitCode;

/// What the process ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Anything not named below.
    Other = 1,
    /// The command line or the configuration was wrong.
    Usage = 2,
    /// There is no such file or directory.
    NotFound = 3,
    /// It exists, is not empty, is of the wrong kind, has changed, or a precondition failed.
    Conflict = 4,
    /// The caller may not do it.
    Denied = 5,
    /// No server could be reached, it is overloaded, or the outcome is unknown.
    Unavailable = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The user typed something that cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The exit code for a code of the cluster.
pub fn of_code(code: Code) -> Exit {
    match code {
        Code::NotFound => Exit::NotFound,
        Code::Exists
        | Code::NotEmpty
        | Code::IsADirectory
        | Code::NotADirectory
        | Code::IsALink
        | Code::Changed
        | Code::PreconditionFailed
        | Code::Conflict
        | Code::IdempotencyKeyReused => Exit::Conflict,
        Code::Denied => Exit::Denied,
        Code::Invalid | Code::Range | Code::TooLarge => Exit::Usage,
        Code::Busy
        | Code::Unavailable
        | Code::NotEnoughDomains
        | Code::Unknown
        | Code::NotLeader
        | Code::GrantExpired
        | Code::SessionUnknown => Exit::Unavailable,
        Code::NoSpace
        | Code::Corrupt
        | Code::Stranger
        | Code::Fenced
        | Code::NotSupported
        | Code::InlineRefused => Exit::Other,
    }
}

/// The error and its causes, without what was said already: the client library's errors are whole sentences, and
/// others repeat their cause.
fn words(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = if text.is_empty() {
                next
            } else {
                format!("{text}: {next}")
            };
        }
        if cause.is::<drystone_client::Error>() {
            break;
        }
    }
    text
}

/// Prints the error to stderr and gives the process's exit code.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<drystone_client::Error>())
        .map(|e| e.code());
    let text = words(error);
    if json {
        let body = serde_json::json!({ "error": text, "code": code.map(Code::name) });
        eprintln!("{body}");
    } else {
        eprintln!("drystone: {text}");
    }
    match code {
        Some(code) => of_code(code).into(),
        None if error.chain().any(|cause| cause.is::<UsageError>()) => Exit::Usage.into(),
        None if error.is::<crate::connect::Unreachable>() => Exit::Unavailable.into(),
        None => Exit::Other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let cause = std::io::Error::other("in use");
        let error = anyhow::Error::new(cause)
            .context("cannot listen: in use")
            .context("node a");
        assert_eq!(words(&error), "node a: cannot listen: in use");
    }

    #[test]
    fn the_documented_codes() {
        assert_eq!(of_code(Code::NotFound) as u8, 3);
        assert_eq!(of_code(Code::Exists) as u8, 4);
        assert_eq!(of_code(Code::Denied) as u8, 5);
        assert_eq!(of_code(Code::Unknown) as u8, 6);
    }
}
