//! Signs of life are asked of every other metadata server.

use crate::shared::Shared;
use drystone_proto::cluster::Ping;
use drystone_proto::{Kind, Priority};
use drystone_rpc::CallOptions;
use drystone_types::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// How often every other member is asked for a sign of life, and how long it has for it: a connection on which nothing
/// comes back is then given up and made again. Raft's messages are not answered on the connection that they take, so
/// one that swallows them would be used for ever.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Pings every other member again and again.
pub(crate) async fn ping_members(shared: &Arc<Shared>) {
    let me = shared.identity.node;
    loop {
        let members = shared.raft_view().member_ids();
        let addresses = members
            .into_iter()
            .filter(|node| *node != me.0)
            .filter_map(|node| {
                let node = NodeId(node);
                Some((node, shared.peers.address(node)?))
            });
        let next = shared.env.clock.now().plus(PING_INTERVAL);
        for (node, address) in addresses {
            let channel = shared.channels.to_node(&address, node);
            let options = CallOptions::until(next).priority(Priority::Control);
            shared.spawn("meta-pulse-of", async move {
                // What it says does not matter; that nothing came is seen by the connection.
                let _ = channel
                    .call::<Ping, Ping>(Kind::Ping, &Ping { nonce: 0 }, None, options)
                    .await;
            });
        }
        shared.env.clock.sleep_until(next).await;
    }
}
