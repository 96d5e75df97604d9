//! Stable error codes: numbers on the wire, snake_case names in problem documents, never reused.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What went wrong, as every door tells it. Numbers and names are stable and never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Code { $($(#[$doc])* $variant = $number,)* }

        impl Code {
            /// Every code, in number order.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];
            /// The number on the wire.
            pub const fn number(self) -> u32 { self as u32 }
            /// The name in a problem document.
            pub const fn name(self) -> &'static str { match self { $(Code::$variant => $name,)* } }
            /// The code with this number; a number of a newer version reads as [`Code::Unavailable`]'s absence: `None`.
            pub const fn from_number(number: u32) -> Option<Self> { match number { $($number => Some(Code::$variant),)* _ => None } }
            /// The code with this name.
            pub fn from_name(name: &str) -> Option<Self> { match name { $($name => Some(Code::$variant),)* _ => None } }
        }
    };
}

codes! {
    /// The name, inode, chunk or node does not exist.
    NotFound = 1, "not_found";
    /// The name is taken and the precondition was `absent`, or overwriting was not asked for.
    Exists = 2, "exists";
    /// A directory that has entries cannot be deleted or replaced without `recursive`.
    NotEmpty = 3, "not_empty";
    /// A file operation named a directory.
    IsADirectory = 4, "is_a_directory";
    /// A directory operation, or a path through it, named a file.
    NotADirectory = 5, "not_a_directory";
    /// What was read or prepared against has been replaced meanwhile.
    Changed = 6, "changed";
    /// `If-Match`, `If-None-Match` or a version did not hold.
    PreconditionFailed = 7, "precondition_failed";
    /// The request is malformed; retrying it as it is cannot help.
    Invalid = 8, "invalid";
    /// The byte range lies outside the file.
    Range = 9, "range";
    /// The caller may not do this.
    Denied = 10, "denied";
    /// The request exceeds a limit.
    TooLarge = 11, "too_large";
    /// The idempotency key was used for a different request.
    IdempotencyKeyReused = 12, "idempotency_key_reused";
    /// Overloaded: nothing was done; try again later.
    Busy = 13, "busy";
    /// No server that could do this can be reached: nothing was done.
    Unavailable = 14, "unavailable";
    /// Fewer failure domains than the policy names can take the data: nothing was done.
    NotEnoughDomains = 15, "not_enough_domains";
    /// It may or may not have happened: the answer did not come in time.
    Unknown = 16, "unknown";
    /// Disks or the metadata store are full.
    NoSpace = 17, "no_space";
    /// Stored bytes do not match their checksums and no good copy was found.
    Corrupt = 18, "corrupt";
    /// The server is of another cluster or history, or the sender is not who the cluster knows.
    Stranger = 19, "stranger";
    /// This voter is not the leader; the answer names the leader when it is known.
    NotLeader = 20, "not_leader";
    /// The chunk id lies below the grant floor: take a new grant.
    GrantExpired = 21, "grant_expired";
    /// A higher epoch is known; it is named.
    Fenced = 22, "fenced";
    /// The session is unknown (expired or of another history): the command was not applied.
    SessionUnknown = 23, "session_unknown";
    /// Not built yet.
    NotSupported = 24, "not_supported";
    /// The inline content cannot be acknowledged by enough voters: write it to a chunk.
    InlineRefused = 25, "inline_refused";
    /// The operation names state of this replica that it does not have (offset or length differs).
    Conflict = 26, "conflict";
    /// The path leads through a symbolic link, or names one where a file or directory is needed. Servers follow no
    /// links: the client reads the link and goes on with its target.
    IsALink = 27, "is_a_link";
    /// The content was written under another policy than the one in force at its place, and is not as redundant as
    /// that one asks for: take new grants for the place and write it again.
    PolicyDiffers = 28, "policy_differs";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_code() {
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(code));
            assert_eq!(Code::from_name(code.name()), Some(code));
        }
        assert_eq!(Code::from_number(0), None);
        assert_eq!(Code::from_name("no_such_code"), None);
    }
}
