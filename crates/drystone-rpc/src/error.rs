//! What can go wrong with a call, and whether it may have been done all the same.

use drystone_proto::cluster::ErrorReply;
use drystone_types::Code;

/// An error reply with a code and a text for people, everything else empty.
pub fn refusal(code: Code, message: impl Into<String>) -> ErrorReply {
    ErrorReply {
        code: code.number(),
        message: message.into(),
        ..ErrorReply::default()
    }
}

/// Why a call gave no answer of its kind.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum CallError {
    /// Certainly not done: no byte of it reached the server.
    #[error("not sent: {0}")]
    NotSent(#[from] NotSent),
    /// It may or may not have been done.
    #[error("outcome unknown: {0}")]
    Unknown(#[from] Uncertain),
    /// The server answered with an error.
    #[error("refused: {} {}", Code::from_number(.0.code).map_or("unknown code", Code::name), .0.message)]
    Refused(ErrorReply),
}

/// Why a call was not sent.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum NotSent {
    /// The connection cannot be made, or was lost while the frame still waited; also said at once while the
    /// channel backs off after a failed attempt.
    #[error("no connection to {address}: {reason}")]
    Unreachable {
        /// Where to.
        address: String,
        /// For people.
        reason: String,
    },
    /// Too much waits for this connection already.
    #[error("{frames} frames with {bytes} bytes wait already")]
    QueueFull {
        /// Frames that wait.
        frames: usize,
        /// Bytes that wait.
        bytes: usize,
    },
    /// The deadline passed before the frame could be written.
    #[error("the deadline passed before it was sent")]
    Deadline,
    /// The server refused the connection, or is not of our cluster or history.
    #[error("connection refused: {}", .0.message)]
    Hello(ErrorReply),
    /// Body or payload exceed what a frame may carry.
    #[error("too large for a frame: body {body}, payload {payload}")]
    TooLarge {
        /// Bytes of body.
        body: usize,
        /// Bytes of payload.
        payload: usize,
    },
    /// The channels were closed.
    #[error("closed")]
    Closed,
}

/// Why the outcome of a call is not known.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Uncertain {
    /// No answer in time.
    #[error("no answer before the deadline")]
    Deadline,
    /// The connection ended after the frame was sent.
    #[error("connection to {address} lost: {reason}")]
    Lost {
        /// Where to.
        address: String,
        /// For people.
        reason: String,
    },
    /// The answer is not a message of its kind.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

impl CallError {
    /// The code that says the same. A refusal with a number that this build does not know is `unknown`.
    pub fn code(&self) -> Code {
        match self {
            CallError::NotSent(NotSent::QueueFull { .. }) => Code::Busy,
            CallError::NotSent(NotSent::TooLarge { .. }) => Code::TooLarge,
            CallError::NotSent(NotSent::Hello(reply)) => {
                Code::from_number(reply.code).unwrap_or(Code::Stranger)
            }
            CallError::NotSent(_) => Code::Unavailable,
            CallError::Unknown(_) => Code::Unknown,
            CallError::Refused(reply) => Code::from_number(reply.code).unwrap_or(Code::Unknown),
        }
    }

    /// The server's error reply, of a refused call or a refused connection.
    pub fn reply(&self) -> Option<&ErrorReply> {
        match self {
            CallError::Refused(reply) | CallError::NotSent(NotSent::Hello(reply)) => Some(reply),
            _ => None,
        }
    }
}

/// Why a one-way message was not queued.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SendError {
    /// Certainly not sent.
    #[error("not sent: {0}")]
    NotSent(#[from] NotSent),
}
