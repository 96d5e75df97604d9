//! Look-ups and listings.

use super::router::{NotForwarded, Route, Router, came_from_metadata};
use crate::leader::office::Leader;
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use drystone_env::Clock;
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

/// Extents in one answer.
const EXTENTS: usize = 1_000;
/// Entries in one answer.
const ENTRIES: u32 = 10_000;
/// How long a session read waits here for its index before the leader is asked instead.
const SESSION_WAIT: Duration = Duration::from_millis(100);

/// Answers look-ups and listings.
pub(crate) struct Lookups {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) router: Arc<Router>,
    pub(crate) raft: RaftHandle,
    pub(crate) state: StateReader,
    pub(crate) leader: Arc<Leader>,
    pub(crate) metrics: Metrics,
}

impl Lookups {
    pub(super) async fn lookup(&self, request: &Request) -> Reply {
        let lookup = match request.decode::<LookupRequest>() {
            Ok(lookup) => lookup,
            Err(error) => return Reply::error(error),
        };
        let freshness = (lookup.consistency, lookup.min_index);
        self.reading(request, &lookup, freshness, |service| service.look_up(&lookup))
            .await
    }

    pub(super) async fn list(&self, request: &Request) -> Reply {
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
        &self,
        request: &Request,
        message: &Req,
        (consistency, min_index): (i32, u64),
        answer: impl Fn(&Self) -> Result<Rep, ErrorReply>,
    ) -> Reply {
        self.metrics.reads.inc();
        if Consistency::try_from(consistency) == Ok(Consistency::Session) {
            let wait = self.clock.now().plus(SESSION_WAIT).min(request.deadline);
            if self
                .clock
                .until(wait, self.state.applied().reached(min_index))
                .await
                .is_some()
                && !self.is_behind()
            {
                return Reply::from_result(answer(self));
            }
        }
        loop {
            let route = match self.router.route(request.deadline).await {
                Ok(place) => place,
                Err(error) => return Reply::error(error),
            };
            match route {
                Route::Here => match self.router.confirmed(request.deadline).await {
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
                    match self
                        .router
                        .forward::<Req, Rep>(request, message, node, &address)
                        .await
                    {
                        Ok(reply) => return Reply::ok(&reply),
                        // A read may be asked again whatever became of it.
                        Err(NotForwarded::Error(error)) if error.code != Code::Unknown.number() => {
                            return Reply::error(error);
                        }
                        Err(_) => {}
                    }
                }
            }
            if !self.router.pause(request.deadline).await {
                return Reply::refuse(Code::Unavailable, "no leader answered");
            }
        }
    }

    /// This server waits for a snapshot: what it holds may be far behind.
    fn is_behind(&self) -> bool {
        self.raft.borrow_view().needs_snapshot
    }

    fn look_up(&self, lookup: &LookupRequest) -> Result<LookupReply, ErrorReply> {
        self.state.initialized()?;
        let state = self.state.read();
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
                return Err(self.state.read_error(error));
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
            page.map_err(|error| self.state.store_error(&error))?
        } else {
            ContentPage::default()
        };
        if !lookup.content {
            found.inode.inline = None;
        }
        let mut disks = state.locate(&page.chunks);
        let index = state.applied().0;
        drop(state);
        self.leader.mark_suspects(&mut disks);
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
        self.state.initialized()?;
        let state = self.state.read();
        let caller = Caller::new(&list.user, &list.groups);
        let root = Target::default();
        let target = list.target.as_ref().unwrap_or(&root);
        let limit = list.limit.clamp(1, ENTRIES) as usize;
        let page = state.list(target, &caller, &list.after, limit);
        let index = state.applied().0;
        drop(state);
        let page = page.map_err(|error| self.state.read_error(error))?;
        Ok(ListReply {
            entries: page.entries,
            more: page.more,
            index,
        })
    }
}
