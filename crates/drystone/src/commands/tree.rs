//! Walking a tree of the cluster, and doing many things at a time.

use crate::exit::Failures;
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

/// Runs tasks, at most `limit` at a time. What fails is told of, and the others go on.
pub struct Parallel {
    tasks: JoinSet<anyhow::Result<()>>,
    limit: usize,
    /// What failed so far.
    pub failures: Failures,
}

impl Parallel {
    /// At most `limit` (at least one) at a time.
    pub fn new(limit: usize, failures: Failures) -> Self {
        Self {
            tasks: JoinSet::new(),
            limit: limit.max(1),
            failures,
        }
    }

    /// Starts `task`, after waiting for a place.
    ///
    /// # Errors
    /// Of an earlier task, if everything after it would fail as well. The tasks under way end.
    pub async fn start(
        &mut self,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> anyhow::Result<()> {
        while self.tasks.len() >= self.limit {
            self.reap().await?;
        }
        self.tasks.spawn(task);
        Ok(())
    }

    /// Waits for all.
    ///
    /// # Errors
    /// As [`Parallel::start`].
    pub async fn finish(mut self) -> anyhow::Result<Failures> {
        while !self.tasks.is_empty() {
            self.reap().await?;
        }
        Ok(self.failures)
    }

    async fn reap(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok(outcome)) => self.failures.check(outcome).map(|_| ()),
            Some(Err(error)) => Err(anyhow::anyhow!(error)),
            None => Ok(()),
        }
    }
}
