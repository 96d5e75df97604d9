//! What others ask of a metadata server.
//!
//! Owns the way of a request: answered here, or handed on to the leader, one hop only. What a request does is in a
//! file per kind: [`mutate`], [`read`], [`grant`], [`server`](mod@server), [`admin`].

mod admin;
mod forward;
mod grant;
mod mutate;
mod read;
mod server;

use crate::leader::office::Leader;
use crate::shared::Shared;
use crate::state::snapshot::receive::Incoming;
use drystone_env::{BoxFuture, Monotonic};
use drystone_namespace::ReadError;
use drystone_proto::Kind;
use drystone_proto::cluster::{Empty, ErrorReply, Hello, HelloReply, Ping};
use drystone_proto::meta::DamageReport;
use drystone_proto::raft::{RaftMessages, SnapshotPart};
use drystone_raft::DropReason;
use drystone_rpc::{Reply, Request, ServerIdentity, Service, refusal};
use drystone_types::{Code, NodeId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How metadata servers introduce themselves: a request that came from one is never handed on again.
pub(crate) const SOFTWARE: &str = concat!("drystone-meta/", env!("CARGO_PKG_VERSION"));

/// How long to wait before a leader that refused is asked again: some round trips.
const AGAIN: Duration = Duration::from_millis(20);

/// The service, and the leader's soft state.
pub(crate) struct MetaService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) leader: Leader,
    identity: ServerIdentity,
    /// Members come, go and move one after the other. What was on its way when a call was given up still comes.
    pub(crate) membership: tokio::sync::Mutex<()>,
}

/// Why a request was not answered as leader.
pub(crate) enum Refused {
    /// This server does not lead (any more), and certainly nothing was done.
    NotLeader,
    /// The answer.
    Error(ErrorReply),
}

impl From<ErrorReply> for Refused {
    fn from(error: ErrorReply) -> Self {
        Refused::Error(error)
    }
}

impl From<DropReason> for Refused {
    fn from(reason: DropReason) -> Self {
        match reason {
            DropReason::NotLeader { .. } | DropReason::Overtaken => Refused::NotLeader,
            DropReason::Busy => Refused::Error(busy("too many commands are under way")),
            DropReason::Refused => Refused::Error(refusal(
                Code::Conflict,
                "a change of membership is under way, or raft refuses this one",
            )),
            DropReason::Unknown => Refused::Error(unknown()),
        }
    }
}

pub(crate) fn busy(message: &str) -> ErrorReply {
    ErrorReply {
        retry_after_ms: 50,
        ..refusal(Code::Busy, message)
    }
}

pub(crate) fn unknown() -> ErrorReply {
    refusal(
        Code::Unknown,
        "no answer in time: it may or may not have been done",
    )
}

impl MetaService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let identity = ServerIdentity {
            cluster: shared.identity.cluster,
            history: shared.identity.history,
            node: shared.identity.node,
            incarnation: shared.identity.node_incarnation,
            software: SOFTWARE.to_owned(),
        };
        Self {
            membership: tokio::sync::Mutex::default(),
            leader: Leader::new(&shared),
            shared,
            identity,
        }
    }

    /// An error of the namespace as an answer; a failed store ends the server.
    pub(crate) fn read_error(&self, error: ReadError) -> ErrorReply {
        match error {
            ReadError::Refused(refused) => refusal(refused.code, refused.message),
            ReadError::Store(error) => self.store_error(&error),
        }
    }

    pub(crate) fn store_error(&self, error: &drystone_namespace::StoreError) -> ErrorReply {
        self.shared.fail(format!("state store: {error}"));
        refusal(Code::Unavailable, "this server's store failed")
    }

    /// Waits at most until `deadline`.
    pub(crate) async fn until<T>(&self, deadline: Monotonic, future: impl Future<Output = T>) -> Option<T> {
        self.shared.env.clock.until(deadline, future).await
    }

    async fn dispatch(self: Arc<Self>, request: Request) -> Reply {
        match request.kind {
            Kind::ClusterInfo => self.cluster_info(&request).await,
            Kind::Lookup => self.lookup(&request).await,
            Kind::List => self.list(&request).await,
            Kind::Mutate => self.routed(&request, Self::mutate).await,
            Kind::Grant => self.routed(&request, Self::grant).await,
            Kind::Register => self.routed(&request, Self::register).await,
            Kind::Heartbeat => self.routed(&request, Self::heartbeat).await,
            Kind::Admin => self.routed(&request, Self::admin).await,
            Kind::Join => self.routed(&request, Self::join).await,
            Kind::ReportDamage => self.routed(&request, Self::report_damage).await,
            other => Reply::refuse(
                Code::NotSupported,
                format!("a metadata server does not answer {other:?}"),
            ),
        }
    }

    async fn report_damage(
        self: Arc<Self>,
        report: DamageReport,
        _request: Request,
    ) -> Result<Empty, Refused> {
        tracing::warn!(
            chunk = report.chunk,
            disk = report.replica.map_or(0, |replica| replica.disk),
            offset = report.offset,
            code = report.code,
            detail = report.detail,
            "damage reported"
        );
        self.leader
            .with(&self.shared, |office| office.damage_reports += 1)
            .ok_or(Refused::NotLeader)?;
        Ok(Empty {})
    }

    fn raft(&self, request: &Request) {
        let from = request.peer.hello.node;
        let Ok(messages) = request.decode::<RaftMessages>() else {
            return;
        };
        if from != 0 && messages.messages.iter().all(|message| message.from == from) {
            self.shared
                .transport
                .deliver(&self.shared, NodeId(from), messages);
        }
    }

    /// Queues a part of a snapshot at once, so that parts stay in order.
    fn snapshot(&self, request: Request) -> BoxFuture<Reply> {
        let part = match request.decode::<SnapshotPart>() {
            Ok(part) => part,
            Err(error) => return ready(Reply::error(error)),
        };
        if part.from != request.peer.hello.node || self.shared.peers.address(NodeId(part.from)).is_none() {
            let message = "snapshots come from members under their own name";
            return ready(Reply::refuse(Code::Stranger, message));
        }
        let (reply, answer) = oneshot::channel();
        let data = request.payload;
        if self
            .shared
            .snapshot_parts
            .try_send(Incoming { part, data, reply })
            .is_err()
        {
            return ready(Reply::error(busy("too many parts of snapshots wait")));
        }
        Box::pin(async move {
            let stopping = || Err(refusal(Code::Unavailable, "this server is stopping"));
            Reply::from_result(answer.await.unwrap_or_else(|_| stopping()))
        })
    }
}

/// The service as the wire sees it.
pub(crate) struct WireService(pub(crate) Arc<MetaService>);

impl Service for WireService {
    fn hello(&self, hello: &Hello) -> Result<HelloReply, ErrorReply> {
        let service = &self.0;
        let reply = service.identity.answer(hello)?;
        if hello.node != 0 {
            let own = (hello.node == service.identity.node.0).then_some(service.identity.incarnation.0);
            let known = own.or_else(|| {
                service
                    .shared
                    .read()
                    .node(hello.node)
                    .map(|node| node.incarnation)
            });
            if known.is_some_and(|known| known != hello.incarnation) {
                let message = format!("node {} was formatted anew: it needs a new id", hello.node);
                return Err(refusal(Code::Stranger, message));
            }
        }
        Ok(reply)
    }

    fn handle(&self, request: Request) -> BoxFuture<Reply> {
        let service = &self.0;
        if service.shared.is_stopped() {
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
