//! Walking a tree of the cluster, and doing many things at a time.

use super::names::join;
use drystone_client::{Attributes, Client};
use std::collections::VecDeque;
use std::future::Future;
use tokio::task::JoinSet;

/// Entries asked for at once: a tenth of what a server gives, so that the first lines come soon.
const PAGE: u32 = 1000;

/// A tree in pre-order, directory by directory, in byte order of names.
pub struct Walk {
    client: Client,
    // Directories to come, each with the name after which to go on.
    ahead: VecDeque<(String, String)>,
    page: VecDeque<(String, Attributes)>,
    is_deep: bool,
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
        }
    }

    /// The next entry with its path.
    pub async fn next(&mut self) -> anyhow::Result<Option<(String, Attributes)>> {
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
            let page = self.client.list(&directory, &after, PAGE).await?;
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

/// Runs tasks, at most `limit` at a time; the first error ends it.
pub struct Crew {
    tasks: JoinSet<anyhow::Result<()>>,
    limit: usize,
}

impl Crew {
    /// At most `limit` (at least one) at a time.
    pub fn new(limit: usize) -> Self {
        Self {
            tasks: JoinSet::new(),
            limit: limit.max(1),
        }
    }

    /// Starts `task`, after waiting for a place.
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
    pub async fn finish(mut self) -> anyhow::Result<()> {
        while !self.tasks.is_empty() {
            self.reap().await?;
        }
        Ok(())
    }

    async fn reap(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Err(anyhow::anyhow!(error)),
            None => Ok(()),
        }
    }
}
