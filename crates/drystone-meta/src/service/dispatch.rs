//! The service as the wire sees it: each kind of message has one part that answers it.

use super::abandon::Abandonments;
use super::admin::Admin;
use super::chunk_server::ChunkServers;
use super::grant::Grants;
use super::lookup::Lookups;
use super::mutate::Mutations;
use super::refused::busy;
use super::router::Router;
use crate::lifecycle::Lifecycle;
use crate::membership::join::Membership;
use crate::membership::members::Members;
use crate::raft::transport::Transport;
use crate::state::cell::StateReader;
use crate::state::snapshot::receive::Incoming;
use drystone_env::BoxFuture;
use drystone_proto::Kind;
use drystone_proto::cluster::{Empty, ErrorReply, Hello, HelloReply, Ping};
use drystone_proto::raft::{RaftMessages, SnapshotPart};
use drystone_rpc::{Reply, Request, ServerIdentity, Service, refusal};
use drystone_types::{Code, NodeId};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The parts that answer requests.
pub(crate) struct MetaService {
    pub(crate) identity: ServerIdentity,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) router: Arc<Router>,
    pub(crate) state: StateReader,
    pub(crate) members: Arc<Members>,
    pub(crate) transport: Arc<Transport>,
    /// To the thread that receives snapshots.
    pub(crate) snapshot_parts: mpsc::Sender<Incoming>,
    pub(crate) lookups: Lookups,
    pub(crate) mutations: Mutations,
    pub(crate) grants: Grants,
    pub(crate) abandonments: Abandonments,
    pub(crate) chunk_servers: ChunkServers,
    pub(crate) membership: Arc<Membership>,
    pub(crate) admin: Admin,
}

impl MetaService {
    async fn dispatch(self: Arc<Self>, request: Request) -> Reply {
        let (router, request) = (&self.router, &request);
        match request.kind {
            Kind::ClusterInfo => self.admin.cluster_info(request).await,
            Kind::Lookup => self.lookups.lookup(request).await,
            Kind::List => self.lookups.list(request).await,
            Kind::Mutate => {
                let answer = |mutate| self.mutations.mutate(mutate, request);
                router.routed(request, answer).await
            }
            Kind::Grant => {
                let answer = |ask| self.grants.grant(ask, request);
                router.routed(request, answer).await
            }
            Kind::Abandon => {
                let answer = |ask| self.abandonments.abandon(ask, request);
                router.routed(request, answer).await
            }
            Kind::Register => {
                let answer = |register| self.chunk_servers.register(register, request);
                router.routed(request, answer).await
            }
            Kind::Heartbeat => {
                let answer = |beat| self.chunk_servers.heartbeat(beat);
                router.routed(request, answer).await
            }
            Kind::ReportDamage => {
                let answer = |report| self.chunk_servers.report_damage(report);
                router.routed(request, answer).await
            }
            Kind::Admin => {
                let answer = |admin| self.admin.admin(admin, request);
                router.routed(request, answer).await
            }
            Kind::Join => {
                let answer = |join| self.membership.join(join, request);
                router.routed(request, answer).await
            }
            other => Reply::refuse(
                Code::NotSupported,
                format!("a metadata server does not answer {other:?}"),
            ),
        }
    }

    fn raft(&self, request: &Request) {
        let from = request.peer.hello.node;
        let Ok(messages) = request.decode::<RaftMessages>() else {
            return;
        };
        if from != 0 && messages.messages.iter().all(|message| message.from == from) {
            self.transport.deliver(NodeId(from), messages);
        }
    }

    /// Queues a part of a snapshot at once, so that parts stay in order.
    fn snapshot(&self, request: Request) -> BoxFuture<Reply> {
        let part = match request.decode::<SnapshotPart>() {
            Ok(part) => part,
            Err(error) => return ready(Reply::error(error)),
        };
        let is_member = self.members.peers().address(NodeId(part.from)).is_some();
        if part.from != request.peer.hello.node || !is_member {
            let message = "snapshots come from members under their own name";
            return ready(Reply::refuse(Code::Stranger, message));
        }
        let (reply, answer) = oneshot::channel();
        let data = request.payload;
        let incoming = Incoming { part, data, reply };
        if self.snapshot_parts.try_send(incoming).is_err() {
            return ready(Reply::error(busy("too many parts of snapshots wait")));
        }
        Box::pin(async move {
            let stopping = || Err(refusal(Code::Unavailable, "this server is stopping"));
            Reply::from_result(answer.await.unwrap_or_else(|_| stopping()))
        })
    }
}

/// [`MetaService`] in the form that the wire wants.
pub(crate) struct WireService(pub(crate) Arc<MetaService>);

impl Service for WireService {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        let service = &self.0;
        let reply = service.identity.answer(hello)?;
        if hello.node != 0 {
            let own = (hello.node == service.identity.node.0).then_some(service.identity.incarnation.0);
            let recorded = || {
                service
                    .state
                    .read()
                    .node(NodeId(hello.node))
                    .map(|node| node.incarnation)
            };
            let known = own.or_else(recorded);
            if known.is_some_and(|known| known != hello.incarnation) {
                let message = format!("node {} was formatted anew: it needs a new id", hello.node);
                return Err(refusal(Code::Stranger, message));
            }
        }
        Ok(reply)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let service = &self.0;
        if service.lifecycle.is_stopped() {
            return ready(Reply::refuse(Code::Unavailable, "this server is stopping"));
        }
        match request.kind {
            Kind::Ping => ready(Reply::from_result(request.decode::<Ping>())),
            Kind::Raft => {
                service.raft(&request);
                ready(Reply::ok(&Empty {}))
            }
            Kind::Snapshot => service.snapshot(request),
            _ => Box::pin(Arc::clone(service).dispatch(request)),
        }
    }
}

fn ready(reply: Reply) -> BoxFuture<Reply> {
    Box::pin(std::future::ready(reply))
}
