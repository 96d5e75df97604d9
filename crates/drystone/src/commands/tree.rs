//! Walking a tree of the cluster, and doing many things at a time.

use super::Context;
use crate::exit::Failures;
use crate::output::{OutputError, line};
use drystone_client::{Client, WalkEntry};
use std::future::Future;
use tokio::task::JoinSet;

/// The entries of a directory or of a whole tree. What cannot be read is told of and left out.
pub struct Walk {
    inner: drystone_client::Walk,
    is_deep: bool,
}

impl Walk {
    /// The entries below `path`; all levels if `is_deep`.
    ///
    /// # Errors
    /// It cannot be looked up, or is no directory.
    pub async fn begin(client: &Client, path: &str, is_deep: bool) -> anyhow::Result<Self> {
        Ok(Self {
            inner: client.walk(path).await?,
            is_deep,
        })
    }

    /// What comes next: a directory before what is in it, names in byte order.
    ///
    /// # Errors
    /// Nothing can be read any more.
    pub async fn next(&mut self, failures: &mut Failures) -> anyhow::Result<Option<WalkEntry>> {
        loop {
            match self.inner.next().await {
                None => return Ok(None),
                Some(Err(error)) => failures.add(error.into())?,
                Some(Ok(found)) => {
                    if !self.is_deep && found.entry.attributes.is_directory() {
                        self.inner.skip();
                    }
                    return Ok(Some(found));
                }
            }
        }
    }

    /// What is below the directory that came last is left out.
    pub fn skip(&mut self) {
        self.inner.skip();
    }
}

/// What was copied; what failed is not in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Copied {
    files: u64,
    links: u64,
    bytes: u64,
}

impl Copied {
    /// A symbolic link.
    pub const LINK: Self = Self {
        files: 0,
        links: 1,
        bytes: 0,
    };

    /// One file of so many bytes.
    pub fn file(bytes: u64) -> Self {
        Self {
            files: 1,
            links: 0,
            bytes,
        }
    }

    /// And `more`.
    pub fn add(&mut self, more: Self) {
        self.files += more.files;
        self.links += more.links;
        self.bytes += more.bytes;
    }

    /// Says it at the end of a command: always as JSON, to people if `is_shown`.
    ///
    /// # Errors
    /// Nobody reads it.
    pub fn tell(&self, context: &Context, is_shown: bool, failures: &Failures) -> Result<(), OutputError> {
        let Self { files, links, bytes } = self;
        let failed = failures.count();
        if context.json {
            line(serde_json::json!({ "files": files, "links": links, "bytes": bytes, "failed": failed }))?;
        } else if is_shown && !context.quiet {
            let failed = match failed {
                0 => String::new(),
                failed => format!(", {failed} failed"),
            };
            line(format_args!("{files} files, {bytes} bytes{failed}"))?;
        }
        Ok(())
    }
}

/// Runs tasks, at most `limit` at a time. What fails is told of, and the others go on.
pub struct Parallel {
    tasks: JoinSet<anyhow::Result<Copied>>,
    limit: usize,
    copied: Copied,
    /// What failed so far.
    pub failures: Failures,
}

impl Parallel {
    /// At most `limit` (at least one) at a time.
    pub fn new(limit: usize, failures: Failures) -> Self {
        Self {
            tasks: JoinSet::new(),
            limit: limit.max(1),
            copied: Copied::default(),
            failures,
        }
    }

    /// Starts `task`, after waiting for a place.
    ///
    /// # Errors
    /// Of an earlier task, if everything after it would fail as well. The tasks under way end.
    pub async fn start(
        &mut self,
        task: impl Future<Output = anyhow::Result<Copied>> + Send + 'static,
    ) -> anyhow::Result<()> {
        while self.tasks.len() >= self.limit {
            self.reap().await?;
        }
        self.tasks.spawn(task);
        Ok(())
    }

    /// Waits for all that were started.
    ///
    /// # Errors
    /// As [`Parallel::start`].
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        while !self.tasks.is_empty() {
            self.reap().await?;
        }
        Ok(())
    }

    /// Waits for all; what they copied, and what failed.
    ///
    /// # Errors
    /// As [`Parallel::start`].
    pub async fn finish(mut self) -> anyhow::Result<(Copied, Failures)> {
        self.settle().await?;
        Ok((self.copied, self.failures))
    }

    async fn reap(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok(outcome)) => {
                let copied = self.failures.check(outcome)?;
                self.copied.add(copied.unwrap_or_default());
                Ok(())
            }
            Some(Err(error)) => Err(anyhow::anyhow!(error)),
            None => Ok(()),
        }
    }
}
