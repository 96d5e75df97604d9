//! Where and when a request is answered: here if this server leads, otherwise at the leader, one hop only.

use super::refused::{Refused, unknown};
use crate::membership::members::Members;
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use crate::raft::reads::read_failure;
use crate::state::cell::StateReader;
use drystone_env::planted::{Bug, planted};
use drystone_env::{Clock, Monotonic};
use drystone_proto::Message;
use drystone_proto::cluster::ErrorReply;
use drystone_rpc::{CallError, CallOptions, Channels, Reply, Request, refusal};
use drystone_types::{Code, NodeId};
use std::sync::Arc;
use std::time::Duration;

/// How metadata servers introduce themselves: a request that came from one is never handed on again.
pub(crate) const SOFTWARE: &str = concat!("drystone-meta/", env!("CARGO_PKG_VERSION"));

/// How long to wait before a leader that refused is asked again: some round trips.
const AGAIN: Duration = Duration::from_millis(20);

/// Who answers.
pub(super) enum Route {
    /// This server, in its office.
    Here,
    /// That one, which leads.
    Leader {
        /// The leader.
        node: NodeId,
        /// Its address.
        address: String,
    },
}

/// Why a request that was handed on has no answer.
pub(super) enum NotForwarded {
    /// Certainly not done: another leader may be asked.
    Again,
    /// The answer.
    Error(ErrorReply),
}

/// A request that can be tried again after it failed at one leader.
pub(super) fn came_from_metadata(request: &Request) -> bool {
    request.peer.hello.node != 0 && request.peer.hello.software.starts_with(name_of(SOFTWARE))
}

fn name_of(software: &str) -> &str {
    software.split('/').next().unwrap_or(software)
}

/// Decides where a request is answered, and waits until this server may answer.
pub(crate) struct Router {
    pub(crate) me: NodeId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) members: Arc<Members>,
    pub(crate) channels: Channels,
    pub(crate) metrics: Metrics,
}

impl Router {
    /// The address of a member, if this server knows that it is none: it will never hear who leads.
    fn replaced_by(&self) -> Option<String> {
        let view = self.raft.borrow_view();
        if !view.is_removed(self.me) {
            return None;
        }
        let mut members = view.conf.voters.iter();
        members.find_map(|member| self.members.peers().address(NodeId(*member)))
    }

    /// Waits until somebody leads.
    pub(super) async fn route(&self, deadline: Monotonic) -> Result<Route, ErrorReply> {
        let me = self.me;
        if let Some(member) = self.replaced_by() {
            return Err(ErrorReply {
                leader: member,
                ..refusal(Code::NotLeader, "this server is no member any more")
            });
        }
        let mut watch = self.raft.watch();
        let known = watch.wait_for(|view| match view.leader {
            Some(leader) if leader == me => view.office.is_some(),
            Some(leader) => self.members.peers().address(leader).is_some(),
            None => false,
        });
        let nobody = || refusal(Code::Unavailable, "no leader is known: nothing was done");
        let view = self
            .clock
            .until(deadline, known)
            .await
            .ok_or_else(nobody)?
            .map_err(|_| nobody())?;
        match view.leader {
            Some(leader) if leader != me => {
                let address = self.members.peers().address(leader).ok_or_else(nobody)?;
                Ok(Route::Leader {
                    node: leader,
                    address,
                })
            }
            _ => Ok(Route::Here),
        }
    }

    /// Answers a request as leader or hands it on.
    pub(super) async fn routed<Req, Rep, F>(&self, request: &Request, answer: impl Fn(Req) -> F) -> Reply
    where
        Req: Message + Default + Clone,
        Rep: Message + Default,
        F: Future<Output = Result<Rep, Refused>> + Send,
    {
        let message: Req = match request.decode() {
            Ok(message) => message,
            Err(error) => return Reply::error(error),
        };
        loop {
            let route = match self.route(request.deadline).await {
                Ok(place) => place,
                Err(error) => return Reply::error(error),
            };
            match route {
                Route::Here => match answer(message.clone()).await {
                    Ok(reply) => return Reply::ok(&reply),
                    Err(Refused::Error(error)) => return Reply::error(error),
                    Err(Refused::NotLeader) => {}
                },
                Route::Leader { address, .. } if came_from_metadata(request) => {
                    return Reply::error(ErrorReply {
                        leader: address,
                        ..refusal(Code::NotLeader, "ask the leader")
                    });
                }
                Route::Leader { node, address } => {
                    match self.forward::<Req, Rep>(request, &message, node, &address).await {
                        Ok(reply) => return Reply::ok(&reply),
                        Err(NotForwarded::Error(error)) => return Reply::error(error),
                        Err(NotForwarded::Again) => {}
                    }
                }
            }
            if !self.pause(request.deadline).await {
                return Reply::refuse(Code::Unavailable, "no leader answered: nothing was done");
            }
        }
    }

    /// A moment, if the deadline leaves one.
    pub(super) async fn pause(&self, deadline: Monotonic) -> bool {
        let clock = &self.clock;
        let until = clock.now().plus(AGAIN);
        if until >= deadline {
            return false;
        }
        clock.sleep_until(until).await;
        true
    }

    pub(super) async fn forward<Req: Message, Rep: Message + Default>(
        &self,
        request: &Request,
        message: &Req,
        node: NodeId,
        address: &str,
    ) -> Result<Rep, NotForwarded> {
        self.metrics.forwarded.inc();
        let channel = self.channels.to_node(address, node);
        let options = CallOptions::until(request.deadline)
            .priority(request.priority)
            .client(request.client);
        match channel
            .call::<Req, Rep>(request.kind, message, None, options)
            .await
        {
            Ok(answer) => Ok(answer.body),
            Err(CallError::NotSent(_)) => Err(NotForwarded::Again),
            Err(CallError::Refused(error)) if error.code == Code::NotLeader.number() => {
                Err(NotForwarded::Again)
            }
            Err(CallError::Refused(error)) => Err(NotForwarded::Error(error)),
            Err(CallError::Unknown(reason)) => {
                Err(NotForwarded::Error(refusal(Code::Unknown, reason.to_string())))
            }
        }
    }

    /// Returns once the state here holds everything that was answered anywhere before the call.
    pub(super) async fn confirmed(&self, deadline: Monotonic) -> Result<(), ErrorReply> {
        if planted(Bug::ReadsNotConfirmed) {
            return Ok(());
        }
        let answer = self.raft.read_index();
        let index = match self.clock.until(deadline, answer).await {
            Some(Ok(Ok(index))) => index,
            Some(Ok(Err(reason))) => {
                let (code, message) = read_failure(reason);
                return Err(refusal(code, message));
            }
            Some(Err(_)) => return Err(refusal(Code::Unavailable, "this server is stopping")),
            None => return Err(unknown()),
        };
        self.clock
            .until(deadline, self.state.applied().reached(index))
            .await
            .ok_or_else(unknown)
    }
}
