//! Why a request was not answered as leader.

use drystone_proto::cluster::ErrorReply;
use drystone_raft::DropReason;
use drystone_rpc::refusal;
use drystone_types::Code;

/// Why a request was not answered as leader.
pub(crate) enum Refused {
    /// This server does not lead (any more), and certainly nothing was done.
    NotLeader,
    /// The answer.
    Error(ErrorReply),
}

impl From<ErrorReply> for Refused {
    fn from(error: ErrorReply) -> Self {
        Refused::Error(error)
    }
}

impl From<DropReason> for Refused {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::NotLeader { .. } | DropReason::Overtaken => Refused::NotLeader,
            DropReason::Busy => Refused::Error(busy("too many commands are under way")),
            DropReason::Refused => Refused::Error(refusal(
                Code::Conflict,
                "a change of membership is under way, or raft refuses this one",
            )),
            DropReason::Unknown => Refused::Error(unknown()),
        }
    }
}

/// Nothing was done; it may be asked again in a moment.
pub(crate) fn busy(message: &str) -> ErrorReply {
    ErrorReply {
        retry_after_ms: 50,
        ..refusal(Code::Busy, message)
    }
}

/// It may or may not have been done.
pub(crate) fn unknown() -> ErrorReply {
    refusal(
        Code::Unknown,
        "no answer in time: it may or may not have been done",
    )
}
