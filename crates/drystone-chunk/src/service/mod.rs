//! What the wire asks of a chunk server, by kind.

mod copy;
mod read;
mod replica;

pub(crate) use copy::Copies;
pub(crate) use read::Reads;
pub(crate) use replica::Replicas;

use crate::chain::append::Appends;
use crate::member::AskedReports;
use crate::refusals::Refusals;
use drystone_env::BoxFuture;
use drystone_proto::cluster::{AskReport, Empty, ErrorReply, Hello, HelloReply, Ping};
use drystone_proto::{Kind, Message};
use drystone_rpc::{Peer, Reply, Request, ServerIdentity, Service};
use drystone_types::Code;
use std::sync::Arc;

/// The service of one server.
pub(crate) struct ChunkService {
    pub(crate) identity: ServerIdentity,
    pub(crate) appends: Arc<Appends>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) copies: Arc<Copies>,
    pub(crate) asked: Arc<AskedReports>,
    pub(crate) refusals: Refusals,
}

impl Service for ChunkService {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        self.identity.answer(hello)
    }

    fn hold_back(&self, peer: &Peer) -> Option<BoxFuture<()>> {
        // Servers are always read: what they forward must be able to arrive, or two chains in opposite directions
        // would wait for each other. What they send is bounded by what they themselves took from clients.
        if peer.hello.node == 0 {
            self.appends.from_clients.room()
        } else {
            None
        }
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let (replicas, copies) = (Arc::clone(&self.replicas), Arc::clone(&self.copies));
        match request.kind {
            Kind::Append => self.appends.append(request),
            Kind::Read => Box::pin(Arc::clone(&self.reads).read(request)),
            Kind::Ping => {
                let reply = Reply::from_result(request.decode::<Ping>());
                Box::pin(std::future::ready(reply))
            }
            Kind::AskReport => {
                let result = request
                    .decode::<AskReport>()
                    .map(|ask| self.ask_report(&request, ask));
                Box::pin(std::future::ready(Reply::from_result(result)))
            }
            Kind::Finish => self.answer("finish", replicas.finish(request)),
            Kind::ChunkStatus => self.answer("status", replicas.status(request)),
            Kind::Fence => self.answer("fence", replicas.fence(request)),
            Kind::Seal => self.answer("seal", replicas.seal(request)),
            Kind::Delete => self.answer("delete", replicas.delete(request)),
            Kind::ListChunks => self.answer("list", replicas.list(request)),
            Kind::CopyPrefix => self.answer("copy", copies.copy_prefix(request)),
            other => {
                let reply = Reply::refuse(Code::NotSupported, format!("{other:?} is not for a chunk server"));
                Box::pin(std::future::ready(reply))
            }
        }
    }
}

impl ChunkService {
    /// Only servers of the cluster are heard: whoever follows the address finds out whether it leads.
    fn ask_report(&self, request: &Request, ask: AskReport) -> Empty {
        if request.peer.hello.node != 0 {
            self.asked.ask(ask);
        }
        Empty {}
    }

    fn answer<M, F>(&self, operation: &'static str, result: F) -> BoxFuture<Reply>
    where
        M: Message + 'static,
        F: Future<Output = Result<M, ErrorReply>> + Send + 'static,
    {
        let refusals = self.refusals.clone();
        Box::pin(
            async move { Reply::from_result(result.await.map_err(|error| refusals.count(operation, error))) },
        )
    }
}
