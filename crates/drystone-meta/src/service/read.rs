//! Look-ups and listings.

use super::forward::{NotForwarded, Route, came_from_metadata};
use super::{MetaService, unknown};
use crate::message::ToRaft;
use crate::raft::reads::read_failure;
use drystone_env::Monotonic;
use drystone_env::planted::{Bug, planted};
use drystone_namespace::{Caller, ContentPage, ReadError, Want};
use drystone_proto::Message;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::Target;
use drystone_proto::meta::{Consistency, ListReply, ListRequest, LookupReply, LookupRequest};
use drystone_proto::record::InodeKind;
use drystone_rpc::{Reply, Request, refusal};
use drystone_types::Code;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Extents in one answer.
const EXTENTS: usize = 1_000;
/// Entries in one answer.
const ENTRIES: u32 = 10_000;
/// How long a session read waits here for its index before the leader is asked instead.
const SESSION_WAIT: Duration = Duration::from_millis(100);

impl MetaService {
    pub(super) async fn lookup(self: &Arc<Self>, request: &Request) -> Reply {
        let lookup = match request.decode::<LookupRequest>() {
            Ok(lookup) => lookup,
            Err(error) => return Reply::error(error),
        };
        let freshness = (lookup.consistency, lookup.min_index);
        self.reading(request, &lookup, freshness, |service| service.look_up(&lookup))
            .await
    }

    pub(super) async fn list(self: &Arc<Self>, request: &Request) -> Reply {
        let list = match request.decode::<ListRequest>() {
            Ok(list) => list,
            Err(error) => return Reply::error(error),
        };
        let freshness = (list.consistency, list.min_index);
        self.reading(request, &list, freshness, |service| service.list_directory(&list))
            .await
    }

    /// Answers a read once the state here is fresh enough, or hands it on to the leader.
    async fn reading<Req: Message, Rep: Message + Default>(
        self: &Arc<Self>,
        request: &Request,
        message: &Req,
        (consistency, min_index): (i32, u64),
        answer: impl Fn(&Self) -> Result<Rep, ErrorReply>,
    ) -> Reply {
        self.shared.metrics.reads.inc();
        if Consistency::try_from(consistency) == Ok(Consistency::Session) {
            let wait = self
                .shared
                .env
                .clock
                .now()
                .plus(SESSION_WAIT)
                .min(request.deadline);
            if self
                .until(wait, self.shared.applied.reached(min_index))
                .await
                .is_some()
                && !self.is_behind()
            {
                return Reply::from_result(answer(self));
            }
        }
        loop {
            let route = match self.route(request.deadline).await {
                Ok(place) => place,
                Err(error) => return Reply::error(error),
            };
            match route {
                Route::Here => match self.confirmed(request.deadline).await {
                    Ok(()) => return Reply::from_result(answer(self)),
                    Err(error) if error.code == Code::NotLeader.number() => {}
                    Err(error) => return Reply::error(error),
                },
                Route::Leader { address, .. } if came_from_metadata(request) => {
                    return Reply::error(ErrorReply {
                        leader: address,
                        ..refusal(Code::NotLeader, "ask the leader")
                    });
                }
                Route::Leader { node, address } => {
                    match self.forward::<Req, Rep>(request, message, node, &address).await {
                        Ok(reply) => return Reply::ok(&reply),
                        // A read may be asked again whatever became of it.
                        Err(NotForwarded::Error(error)) if error.code != Code::Unknown.number() => {
                            return Reply::error(error);
                        }
                        Err(_) => {}
                    }
                }
            }
            if !self.pause(request.deadline).await {
                return Reply::refuse(Code::Unavailable, "no leader answered");
            }
        }
    }

    /// This server waits for a snapshot: what it holds may be far behind.
    fn is_behind(&self) -> bool {
        self.shared.view.borrow().needs_snapshot
    }

    /// Returns once the state here holds everything that was answered anywhere before the call.
    pub(super) async fn confirmed(&self, deadline: Monotonic) -> Result<(), ErrorReply> {
        if planted(Bug::ReadsNotConfirmed) {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        if self.shared.reads.push(reply) {
            self.shared.to_raft(ToRaft::Reads);
        }
        let index = match self.until(deadline, answer).await {
            Some(Ok(Ok(index))) => index,
            Some(Ok(Err(reason))) => {
                let (code, message) = read_failure(reason);
                return Err(refusal(code, message));
            }
            Some(Err(_)) => return Err(refusal(Code::Unavailable, "this server is stopping")),
            None => return Err(unknown()),
        };
        self.until(deadline, self.shared.applied.reached(index))
            .await
            .ok_or_else(unknown)
    }

    /// Before the first leader has made the root nothing can be said about names: not even that they do not exist.
    pub(super) fn begun(&self) -> Result<(), ErrorReply> {
        if self.shared.read().initialized() {
            Ok(())
        } else {
            Err(refusal(Code::Unavailable, "the cluster is being made"))
        }
    }

    fn look_up(&self, lookup: &LookupRequest) -> Result<LookupReply, ErrorReply> {
        self.begun()?;
        let state = self.shared.read();
        let caller = Caller::new(&lookup.user, &lookup.groups);
        let root = Target::default();
        let target = lookup.target.as_ref().unwrap_or(&root);
        let want = if lookup.content {
            Want::Content
        } else {
            Want::Attributes
        };
        let gone = || refusal(Code::Changed, "the pinned content is gone");
        let mut found = match (state.lookup(target, &caller, want), lookup.pinned) {
            (Ok(found), _) => found,
            (Err(ReadError::Refused(refused)), Some(_)) if refused.code == Code::NotFound => {
                return Err(gone());
            }
            (Err(error), _) => {
                drop(state);
                return Err(self.read_error(error));
            }
        };
        if lookup
            .pinned
            .is_some_and(|pin| (pin.inode, pin.version) != (found.inode.id, found.inode.version))
        {
            return Err(gone());
        }
        let file = found.inode.kind() == InodeKind::File;
        let page = if lookup.content && file && found.inode.inline.is_none() {
            let page = state.content(found.inode.id, lookup.offset, lookup.length, EXTENTS);
            page.map_err(|error| self.store_error(&error))?
        } else {
            ContentPage::default()
        };
        if !lookup.content {
            found.inode.inline = None;
        }
        let mut disks = state.locate(&page.chunks);
        let index = state.applied().0;
        drop(state);
        self.leader.mark_suspects(&self.shared, &mut disks);
        Ok(LookupReply {
            inode: Some(found.inode),
            extents: page.extents,
            chunks: page.chunks,
            disks,
            next_offset: page.next_offset,
            index,
            policy: Some(found.policy),
        })
    }

    fn list_directory(&self, list: &ListRequest) -> Result<ListReply, ErrorReply> {
        self.begun()?;
        let state = self.shared.read();
        let caller = Caller::new(&list.user, &list.groups);
        let root = Target::default();
        let target = list.target.as_ref().unwrap_or(&root);
        let limit = list.limit.clamp(1, ENTRIES) as usize;
        let page = state.list(target, &caller, &list.after, limit);
        let index = state.applied().0;
        drop(state);
        let page = page.map_err(|error| self.read_error(error))?;
        Ok(ListReply {
            entries: page.entries,
            more: page.more,
            index,
        })
    }
}
