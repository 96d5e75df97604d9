//! The leader's calls to a chunk server.

use drystone_env::Monotonic;
use drystone_proto::cluster::{AskReport, Empty};
use drystone_proto::record::NodeRecord;
use drystone_proto::{Kind, Priority};
use drystone_rpc::{CallError, CallOptions, Channel, Channels};
use drystone_types::NodeId;

/// A chunk server, as the leader calls it. A process that is another node is not called.
pub(crate) struct ChunkServerStub {
    channel: Channel,
}

impl ChunkServerStub {
    pub(crate) fn new(channels: &Channels, server: &NodeRecord) -> Self {
        Self {
            channel: channels.to_node(&server.address, NodeId(server.id)),
        }
    }

    /// Asks it to register with the leader of `term` at `leader` now; the answer says that it was asked, no more.
    ///
    /// # Errors
    /// As any call's.
    pub(crate) async fn ask_report(
        &self,
        term: u64,
        leader: String,
        deadline: Monotonic,
    ) -> Result<(), CallError> {
        let ask = AskReport { term, leader };
        let options = CallOptions::until(deadline).priority(Priority::Control);
        let call = self
            .channel
            .call::<AskReport, Empty>(Kind::AskReport, &ask, None, options);
        call.await.map(|_| ())
    }
}
