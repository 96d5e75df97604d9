//! Walking a tree of the cluster, and doing many things at a time.

use super::is_not_found;
use super::names::join;
use crate::exit::Failures;
use drystone_client::{Attributes, Client};
use std::collections::VecDeque;
use std::future::Future;
use tokio::task::JoinSet;

/// Entries asked for at once: a tenth of what a server gives, so that the first lines come soon.
const PAGE: u32 = 1000;

/// A tree, directory by directory, a directory before what is in it, in byte order of names.
pub struct Walk {
    client: Client,
    // Directories to come, each with the name after which to go on.
    ahead: VecDeque<(String, String)>,
    page: VecDeque<(String, Attributes)>,
    is_deep: bool,
    is_begun: bool,
}

impl Walk {
    /// The entries below `path`; all levels if `is_deep`.
    pub fn new(client: &Client, path: &str, is_deep: bool) -> Self {
        let ahead = VecDeque::from([(path.to_owned(), String::new())]);
        Self {
            client: client.clone(),
            ahead,
            page: VecDeque::new(),
            is_deep,
            is_begun: false,
        }
    }

    /// The next entry with its path. A directory below the first one that cannot be read is told of in `failures`
    /// and left out; one that was deleted meanwhile is left out.
    ///
    /// # Errors
    /// The first directory cannot be read, or nothing can be any more.
    pub async fn next(&mut self, failures: &mut Failures) -> anyhow::Result<Option<(String, Attributes)>> {
        loop {
            if let Some((path, attributes)) = self.page.pop_front() {
                if self.is_deep && attributes.is_directory() {
                    self.ahead.push_back((path.clone(), String::new()));
                }
                return Ok(Some((path, attributes)));
            }
            let Some((directory, after)) = self.ahead.pop_front() else {
                return Ok(None);
            };
            let page = match self.client.list(&directory, &after, PAGE).await {
                Ok(page) => page,
                Err(error) if !self.is_begun => return Err(error.into()),
                Err(error) if is_not_found(&error) => continue,
                Err(error) => {
                    failures.add(error.into())?;
                    continue;
                }
            };
            self.is_begun = true;
            if let Some(next) = page.next {
                self.ahead.push_front((directory.clone(), next));
            }
            self.page.extend(
                page.entries
                    .into_iter()
                    .map(|entry| (join(&directory, &entry.name), entry.attributes)),
            );
        }
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
