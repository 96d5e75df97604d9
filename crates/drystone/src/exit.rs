//! Exit codes, and how an error is told to a person or a program.

use crate::output::{OutputError, note};
use drystone_types::Code;
use std::io::ErrorKind;
use std::process::ExitCode;

/// What a shell says of a process that SIGPIPE ended: the reader of its output went away, as with `ls | head -1`.
const CLOSED_PIPE: u8 = 141;

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
    /// `admin status --check`: data has no replica that can be read.
    CheckLost = 10,
    /// `admin status --check`: new data is refused.
    CheckRefused = 11,
    /// `admin status --check`: there is less redundancy than there should be.
    CheckReduced = 12,
    /// `admin status --check`: the leader does not know yet.
    CheckUnknown = 13,
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
        | Code::PolicyDiffers
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

/// What the process ends with because of `error`, when nothing worse happens.
pub fn of_error(error: &anyhow::Error) -> Exit {
    let code = code_of(error);
    match code {
        Some(code) => of_code(code),
        None if error.chain().any(|cause| cause.is::<UsageError>()) => Exit::Usage,
        None if error.is::<crate::connect::Unreachable>() => Exit::Unavailable,
        None => error.downcast_ref::<std::io::Error>().map_or(Exit::Other, of_io),
    }
}

/// Local files have the same codes as files of the cluster.
fn of_io(error: &std::io::Error) -> Exit {
    match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::PermissionDenied => Exit::Denied,
        ErrorKind::AlreadyExists
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::DirectoryNotEmpty => Exit::Conflict,
        _ => Exit::Other,
    }
}

fn code_of(error: &anyhow::Error) -> Option<Code> {
    let mut causes = error.chain();
    let known = causes.find_map(|cause| cause.downcast_ref::<drystone_client::Error>());
    known.map(drystone_client::Error::code)
}

/// Prints the error to stderr.
pub fn print(error: &anyhow::Error, json: bool) {
    let text = words(error);
    if json {
        note(serde_json::json!({ "error": text, "code": code_of(error).map(Code::name) }));
    } else {
        // Some messages have several lines of their own.
        let lines: Vec<String> = text.split('\n').map(crate::output::printable).collect();
        note(format_args!("drystone: {}", lines.join("\n")));
    }
}

/// Prints the error, unless that was done or nobody is there to read it, and gives the process's exit code.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let mut outputs = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<OutputError>());
    if outputs.any(OutputError::is_closed_pipe) {
        return ExitCode::from(CLOSED_PIPE);
    }
    if let Some(Printed(exit)) = error.downcast_ref() {
        return (*exit).into();
    }
    print(error, json);
    of_error(error).into()
}

/// Some of what was asked for failed and was told of already; this is what the process ends with.
#[derive(Debug, thiserror::Error)]
#[error("some of it failed")]
pub struct Printed(pub Exit);

/// Failures of a command that works on many things: each is told of at once, the others are still done, and the first
/// one decides the exit code.
pub struct Failures {
    json: bool,
    first: Option<Exit>,
    count: u64,
}

impl Failures {
    /// None yet. `json`: they are printed as JSON.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            first: None,
            count: 0,
        }
    }

    /// Tells of a failure.
    ///
    /// # Errors
    /// The failure itself, if everything after it would fail as well: the cluster cannot be reached, nobody reads the
    /// output, or no space is left, here or there.
    pub fn add(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        if is_fatal(&error) {
            return Err(error);
        }
        print(&error, self.json);
        self.first.get_or_insert(of_error(&error));
        self.count += 1;
        Ok(())
    }

    /// Tells of the failure in `outcome`, if it is one. As [`Failures::add`].
    pub fn check<T>(&mut self, outcome: anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        match outcome {
            Ok(done) => Ok(Some(done)),
            Err(error) => self.add(error).map(|()| None),
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The end of the command.
    ///
    /// # Errors
    /// [`Printed`] if anything failed.
    pub fn finish(self) -> anyhow::Result<()> {
        match self.first {
            None => Ok(()),
            Some(exit) => Err(Printed(exit).into()),
        }
    }
}

fn is_fatal(error: &anyhow::Error) -> bool {
    let is_full = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
        )
    };
    of_error(error) == Exit::Unavailable
        || code_of(error) == Some(Code::NoSpace)
        || error.chain().any(|cause| {
            cause.is::<OutputError>() || cause.downcast_ref::<std::io::Error>().is_some_and(is_full)
        })
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
    fn the_first_failure_decides_and_the_rest_is_still_done() {
        let missing = || std::io::Error::from(ErrorKind::NotFound);
        let mut failures = Failures::new(false);
        let first = anyhow::Error::new(missing()).context("cannot read a");
        assert!(failures.check::<()>(Err(first)).unwrap().is_none());
        assert!(failures.add(UsageError("b".to_owned()).into()).is_ok());
        assert_eq!(failures.check(Ok(1)).unwrap(), Some(1));
        assert_eq!(failures.count(), 2);
        let end = failures.finish().unwrap_err();
        assert_eq!(end.downcast_ref::<Printed>().unwrap().0, Exit::NotFound);
        assert!(Failures::new(false).finish().is_ok());
    }

    #[test]
    fn what_would_fail_again_and_again_ends_the_command() {
        let full = std::io::Error::from(ErrorKind::StorageFull);
        let pipe = OutputError::from(std::io::Error::from(ErrorKind::BrokenPipe));
        let nobody = anyhow::anyhow!("refused").context(crate::connect::Unreachable);
        for error in [full.into(), pipe.into(), nobody] {
            assert!(Failures::new(false).add(error).is_err());
        }
    }

    #[test]
    fn the_documented_codes() {
        assert_eq!(of_code(Code::NotFound) as u8, 3);
        assert_eq!(of_code(Code::Exists) as u8, 4);
        assert_eq!(of_code(Code::Denied) as u8, 5);
        assert_eq!(of_code(Code::Unknown) as u8, 6);
    }
}
