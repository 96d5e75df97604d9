//! Message kinds: one number for a request and its reply, and who may send the request.

/// Classes of peers, as bits. A peer is a client if its hello names no node; nodes say in it what they are. Until
/// connections are authenticated this keeps mistakes out and no attacker.
pub mod sender {
    use crate::record::role;
    /// Whoever uses the client library: doors, the command line.
    pub const CLIENT: u32 = 1 << 16;
    /// A chunk server.
    pub const CHUNK_SERVER: u32 = role::CHUNK;
    /// A metadata server, also one that passes on what it got from another to its leader.
    pub const METADATA_SERVER: u32 = role::METADATA;
    /// All of them.
    pub const ANYONE: u32 = CLIENT | CHUNK_SERVER | METADATA_SERVER;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $($sender:ident)|+;)*) => {
        /// What a frame carries. Numbers are stable and never reused.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u16)]
        pub enum Kind { $($(#[$doc])* $variant = $number,)* }
        impl Kind {
            /// Every kind, in number order.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];
            /// The number in the header.
            pub const fn number(self) -> u16 { self as u16 }
            /// The classes of peers that may send it, as bits of [`sender`].
            pub const fn senders(self) -> u32 { match self { $(Kind::$variant => $(sender::$sender)|+,)* } }
            /// The kind with this number.
            pub const fn from_number(number: u16) -> Option<Self> { match number { $($number => Some(Kind::$variant),)* _ => None } }
        }
    };
}

kinds! {
    /// First on every connection. [`crate::cluster::Hello`] -> [`crate::cluster::HelloReply`].
    Hello = 1, ANYONE;
    /// Round trip without work. [`crate::cluster::Ping`] -> the same.
    Ping = 2, ANYONE;
    /// [`crate::cluster::ClusterInfoRequest`] -> [`crate::cluster::ClusterInfo`], any metadata server.
    ClusterInfo = 3, ANYONE;
    /// A chunk server introduces itself. [`crate::cluster::Register`] -> [`crate::cluster::RegisterReply`], leader.
    Register = 4, CHUNK_SERVER | METADATA_SERVER;
    /// [`crate::cluster::Heartbeat`] -> [`crate::cluster::HeartbeatReply`], leader.
    Heartbeat = 5, CHUNK_SERVER | METADATA_SERVER;
    /// [`crate::cluster::AdminRequest`] -> [`crate::cluster::AdminReply`], any metadata server (forwarded).
    Admin = 6, CLIENT | METADATA_SERVER;
    /// A new metadata server asks to become a learner. [`crate::cluster::Join`] -> [`crate::cluster::JoinReply`], leader.
    Join = 7, METADATA_SERVER;
    /// A new leader asks a chunk server to register now. [`crate::cluster::AskReport`] -> [`crate::cluster::Empty`].
    AskReport = 8, METADATA_SERVER;

    /// A namespace command. [`crate::meta::MutateRequest`] -> [`crate::meta::MutateReply`].
    Mutate = 16, CLIENT | METADATA_SERVER;
    /// [`crate::meta::LookupRequest`] -> [`crate::meta::LookupReply`].
    Lookup = 17, CLIENT | METADATA_SERVER;
    /// [`crate::meta::ListRequest`] -> [`crate::meta::ListReply`].
    List = 18, CLIENT | METADATA_SERVER;
    /// [`crate::meta::GrantRequest`] -> [`crate::meta::GrantReply`], leader.
    Grant = 19, CLIENT | METADATA_SERVER;
    /// [`crate::meta::DamageReport`] -> [`crate::cluster::Empty`], leader.
    ReportDamage = 20, ANYONE;
    /// A writer gives chunks up. [`crate::meta::AbandonRequest`] -> [`crate::cluster::Empty`], leader.
    Abandon = 21, CLIENT | METADATA_SERVER;

    /// Bytes for a chunk, down the chain. [`crate::data::Append`] + payload -> [`crate::data::AppendReply`].
    Append = 33, CLIENT | CHUNK_SERVER;
    /// [`crate::data::Finish`] -> [`crate::data::FinishReply`].
    Finish = 34, CLIENT;
    /// [`crate::data::ChunkStatusRequest`] -> [`crate::data::ChunkStatus`].
    ChunkStatus = 35, ANYONE;
    /// [`crate::data::Fence`] -> [`crate::data::FenceReply`].
    Fence = 36, METADATA_SERVER;
    /// [`crate::data::Seal`] -> [`crate::cluster::Empty`].
    Seal = 37, METADATA_SERVER;
    /// [`crate::data::Read`] -> [`crate::data::ReadReply`] + payload.
    Read = 38, CLIENT | CHUNK_SERVER;
    /// [`crate::data::Delete`] -> [`crate::data::DeleteReply`].
    Delete = 39, METADATA_SERVER;
    /// [`crate::data::ListChunks`] -> [`crate::data::ListChunksReply`].
    ListChunks = 40, CLIENT | METADATA_SERVER;
    /// A survivor copies a private chunk's prefix to a replacement. [`crate::data::CopyPrefix`] -> [`crate::data::FinishReply`].
    CopyPrefix = 41, CLIENT | METADATA_SERVER;

    /// Raft messages, one-way. [`crate::raft::RaftMessages`].
    Raft = 64, METADATA_SERVER;
    /// A part of a snapshot. [`crate::raft::SnapshotPart`] + payload -> [`crate::cluster::Empty`].
    Snapshot = 65, METADATA_SERVER;
}

impl Kind {
    /// True if a peer that is of these classes (bits of [`sender`]) may send it. Servers refuse it from others.
    pub const fn may_be_sent_by(self, classes: u32) -> bool {
        self.senders() & classes != 0
    }
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

    #[test]
    fn only_metadata_servers_order_and_only_servers_register() {
        for &kind in Kind::ALL {
            assert_ne!(kind.senders() & sender::ANYONE, 0, "somebody sends {kind:?}");
        }
        for kind in [
            Kind::Fence,
            Kind::Seal,
            Kind::Delete,
            Kind::Raft,
            Kind::Snapshot,
            Kind::Join,
        ] {
            assert!(
                !kind.may_be_sent_by(sender::CLIENT | sender::CHUNK_SERVER),
                "{kind:?}"
            );
        }
        for kind in [Kind::Register, Kind::Heartbeat] {
            assert!(!kind.may_be_sent_by(sender::CLIENT), "{kind:?}");
        }
        assert!(!Kind::Mutate.may_be_sent_by(sender::CHUNK_SERVER));
        assert!(
            !Kind::Mutate.may_be_sent_by(0),
            "a node that does not say what it is"
        );
    }
}
