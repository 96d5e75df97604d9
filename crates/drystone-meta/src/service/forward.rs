//! Where a request is answered: here if this server leads, otherwise at the leader, one hop only.

use super::{AGAIN, MetaService, Refused, SOFTWARE};
use drystone_env::Monotonic;
use drystone_proto::Message;
use drystone_proto::cluster::ErrorReply;
use drystone_rpc::{CallError, CallOptions, Reply, Request, refusal};
use drystone_types::{Code, NodeId};
use std::sync::Arc;

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

impl MetaService {
    /// The address of a member, if this server knows that it is none: it will never hear who leads.
    fn replaced_by(&self) -> Option<String> {
        let view = self.shared.view.borrow();
        if !view.is_removed(self.shared.identity.node) {
            return None;
        }
        let mut members = view.conf.voters.iter();
        members.find_map(|member| self.shared.peers.address(NodeId(*member)))
    }

    /// Waits until somebody leads.
    pub(super) async fn route(&self, deadline: Monotonic) -> Result<Route, ErrorReply> {
        let me = self.shared.identity.node;
        if let Some(member) = self.replaced_by() {
            return Err(ErrorReply {
                leader: member,
                ..refusal(Code::NotLeader, "this server is no member any more")
            });
        }
        let mut watch = self.shared.view.subscribe();
        let known = watch.wait_for(|view| match view.leader {
            Some(leader) if leader == me => view.office.is_some(),
            Some(leader) => self.shared.peers.address(leader).is_some(),
            None => false,
        });
        let nobody = || refusal(Code::Unavailable, "no leader is known: nothing was done");
        let view = self
            .until(deadline, known)
            .await
            .ok_or_else(nobody)?
            .map_err(|_| nobody())?;
        match view.leader {
            Some(leader) if leader != me => {
                let address = self.shared.peers.address(leader).ok_or_else(nobody)?;
                Ok(Route::Leader {
                    node: leader,
                    address,
                })
            }
            _ => Ok(Route::Here),
        }
    }

    /// Answers a request as leader or hands it on.
    pub(super) async fn routed<Req, Rep, F>(
        self: &Arc<Self>,
        request: &Request,
        answer: impl Fn(Arc<Self>, Req, Request) -> F,
    ) -> Reply
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
                Route::Here => match answer(Arc::clone(self), message.clone(), request.clone()).await {
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
        let clock = &self.shared.env.clock;
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
        self.shared.metrics.forwarded.inc();
        let channel = self.shared.channels.to_node(address, node);
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
}
