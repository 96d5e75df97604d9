//! Look-ups and listings.

use super::router::{NotForwarded, Route, Router, came_from_metadata};
use crate::leader::office::Leader;
use crate::metrics::Metrics;
use crate::raft::handle::RaftHandle;
use crate::state::cell::StateReader;
use crate::state::readers::Readers;
use drystone_env::Clock;
use drystone_namespace::{Caller, ContentPage, Namespace, NamespaceView, OrderedStore, ReadError, Want};
use drystone_proto::Message;
use drystone_proto::cluster::ErrorReply;
use drystone_proto::command::Target;
use drystone_proto::meta::{Consistency, ListReply, ListRequest, LookupReply, LookupRequest};
use drystone_proto::record::InodeKind;
use drystone_rpc::{Reply, Request, refusal};
use drystone_types::{Code, InodeId};
use std::sync::Arc;
use std::time::Duration;

/// Extents in one answer.
const EXTENTS: usize = 1_000;
/// Extents that are read while the namespace is locked: those of all but large files. More are read from a view.
const FEW_EXTENTS: usize = 16;
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
    pub(crate) readers: Readers,
    pub(crate) metrics: Metrics,
}

impl Lookups {
    pub(super) async fn lookup(&self, request: &Request) -> Reply {
        let lookup = match request.decode::<LookupRequest>() {
            Ok(lookup) => lookup,
            Err(error) => return Reply::error(error),
        };
        let freshness = (lookup.consistency, lookup.min_index);
        match self.answered_elsewhere(request, &lookup, freshness).await {
            Some(reply) => reply,
            None => Reply::from_result(self.look_up(lookup).await),
        }
    }

    pub(super) async fn list(&self, request: &Request) -> Reply {
        let list = match request.decode::<ListRequest>() {
            Ok(list) => list,
            Err(error) => return Reply::error(error),
        };
        let freshness = (list.consistency, list.min_index);
        match self.answered_elsewhere(request, &list, freshness).await {
            Some(reply) => reply,
            None => Reply::from_result(self.list_directory(list).await),
        }
    }

    /// Returns without a reply once the state here is fresh enough to answer from, or hands the read on to the leader.
    async fn answered_elsewhere<Req: Message + Routed>(
        &self,
        request: &Request,
        message: &Req,
        (consistency, min_index): (i32, u64),
    ) -> Option<Reply> {
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
                return None;
            }
        }
        loop {
            let route = match self.router.route(request.deadline).await {
                Ok(place) => place,
                Err(error) => return Some(Reply::error(error)),
            };
            match route {
                Route::Here => match self.router.confirmed(request.deadline).await {
                    Ok(()) => return None,
                    Err(error) if error.code == Code::NotLeader.number() => {}
                    Err(error) => return Some(Reply::error(error)),
                },
                Route::Leader { address, .. } if came_from_metadata(request) => {
                    return Some(Reply::error(ErrorReply {
                        leader: address,
                        ..refusal(Code::NotLeader, "ask the leader")
                    }));
                }
                Route::Leader { node, address } => {
                    match self
                        .router
                        .forward::<Req, Req::Reply>(request, message, node, &address)
                        .await
                    {
                        Ok(reply) => return Some(Reply::ok(&reply)),
                        // A read may be asked again whatever became of it.
                        Err(NotForwarded::Error(error)) if error.code != Code::Unknown.number() => {
                            return Some(Reply::error(error));
                        }
                        Err(_) => {}
                    }
                }
            }
            if !self.router.pause(request.deadline).await {
                return Some(Reply::refuse(Code::Unavailable, "no leader answered"));
            }
        }
    }

    /// This server waits for a snapshot: what it holds may be far behind.
    fn is_behind(&self) -> bool {
        self.raft.borrow_view().needs_snapshot
    }

    async fn look_up(&self, lookup: LookupRequest) -> Result<LookupReply, ErrorReply> {
        self.state.initialized()?;
        let few = look_up_in(&*self.state.read(), &lookup, FEW_EXTENTS);
        let mut reply = few.map_err(|error| self.refused(error))?;
        if reply.next_offset != 0 {
            let many = move |view: NamespaceView| look_up_in(&*view, &lookup, EXTENTS);
            let many = self.readers.read(&self.state, many).await?;
            reply = many.map_err(|error| self.refused(error))?;
        }
        self.leader.mark_suspects(&mut reply.disks);
        Ok(reply)
    }

    async fn list_directory(&self, list: ListRequest) -> Result<ListReply, ErrorReply> {
        self.state.initialized()?;
        let read = move |view: NamespaceView| {
            let caller = Caller::new(&list.user, &list.groups);
            let target = list.target.unwrap_or_default();
            let limit = list.limit.clamp(1, ENTRIES) as usize;
            (view.list(&target, &caller, &list.after, limit), view.applied().0)
        };
        let (page, index) = self.readers.read(&self.state, read).await?;
        let page = page.map_err(|error| self.state.read_error(error))?;
        Ok(ListReply {
            entries: page.entries,
            more: page.more,
            index,
        })
    }

    fn refused(&self, error: LookupError) -> ErrorReply {
        match error {
            LookupError::Gone => refusal(Code::Changed, "the pinned content is gone"),
            LookupError::Read(error) => self.state.read_error(error),
        }
    }
}

/// Why a look-up finds nothing.
enum LookupError {
    /// What the caller has pinned is not there any more.
    Gone,
    Read(ReadError),
}

impl From<ReadError> for LookupError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Looks up in `state`, with at most so many extents.
fn look_up_in<S: OrderedStore>(
    state: &Namespace<S>,
    lookup: &LookupRequest,
    extents: usize,
) -> Result<LookupReply, LookupError> {
    let caller = Caller::new(&lookup.user, &lookup.groups);
    let root = Target::default();
    let target = lookup.target.as_ref().unwrap_or(&root);
    let want = match (lookup.content, lookup.to_convert) {
        (false, _) => Want::Attributes,
        (true, false) => Want::Content,
        (true, true) => Want::ToConvert,
    };
    let mut found = match (state.lookup(target, &caller, want), lookup.pinned) {
        (Ok(found), _) => found,
        (Err(ReadError::Refused(refused)), Some(_)) if refused.code == Code::NotFound => {
            return Err(LookupError::Gone);
        }
        (Err(error), _) => return Err(error.into()),
    };
    if lookup
        .pinned
        .is_some_and(|pin| (pin.inode, pin.version) != (found.inode.id, found.inode.version))
    {
        return Err(LookupError::Gone);
    }
    let file = found.inode.kind() == InodeKind::File;
    let page = if want == Want::Content && file && found.inode.inline.is_none() {
        let page = state.content(InodeId(found.inode.id), lookup.offset, lookup.length, extents);
        page.map_err(ReadError::Store)?
    } else {
        ContentPage::default()
    };
    if !lookup.content {
        found.inode.inline = None;
    }
    let disks = state.locate(&page.chunks);
    Ok(LookupReply {
        inode: Some(found.inode),
        extents: page.extents,
        chunks: page.chunks,
        disks,
        next_offset: page.next_offset,
        index: state.applied().0,
        policy: Some(found.policy),
    })
}

/// A request that the leader may answer instead, and its reply.
trait Routed {
    type Reply: Message + Default;
}

impl Routed for LookupRequest {
    type Reply = LookupReply;
}

impl Routed for ListRequest {
    type Reply = ListReply;
}
