//! Memberships that follow from membership changes whose entries are not kept: those before the first entry in memory.

use super::{Base, LogStore};
use crate::codec::{change_to_raft, conf_to_proto, decode_change};
use bytes::Bytes;
use drystone_proto::raft::RaftConfState;
use drystone_types::NodeId;
use raft::eraftpb::HardState;
use raft::{Config, RawNode};

/// Takes changes in the order of the log, with raft-rs's own rules.
pub(crate) struct Memberships {
    /// It has no entries, and says nothing to anybody.
    raw: RawNode<LogStore>,
    conf: RaftConfState,
}

impl Memberships {
    /// Begins with the membership of `base`.
    ///
    /// # Errors
    /// raft-rs refused it.
    pub(crate) fn new(id: NodeId, base: &Base) -> Result<Self, String> {
        let mut hard = HardState::default();
        hard.term = base.term.0;
        hard.commit = base.index.0;
        let store = LogStore::new((base.index.0, base.term.0), base.conf.clone(), hard);
        let mut config = Config::new(id.0);
        config.applied = base.index.0;
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, store, &logger).map_err(|error| error.to_string())?;
        Ok(Self {
            raw,
            conf: base.conf.clone(),
        })
    }

    /// The membership so far.
    pub(crate) fn conf(&self) -> &RaftConfState {
        &self.conf
    }

    /// Takes the data of a membership entry. A change that raft-rs refuses is void, as it was when it was committed.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn change(&mut self, data: &Bytes) -> Result<(), String> {
        let change = decode_change(data)?;
        let applied = change_to_raft(&change).map(|change| self.raw.apply_conf_change(&change));
        if let Ok(Ok(conf)) = applied {
            self.conf = conf_to_proto(&conf);
        }
        Ok(())
    }
}
