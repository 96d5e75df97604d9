//! Message kinds: one number for a request and its reply.

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal;)*) => {
        /// What a frame carries. Numbers are stable and never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $variant = $number,)* }
        impl Kind {
            /// Every kind, in number order.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];
            /// The number in the header.
            pub const fn number(self) -> u16 { self as u16 }
            /// The kind with this number.
            pub const fn from_number(number: u16) -> Option<Self> { match number { $($number => Some(Kind::$variant),)* _ => None } }
        }
    };
}

kinds! {
    /// First on every connection. [`crate::cluster::Hello`] -> [`crate::cluster::HelloReply`].
    Hello = 1;
    /// Round trip without work. [`crate::cluster::Ping`] -> the same.
    Ping = 2;
    /// [`crate::cluster::ClusterInfoRequest`] -> [`crate::cluster::ClusterInfo`], any metadata server.
    ClusterInfo = 3;
    /// A chunk server introduces itself. [`crate::cluster::Register`] -> [`crate::cluster::RegisterReply`], leader.
    Register = 4;
    /// [`crate::cluster::Heartbeat`] -> [`crate::cluster::HeartbeatReply`], leader.
    Heartbeat = 5;
    /// [`crate::cluster::AdminRequest`] -> [`crate::cluster::AdminReply`], any metadata server (forwarded).
    Admin = 6;
    /// A new metadata server asks to become a learner. [`crate::cluster::Join`] -> [`crate::cluster::JoinReply`], leader.
    Join = 7;
    /// A new leader asks a chunk server to register now. [`crate::cluster::AskReport`] -> [`crate::cluster::Empty`].
    AskReport = 8;

    /// A namespace command. [`crate::meta::MutateRequest`] -> [`crate::meta::MutateReply`].
    Mutate = 16;
    /// [`crate::meta::LookupRequest`] -> [`crate::meta::LookupReply`].
    Lookup = 17;
    /// [`crate::meta::ListRequest`] -> [`crate::meta::ListReply`].
    List = 18;
    /// [`crate::meta::GrantRequest`] -> [`crate::meta::GrantReply`], leader.
    Grant = 19;
    /// [`crate::meta::DamageReport`] -> [`crate::cluster::Empty`], leader.
    ReportDamage = 20;

    /// Bytes for a chunk, down the chain. [`crate::data::Append`] + payload -> [`crate::data::AppendReply`].
    Append = 33;
    /// [`crate::data::Finish`] -> [`crate::data::FinishReply`].
    Finish = 34;
    /// [`crate::data::ChunkStatusRequest`] -> [`crate::data::ChunkStatus`].
    ChunkStatus = 35;
    /// [`crate::data::Fence`] -> [`crate::data::FenceReply`].
    Fence = 36;
    /// [`crate::data::Seal`] -> [`crate::cluster::Empty`].
    Seal = 37;
    /// [`crate::data::Read`] -> [`crate::data::ReadReply`] + payload.
    Read = 38;
    /// [`crate::data::Delete`] -> [`crate::data::DeleteReply`].
    Delete = 39;
    /// [`crate::data::ListChunks`] -> [`crate::data::ListChunksReply`].
    ListChunks = 40;
    /// A survivor copies a private chunk's prefix to a replacement. [`crate::data::CopyPrefix`] -> [`crate::data::FinishReply`].
    CopyPrefix = 41;

    /// Raft messages, one-way. [`crate::raft::RaftMessages`].
    Raft = 64;
    /// A part of a snapshot. [`crate::raft::SnapshotPart`] + payload -> [`crate::cluster::Empty`].
    Snapshot = 65;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_kind() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(Kind::from_number(0), None);
    }
}
