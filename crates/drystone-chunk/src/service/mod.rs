//! What the wire asks of a chunk server, by kind.

mod copy;
mod read;
pub(crate) mod replica;

use crate::chain::append::append;
use crate::node::{Node, SharedNode};

use drystone_env::BoxFuture;
use drystone_proto::cluster::{ErrorReply, Hello, HelloReply, Ping};
use drystone_proto::{Kind, Message};
use drystone_rpc::{Peer, Reply, Request, ServerIdentity, Service};
use drystone_types::Code;

/// The service of one server.
pub(crate) struct ChunkService {
    pub(crate) node: SharedNode,
    pub(crate) identity: ServerIdentity,
}

impl ChunkService {
    pub(crate) fn new(node: SharedNode) -> Self {
        let identity = ServerIdentity {
            cluster: node.identity.cluster,
            history: node.identity.history,
            node: node.identity.node,
            incarnation: node.identity.node_incarnation,
            software: crate::SOFTWARE.into(),
        };
        Self { node, identity }
    }
}

impl Service for ChunkService {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        self.identity.answer(hello)
    }

    fn hold_back(&self, peer: &Peer) -> Option<BoxFuture<()>> {
        // Servers are always read: what they forward must be able to arrive, or two chains in opposite directions
        // would wait for each other. What they send is bounded by what they themselves took from clients.
        if peer.hello.node == 0 {
            self.node.heads.room()
        } else {
            None
        }
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let node = SharedNode::clone(&self.node);
        match request.kind {
            Kind::Append => append(&node, request),
            Kind::Read => Box::pin(read::read(node, request)),
            Kind::Ping => {
                let reply = Reply::from_result(request.decode::<Ping>());
                Box::pin(std::future::ready(reply))
            }
            Kind::Finish => answer(node, "finish", |node| replica::finish(node, request)),
            Kind::ChunkStatus => answer(node, "status", |node| replica::status(node, request)),
            Kind::Fence => answer(node, "fence", |node| replica::fence(node, request)),
            Kind::Seal => answer(node, "seal", |node| replica::seal(node, request)),
            Kind::Delete => answer(node, "delete", |node| replica::delete(node, request)),
            Kind::ListChunks => answer(node, "list", |node| replica::list(node, request)),
            Kind::CopyPrefix => answer(node, "copy", |node| copy::copy_prefix(node, request)),
            other => {
                let reply = Reply::refuse(Code::NotSupported, format!("{other:?} is not for a chunk server"));
                Box::pin(std::future::ready(reply))
            }
        }
    }
}

fn answer<M, F>(
    node: SharedNode,
    operation: &'static str,
    run: impl FnOnce(SharedNode) -> F,
) -> BoxFuture<Reply>
where
    M: Message + 'static,
    F: Future<Output = Result<M, ErrorReply>> + Send + 'static,
{
    let future = run(SharedNode::clone(&node));
    Box::pin(
        async move { Reply::from_result(future.await.map_err(|error| Node::fail(&node, operation, error))) },
    )
}
