//! The handle that everything starts from.

use crate::admin::{AdminOp, AdminReply, ClusterInfo, ClusterStatus, DamageReport};
use crate::attributes::Idempotency;
use crate::error::{Error, ErrorKind};
use crate::meta::{Call, Failed, Meta, Repeat};
use crate::metrics::Metrics;
use crate::options::{Caller, Options};
use crate::read::{self, Consistency, ReadOptions, ReadPath, Reader};
use crate::version::ContentVersion;
use crate::write::{Published, WriteOptions, WritePath, Writer};
use bytes::Bytes;
use drystone_env::{BufferPool, Env, Monotonic, Rng};
use drystone_proto::Kind;
use drystone_proto::cluster::{AdminRequest, Empty};
use drystone_proto::command::{Op, Outcome, Target};
use drystone_proto::meta::{self, LookupReply, LookupRequest};
use drystone_rpc::{ChannelOptions, Channels};
use drystone_types::{ClientId, HistoryId, path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Unused buffers that a process keeps: frames of a few writers and readers; more come and go with the system.
const POOL_KEEPS: usize = 64 << 20;

/// How long a process that ends may take to say so.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A client of one cluster, on behalf of one caller. Clones share connections, budgets and the idempotency session;
/// they are cheap.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    caller: Arc<Caller>,
    seen: Arc<AtomicU64>,
}

/// What all handles of one process share.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) options: Options,
    pub(crate) channels: Channels,
    pub(crate) pool: BufferPool,
    pub(crate) meta: Meta,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) writes: WritePath,
    pub(crate) reads: ReadPath,
    history: HistoryId,
}

