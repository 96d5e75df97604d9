//! What a step of the store gives out, and how the disk is: disk work, answers, failures.

use crate::class::IoClass;
use crate::error::StoreError;
use crate::input::{RequestId, StoreReply};
use crate::space::Owner;
use drystone_env::{IoOp, IoRequest, IoToken};
use drystone_types::ChunkId;
use std::collections::BTreeMap;

/// What a piece of disk work is for.
pub(crate) enum DiskTask {
    Write {
        chunk: ChunkId,
        live: u64,
        owner: Owner,
        bytes: u64,
    },
    Sync {
        arena: u32,
    },
    /// Bytes of a chunk from `at` on.
    ReadData {
        job: u64,
        owner: Owner,
        at: u64,
    },
    /// Bytes of a chunk's tail; `at` is where they begin in its runs.
    ReadTail {
        job: u64,
        owner: Owner,
        at: u64,
    },
    /// Bytes of the tail of a chunk that is copied out of an arena; `at` is where they begin in its runs.
    CopyTail {
        copy: u64,
        owner: Owner,
        at: u64,
    },
    /// Bytes of it from `at` on.
    CopyData {
        copy: u64,
        owner: Owner,
        at: u64,
    },
    CopyWrite {
        copy: u64,
        owner: Owner,
    },
    Make {
        arena: u32,
    },
    Remove {
        arena: u32,
    },
    Checkpoint,
}

/// Disk work under way and disk work to hand out; the journal's own is not counted here.
pub(crate) struct DiskWork {
    next_token: u64,
    under_way: BTreeMap<u64, (IoClass, DiskTask)>,
    /// To be handed out at the end of this step, in this order.
    pub(crate) requests: Vec<IoRequest>,
}

impl DiskWork {
    pub(crate) fn new() -> Self {
        Self {
            next_token: 1,
            under_way: BTreeMap::new(),
            requests: Vec::new(),
        }
    }

    /// Asks for disk work; the token comes back with its completion.
    pub(crate) fn request(&mut self, class: IoClass, op: IoOp, task: DiskTask) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.under_way.insert(token, (class, task));
        self.requests.push(IoRequest {
            token: IoToken(token),
            op,
        });
        token
    }

    /// What is to be handed out, with its class: the journal's is always of the foreground.
    pub(crate) fn take_requests(&mut self) -> impl Iterator<Item = (IoClass, IoRequest)> + '_ {
        let Self {
            under_way, requests, ..
        } = self;
        requests.drain(..).map(|request| {
            let class = under_way
                .get(&request.token.0)
                .map_or(IoClass::Foreground, |(class, _)| *class);
            (class, request)
        })
    }

    /// What the completed work was for; `None` if nothing of this token was asked for.
    pub(crate) fn complete(&mut self, token: u64) -> Option<DiskTask> {
        self.under_way.remove(&token).map(|(_, task)| task)
    }

    /// Pieces of work that have not come back.
    pub(crate) fn count(&self) -> usize {
        self.under_way.len()
    }
}

/// Answers to hand out at the end of this step.
#[derive(Default)]
pub(crate) struct Replies {
    waiting: Vec<(RequestId, Result<StoreReply, StoreError>)>,
}

impl Replies {
    pub(crate) fn send(&mut self, request: RequestId, result: Result<StoreReply, StoreError>) {
        self.waiting.push((request, result));
    }

    pub(crate) fn take(&mut self) -> impl Iterator<Item = (RequestId, Result<StoreReply, StoreError>)> + '_ {
        self.waiting.drain(..)
    }
}

/// What has gone wrong since the store was opened.
#[derive(Default)]
pub(crate) struct DiskHealth {
    /// Why nothing is written any more.
    pub(crate) failed: Option<String>,
    pub(crate) io_errors: u64,
    pub(crate) checksum_errors: u64,
}
