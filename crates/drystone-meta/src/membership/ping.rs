//! Signs of life are asked of every other metadata server.

use super::members::Members;
use crate::lifecycle::Lifecycle;
use crate::raft::handle::RaftHandle;
use drystone_env::Clock;
use drystone_proto::cluster::Ping;
use drystone_proto::{Kind, Priority};
use drystone_rpc::{CallOptions, Channels};
use drystone_types::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// How often every other member is asked for a sign of life, and how long it has for it: a connection on which nothing
/// comes back is then given up and made again. Raft's messages are not answered on the connection that they take, so
/// one that swallows them would be used for ever.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// What the pings need.
pub(crate) struct Pings {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) raft: RaftHandle,
    pub(crate) members: Arc<Members>,
    pub(crate) channels: Channels,
}

impl Pings {
    /// Pings every other member again and again.
    pub(crate) async fn run(self) {
        loop {
            let members = self.raft.view().member_ids();
            let addresses = members
                .into_iter()
                .filter(|node| *node != self.me.0)
                .filter_map(|node| {
                    let node = NodeId(node);
                    Some((node, self.members.peers().address(node)?))
                });
            let next = self.clock.now().plus(PING_INTERVAL);
            for (node, address) in addresses {
                let channel = self.channels.to_node(&address, node);
                let options = CallOptions::until(next).priority(Priority::Control);
                self.lifecycle.spawn("meta-ping-one", async move {
                    // What it says does not matter; that nothing came is seen by the connection.
                    let _ = channel
                        .call::<Ping, Ping>(Kind::Ping, &Ping { nonce: 0 }, None, options)
                        .await;
                });
            }
            self.clock.sleep_until(next).await;
        }
    }
}