impl Client {
    /// Finds the cluster: asks the configured metadata servers until one answers. The leader need not be known yet.
    ///
    /// # Errors
    /// `invalid` for faulty options, `unavailable` when no server answers within the deadline.
    pub async fn connect(env: Env, options: Options) -> Result<Client, Error> {
        let faults = options.faults();
        if !faults.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "connect", faults.join("; ")));
        }
        let pool = BufferPool::new(POOL_KEEPS);
        let mut id = [0; 16];
        let mut rng = env.rng(&format!("process {:?}", env.clock.now()));
        rng.fill(&mut id);
        let reads = ReadPath::new(rng.next_u64());
        let mut channel_options = ChannelOptions::new(pool.clone(), ClientId(id));
        channel_options.software = concat!("drystone-client ", env!("CARGO_PKG_VERSION")).to_owned();
        let channels = Channels::new(env.clone(), channel_options);
        let metrics = Arc::new(Metrics::default());
        let meta = Meta::new(
            env.clone(),
            channels.clone(),
            &options.metadata,
            Arc::clone(&metrics),
            options.session_ttl,
        );
        let info = meta.cluster_info(env.clock.now().plus(options.deadline)).await?;
        let history = HistoryId::from_slice(&info.history)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "connect", "the cluster names no history"))?;
        let writes = WritePath::new(&options);
        let caller = Arc::new(options.caller.clone());
        let shared = Shared {
            env,
            options,
            channels,
            pool,
            meta,
            metrics,
            writes,
            reads,
            history,
        };
        Ok(Client {
            shared: Arc::new(shared),
            caller,
            seen: Arc::new(AtomicU64::new(0)),
        })
    }

    /// The same client on behalf of `caller`. It has seen what this handle has seen.
    pub fn as_caller(&self, caller: Caller) -> Client {
        let seen = Arc::new(AtomicU64::new(self.seen.load(Ordering::Relaxed)));
        Client {
            shared: Arc::clone(&self.shared),
            caller: Arc::new(caller),
            seen,
        }
    }

    /// On whose behalf this handle acts.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How this client behaves.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// What this handle has seen, for another door or process to go on from: never back in time.
    pub fn session_token(&self) -> String {
        format!("{}-{:x}", self.shared.history, self.seen.load(Ordering::Relaxed))
    }

    /// The same client, which has also seen what `token` says. A token of another history is refused.
    ///
    /// # Errors
    /// `invalid` if it is not a token of this history.
    pub fn with_session_token(&self, token: &str) -> Result<Client, Error> {
        let parsed = token.trim().split_once('-').and_then(|(history, index)| {
            Some((
                HistoryId::from_hex(history)?,
                u64::from_str_radix(index, 16).ok()?,
            ))
        });
        match parsed {
            Some((history, index)) if history == self.shared.history => {
                let client = self.as_caller(self.caller().clone());
                client.saw(index);
                Ok(client)
            }
            _ => Err(Error::new(
                ErrorKind::Invalid,
                "session token",
                "not a token of this cluster's history",
            )),
        }
    }

    /// The ETag of `version`, with its quotes.
    pub fn etag(&self, version: ContentVersion) -> String {
        version.etag(self.shared.history)
    }

    /// The version that `etag` (with or without quotes) stands for; `None` if it is not one of this history.
    pub fn parse_etag(&self, etag: &str) -> Option<ContentVersion> {
        ContentVersion::from_etag(etag, self.shared.history)
    }

    /// What this process has counted.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Begins to write a file. Nothing is visible before [`Writer::finish`]. No I/O happens here.
    pub fn write(&self, path: &str, options: WriteOptions) -> Writer {
        Writer::new(self.clone(), path, options)
    }

    /// Writes a whole file: [`Client::write`], the content, [`Writer::finish`].
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub async fn put(
        &self,
        path: &str,
        content: Bytes,
        mut options: WriteOptions,
    ) -> Result<Published, Error> {
        options.size_hint = Some(content.len() as u64);
        let mut writer = self.write(path, options);
        writer.write(content).await?;
        writer.finish().await
    }

    /// Opens a file for reading: one look-up, which fixes the content version that the reader will return.
    ///
    /// # Errors
    /// `not_found`, `is_a_directory`, `denied`, `changed` (if a version was pinned), `unavailable`.
    pub async fn open(&self, path: &str, options: ReadOptions) -> Result<Reader, Error> {
        read::open(self, path, options).await
    }

    /// What a client needs to know of the cluster, asked now (of any metadata server).
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        Ok((*self.shared.meta.cluster_info(self.deadline()).await?).clone())
    }

    /// The cluster at a glance, as the leader sees it.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn status(&self) -> Result<ClusterStatus, Error> {
        let request = AdminRequest {
            op: Some(AdminOp::Status(Empty {})),
        };
        let reply: AdminReply = self.ask("status", Kind::Admin, Repeat::Read, &request).await?;
        reply
            .status
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "status", "the answer holds no status"))
    }

    /// Administration, passed through to the leader. Operations that change something are sent once: a lost answer
    /// is `unknown`.
    ///
    /// # Errors
    /// Whatever the leader says; `unknown`, `unavailable`.
    pub async fn admin(&self, op: AdminOp) -> Result<AdminReply, Error> {
        let repeat = match op {
            AdminOp::Status(_) | AdminOp::Raft(_) | AdminOp::Chunk(_) => Repeat::Read,
            AdminOp::RaftReplace(_)
            | AdminOp::UpdateNode(_)
            | AdminOp::TransferLeader(_)
            | AdminOp::ReleaseSweep(_)
            | AdminOp::ReleaseDeletion(_) => Repeat::Once,
        };
        Ok(self
            .ask("admin", Kind::Admin, repeat, &AdminRequest { op: Some(op) })
            .await?)
    }

    /// Tells the leader of a replica that is damaged or missing. Best effort, but waits for the answer.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn report_damage(&self, report: DamageReport) -> Result<(), Error> {
        let _: Empty = self
            .ask("report damage", Kind::ReportDamage, Repeat::Read, &report)
            .await?;
        Ok(())
    }

    /// The process is done with the cluster: gives the idempotency session back, if one was opened, instead of leaving
    /// it to its time-out. Takes a moment at most, and all handles share the session: for the end of a short-lived
    /// process. A later command opens another one.
    pub async fn close(&self) {
        let deadline = self.shared.env.clock.now().plus(CLOSE_WAIT).min(self.deadline());
        self.shared.meta.close(&self.caller, deadline).await;
    }

    pub(crate) fn deadline(&self) -> Monotonic {
        self.shared.env.clock.now().plus(self.shared.options.deadline)
    }

    pub(crate) fn saw(&self, index: u64) {
        self.seen.fetch_max(index, Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// One question to the leader within the client's deadline.
    pub(crate) async fn ask<Req: drystone_proto::Message, Rep: drystone_proto::Message + Default>(
        &self,
        operation: &'static str,
        kind: Kind,
        repeat: Repeat,
        request: &Req,
    ) -> Result<Rep, Failed> {
        let call = Call {
            operation,
            kind,
            deadline: self.deadline(),
            repeat,
        };
        Ok(self.shared.meta.call(call, request).await?.0)
    }

    /// One command, exactly once, within the client's deadline.
    pub(crate) async fn mutate(
        &self,
        operation: &'static str,
        key: Option<&Idempotency>,
        op: Op,
        deadline: Monotonic,
    ) -> Result<Outcome, Failed> {
        let (outcome, index) = self
            .shared
            .meta
            .mutate(operation, &self.caller, key, op, deadline)
            .await?;
        self.saw(index);
        Ok(outcome)
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

/// A path from the root, checked before anything is sent.
pub(crate) fn target(operation: &'static str, path: &str) -> Result<Target, Error> {
    path::split_path(path)
        .map_err(|fault| Error::new(ErrorKind::Invalid, operation, fault.to_string()).because(fault))?;
    Ok(Target {
        base: 0,
        path: path.to_owned(),
    })
}
