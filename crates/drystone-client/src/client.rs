//! The handle that everything starts from.

use crate::error::{Error, ErrorKind};
use crate::meta::Meta;
use crate::metrics::Metrics;
use crate::options::{Caller, Options};
use crate::read::{ReadContext, ReadOptions, ReadShared, Reader, open};
use crate::requester::{ClientProcess, Requester};
use crate::target::Target;
use crate::version::ContentVersion;
use crate::write::{Published, WriteContext, WriteOptions, WriteShared, Writer};
use bytes::Bytes;
use drystone_env::{BufferPool, Env, Rng};
use drystone_rpc::{ChannelOptions, Channels};
use drystone_types::{ClientId, HistoryId};
use std::sync::Arc;
use std::time::Duration;

/// Unused buffers that a process keeps: frames of a few writers and readers; more come and go with the system.
const POOL_KEEPS: usize = 64 << 20;

/// How long a process that ends may take to say so.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A client of one cluster, on behalf of one caller. Clones share connections, budgets and the idempotency session;
/// they are cheap.
#[derive(Clone)]
pub struct Client {
    pub(crate) requester: Requester,
    pub(crate) writes: Arc<WriteShared>,
    reads: Arc<ReadShared>,
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
        let reads = Arc::new(ReadShared::new(rng.next_u64()));
        let mut channel_options = ChannelOptions::new(pool.clone(), ClientId(id));
        channel_options.software = concat!("drystone-client ", env!("CARGO_PKG_VERSION")).to_owned();
        let channels = Channels::new(env.clone(), channel_options);
        let metrics = Arc::new(Metrics::default());
        let meta = Meta::new(env.clone(), channels.clone(), Arc::clone(&metrics), &options);
        let info = meta.cluster_info(env.clock.now().plus(options.deadline)).await?;
        let history = HistoryId::from_slice(&info.history)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "connect", "the cluster names no history"))?;
        let caller = options.caller.clone();
        let process = ClientProcess {
            env,
            options,
            channels,
            pool,
            meta,
            metrics,
            history,
        };
        let requester = Requester::new(process, caller);
        let writes = Arc::new(WriteShared::new(&requester, Arc::clone(&reads)));
        Ok(Client {
            requester,
            writes,
            reads,
        })
    }

    /// The same client on behalf of `caller`. It has seen what this handle has seen.
    pub fn as_caller(&self, caller: Caller) -> Client {
        Client {
            requester: self.requester.as_caller(caller),
            writes: Arc::clone(&self.writes),
            reads: Arc::clone(&self.reads),
        }
    }

    /// On whose behalf this handle acts.
    pub fn caller(&self) -> &Caller {
        self.requester.caller()
    }

    /// How this client behaves.
    pub fn options(&self) -> &Options {
        self.requester.options()
    }

    /// What this handle has seen, for another door or process to go on from: never back in time.
    pub fn session_token(&self) -> String {
        format!("{}-{:x}", self.requester.history(), self.requester.seen())
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
            Some((history, index)) if history == self.requester.history() => {
                let client = self.as_caller(self.caller().clone());
                client.requester.saw(index);
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
        version.etag(self.requester.history())
    }

    /// The version that `etag` (with or without quotes) stands for; `None` if it is not one of this history.
    pub fn parse_etag(&self, etag: &str) -> Option<ContentVersion> {
        ContentVersion::from_etag(etag, self.requester.history())
    }

    /// What this process has counted.
    pub fn metrics(&self) -> &Metrics {
        self.requester.metrics()
    }

    /// Begins to write a file. Nothing is visible before [`Writer::finish`]. No I/O happens here.
    pub fn write(&self, target: impl Into<Target>, options: WriteOptions) -> Writer {
        let context = WriteContext::new(self.requester.clone(), Arc::clone(&self.writes));
        Writer::new(context, target.into(), options)
    }

    /// Writes a whole file: [`Client::write`], the content, [`Writer::finish`].
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub async fn put(
        &self,
        target: impl Into<Target>,
        content: Bytes,
        mut options: WriteOptions,
    ) -> Result<Published, Error> {
        options.size_hint = Some(content.len() as u64);
        let mut writer = self.write(target, options);
        writer.write(content).await?;
        writer.finish().await
    }

    /// Opens a file for reading: one look-up, which fixes the content version that the reader will return.
    ///
    /// # Errors
    /// `not_found`, `is_a_directory`, `denied`, `changed` (if a version was pinned), `unavailable`.
    pub async fn open(&self, target: impl Into<Target>, options: ReadOptions) -> Result<Reader, Error> {
        let context = ReadContext {
            requester: self.requester.clone(),
            shared: Arc::clone(&self.reads),
        };
        open(context, target.into(), options).await
    }

    /// The process is done with the cluster: gives back what writers began and did not publish (a writer that is still there can
    /// publish it no more), and the idempotency session, if one was opened, instead of leaving them to their time-outs. Takes a
    /// moment at most, and all handles share the session: for the end of a short-lived process. A later command opens another
    /// one.
    pub async fn close(&self) {
        let requester = &self.requester;
        let deadline = || requester.now().plus(CLOSE_WAIT).min(requester.deadline());
        self.writes.abandoner.close(requester, deadline()).await;
        requester.meta().close(self.caller(), deadline()).await;
    }
}
