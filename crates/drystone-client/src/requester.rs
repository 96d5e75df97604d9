//! Sends requests to the metadata servers on behalf of one caller.

use crate::attributes::Idempotency;
use crate::meta::{Alternative, Failed, Meta, MetaCall, Repeat};
use crate::metrics::Metrics;
use crate::options::{Caller, Consistency, Options};
use drystone_env::{BufferPool, Clock, Env, Monotonic};
use drystone_proto::command::{Op, Outcome, Target};
use drystone_proto::meta::{self, LookupReply, LookupRequest, MutateReply};
use drystone_proto::{Kind, Message};
use drystone_rpc::Channels;
use drystone_types::HistoryId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What all handles of one process share.
pub(crate) struct ClientProcess {
    pub(crate) env: Env,
    pub(crate) options: Options,
    pub(crate) channels: Channels,
    pub(crate) pool: BufferPool,
    pub(crate) meta: Meta,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) history: HistoryId,
}

/// See the module. Clones share what they have seen.
#[derive(Clone)]
pub(crate) struct Requester {
    process: Arc<ClientProcess>,
    caller: Arc<Caller>,
    seen: Arc<AtomicU64>,
}

impl Requester {
    /// For `caller`, who has seen nothing.
    pub(crate) fn new(process: ClientProcess, caller: Caller) -> Self {
        Self {
            process: Arc::new(process),
            caller: Arc::new(caller),
            seen: Arc::new(AtomicU64::new(0)),
        }
    }

    /// For `caller`, who has seen what this one has seen.
    pub(crate) fn as_caller(&self, caller: Caller) -> Self {
        Self {
            process: Arc::clone(&self.process),
            caller: Arc::new(caller),
            seen: Arc::new(AtomicU64::new(self.seen())),
        }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn env(&self) -> &Env {
        &self.process.env
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.process.env.clock
    }

    pub(crate) fn now(&self) -> Monotonic {
        self.clock().now()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.process.options
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.process.channels
    }

    pub(crate) fn pool(&self) -> &BufferPool {
        &self.process.pool
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.process.meta
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.process.metrics
    }

    pub(crate) fn history(&self) -> HistoryId {
        self.process.history
    }

    /// When an operation that begins now is given up.
    pub(crate) fn deadline(&self) -> Monotonic {
        self.now().plus(self.options().deadline)
    }

    /// An answer was of log index `index`.
    pub(crate) fn saw(&self, index: u64) {
        self.seen.fetch_max(index, Ordering::Relaxed);
    }

    /// The highest log index of an answer.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// One question to the leader within the client's deadline.
    pub(crate) async fn ask<Req: Message, Rep: Message + Default>(
        &self,
        operation: &'static str,
        kind: Kind,
        repeat: Repeat,
        request: &Req,
    ) -> Result<Rep, Failed> {
        let call = MetaCall {
            operation,
            kind,
            deadline: self.deadline(),
            repeat,
        };
        Ok(self.meta().call(call, request).await?.0)
    }

    /// One command, exactly once, before `deadline`.
    pub(crate) async fn mutate(
        &self,
        operation: &'static str,
        key: Option<&Idempotency>,
        op: Op,
        deadline: Monotonic,
    ) -> Result<Outcome, Failed> {
        let reply = self.mutate_inline(operation, key, op, None, deadline).await?;
        Ok(reply.outcome.unwrap_or_default())
    }

    /// The same of a command with content, with the whole answer: it says whether enough voters have the content. Of
    /// inline content `other` is the same in a chunk.
    pub(crate) async fn mutate_inline(
        &self,
        operation: &'static str,
        key: Option<&Idempotency>,
        op: Op,
        other: Option<Alternative<'_>>,
        deadline: Monotonic,
    ) -> Result<MutateReply, Failed> {
        let reply = self
            .meta()
            .mutate(operation, &self.caller, key, op, other, deadline)
            .await?;
        self.saw(reply.index);
        Ok(reply)
    }

    /// A look-up of `target`; the rest of `request` is the caller's.
    pub(crate) async fn look_up(
        &self,
        operation: &'static str,
        target: Target,
        consistency: Consistency,
        request: LookupRequest,
    ) -> Result<LookupReply, Failed> {
        let request = LookupRequest {
            target: Some(target),
            consistency: match consistency {
                Consistency::Linearizable => meta::Consistency::Linearizable as i32,
                Consistency::Session => meta::Consistency::Session as i32,
            },
            min_index: self.seen(),
            user: self.caller.user.clone(),
            groups: self.caller.groups.clone(),
            ..request
        };
        let reply: LookupReply = self.ask(operation, Kind::Lookup, Repeat::Read, &request).await?;
        self.saw(reply.index);
        Ok(reply)
    }
}
