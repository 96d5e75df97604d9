//! The handle that everything starts from.

use crate::admin::{AdminOp, AdminReply, ClusterInfo, ClusterStatus, DamageReport};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::options::{Caller, Options};
use crate::read::{ReadOptions, Reader};
use crate::version::ContentVersion;
use crate::write::{Published, WriteOptions, Writer};
use bytes::Bytes;
use drystone_env::Env;

/// A client of one cluster, on behalf of one caller. Clones share connections, budgets and the idempotency session;
/// they are cheap.
#[derive(Clone)]
pub struct Client {
    pub(crate) caller: Caller,
}

impl Client {
    /// Finds the cluster: asks the configured metadata servers until one answers. The leader need not be known yet.
    ///
    /// # Errors
    /// `invalid` for faulty options, `unavailable` when no server answers within the deadline.
    pub async fn connect(_env: Env, options: Options) -> Result<Client, Error> {
        Ok(Client {
            caller: options.caller,
        })
    }

    /// The same client on behalf of `caller`.
    pub fn as_caller(&self, caller: Caller) -> Client {
        Client { caller }
    }

    /// On whose behalf this handle acts.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What this handle has seen, for another door or process to go on from: never back in time.
    pub fn session_token(&self) -> String {
        String::new()
    }

    /// The same client, which has also seen what `token` says. A token of another history is refused.
    ///
    /// # Errors
    /// `invalid` if it is not a token of this history.
    pub fn with_session_token(&self, _token: &str) -> Result<Client, Error> {
        Ok(self.clone())
    }

    /// The ETag of `version`, with its quotes.
    pub fn etag(&self, _version: ContentVersion) -> String {
        String::new()
    }

    /// The version that `etag` (with or without quotes) stands for; `None` if it is not one of this history.
    pub fn parse_etag(&self, _etag: &str) -> Option<ContentVersion> {
        None
    }

    /// What this process has counted.
    pub fn metrics(&self) -> &Metrics {
        unreachable!("written next")
    }

    /// Begins to write a file. Nothing is visible before [`Writer::finish`]. No I/O happens here.
    pub fn write(&self, _path: &str, _options: WriteOptions) -> Writer {
        unreachable!("written next")
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
    pub async fn open(&self, _path: &str, _options: ReadOptions) -> Result<Reader, Error> {
        unreachable!("written next")
    }

    /// What a client needs to know of the cluster, asked now (of any metadata server).
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn cluster_info(&self) -> Result<ClusterInfo, Error> {
        unreachable!("written next")
    }

    /// The cluster at a glance, as the leader sees it.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn status(&self) -> Result<ClusterStatus, Error> {
        unreachable!("written next")
    }

    /// Administration, passed through to the leader. Operations that change something are sent once: a lost answer
    /// is `unknown`.
    ///
    /// # Errors
    /// Whatever the leader says; `unknown`, `unavailable`.
    pub async fn admin(&self, _op: AdminOp) -> Result<AdminReply, Error> {
        unreachable!("written next")
    }

    /// Tells the leader of a replica that is damaged or missing. Best effort, but waits for the answer.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn report_damage(&self, _report: DamageReport) -> Result<(), Error> {
        unreachable!("written next")
    }
}
