//! Measurements of a cluster, through the client library as a door uses it: one client process, one connection
//! to each server shared by all streams and clients.

mod large;
mod metadata;
mod small;

use crate::meter::Stopwatch;
use crate::rules::Subject;
use crate::sample::Sample;
use anyhow::{Context, ensure};
use bytes::Bytes;
use drystone_client::{Client, DeleteOptions, ErrorKind, MakeDirectoryOptions, Options};
use drystone_env::Env;
use std::future::Future;

/// What is written at once.
const FRAME: usize = 1 << 20;

/// How a cluster is reached and what to leave of it.
pub struct Access<'a> {
    /// Metadata servers.
    pub metadata: &'a [String],
    /// Working directory.
    pub root: String,
    /// Tiny files may go into the metadata.
    pub inline: bool,
}

/// A cluster under measurement and the directory in it that is ours.
#[derive(Clone)]
pub struct Cluster {
    env: Env,
    client: Client,
    watch: Stopwatch,
    root: String,
    content: Bytes,
}

/// What was found out about it.
pub struct Facts {
    /// Copies and acknowledgement.
    pub policy: String,
    /// Copies, if known.
    pub replicas: Option<u32>,
    /// Metadata voters.
    pub voters: usize,
}

impl Cluster {
    /// Connects and makes the working directory.
    ///
    /// # Errors
    /// If no metadata server answers, or the directory exists.
    pub async fn open(
        env: &Env,
        watch: &Stopwatch,
        access: Access<'_>,
        content: Bytes,
    ) -> anyhow::Result<Self> {
        assert_eq!(content.len(), FRAME, "the content is one frame");
        let options = Options {
            inline: access.inline,
            ..Options::new(access.metadata.iter().cloned())
        };
        let client = Client::connect(env.clone(), options)
            .await
            .context("the cluster cannot be reached")?;
        client
            .make_directory(&access.root, MakeDirectoryOptions::default())
            .await?;
        Ok(Self {
            env: env.clone(),
            client,
            watch: watch.clone(),
            root: access.root,
            content,
        })
    }

    /// What must stand beside every figure.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub async fn facts(&self) -> anyhow::Result<Facts> {
        let policy = self.client.stat(&self.root).await?.policy;
        let members = self.client.cluster_info().await?.members;
        let words = policy.map_or_else(
            || "policy not known".to_owned(),
            |policy| {
                let (replicas, ack, chunk) = (policy.replicas, policy.ack, policy.chunk_bytes);
                format!("{replicas} replicas, acknowledgement policy {ack}, chunks of {chunk}")
            },
        );
        let voters = members.iter().filter(|member| member.voter).count();
        Ok(Facts {
            policy: words,
            replicas: policy.map(|policy| policy.replicas),
            voters,
        })
    }

    /// Measures `subject` once. Reads of large files and everything about small files come after the matching
    /// creation in the same `round`.
    ///
    /// # Errors
    /// The first operation that the cluster refuses.
    pub async fn measure(&self, subject: Subject, work: Work) -> anyhow::Result<Sample> {
        match subject {
            Subject::Write { streams } => large::write(self, work.size, streams).await,
            Subject::FirstRead { streams } => {
                if !work.written {
                    large::write(self, work.size, streams).await?;
                }
                let sample = large::read(self, work.size, streams).await?;
                Ok(sample.noted("straight after writing"))
            }
            Subject::CachedRead { streams } => {
                // The first read may have gone to other replicas: what is measured is the state after many.
                large::read(self, work.size, streams).await?;
                large::read(self, work.size, streams).await
            }
            Subject::CreateSmall { bytes, clients } => small::create(self, bytes, clients, work).await,
            Subject::ReadSmall { bytes, clients } => small::read(self, bytes, clients, work).await,
            Subject::Create { clients } => metadata::create(self, clients, work).await,
            Subject::Stat { clients } => metadata::stat(self, clients, work).await,
            Subject::List { clients } => metadata::list(self, clients, work).await,
        }
    }

    /// Deletes what was created.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub async fn clean_up(&self) -> anyhow::Result<()> {
        let options = DeleteOptions {
            recursive: true,
            ..DeleteOptions::default()
        };
        match self.client.delete(&self.root, options).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| format!("{} is left behind", self.root)),
        }
    }

    /// A new directory below the working directory.
    async fn directory(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("{}/{name}", self.root);
        self.client
            .make_directory(&path, MakeDirectoryOptions::default())
            .await?;
        Ok(path)
    }

    /// Operations `0..operations` by `clients` clients, each one after the other; answers all latencies and what
    /// the whole took.
    async fn operations<F, W>(
        &self,
        unit: &'static str,
        bytes: u64,
        load: Load,
        operation: F,
    ) -> anyhow::Result<Sample>
    where
        F: Fn(Cluster, usize) -> W + Clone + Send + Sync + 'static,
        W: Future<Output = anyhow::Result<()>> + Send,
    {
        let running = self.watch.start();
        let latencies = self
            .parallel(load.clients, |first| {
                let (cluster, operation) = (self.clone(), operation.clone());
                async move {
                    let mut latencies = Vec::with_capacity(load.operations / load.clients + 1);
                    for number in (first..load.operations).step_by(load.clients) {
                        let began = cluster.watch.now();
                        operation(cluster.clone(), number).await?;
                        latencies.push(cluster.watch.micros_since(began));
                    }
                    Ok(latencies)
                }
            })
            .await?;
        let spent = self.watch.stop(running);
        Ok(Sample::operations(unit, bytes, latencies.concat(), spent))
    }

    /// Runs `count` tasks at the same time; the first error is the answer of all.
    async fn parallel<T, F, W>(&self, count: usize, task: F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Fn(usize) -> W,
        W: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(count.max(1));
        for number in 0..count {
            let (task, sender) = (task(number), sender.clone());
            let body = async move {
                let ended = task.await;
                // Nobody listens any more after another task's error.
                let _ = sender.send(ended).await;
            };
            self.env.spawn.spawn("bench-client", Box::pin(body));
        }
        drop(sender);
        let mut results = Vec::with_capacity(count);
        while let Some(result) = receiver.recv().await {
            results.push(result?);
        }
        ensure!(results.len() == count, "a client's task ended early");
        Ok(results)
    }
}

/// How much one measurement does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// Bytes of the large file.
    pub size: u64,
    /// Operations on small files and metadata.
    pub operations: usize,
    /// Which repetition.
    pub round: usize,
    /// The large file was written in this repetition already.
    pub written: bool,
}

#[derive(Clone, Copy)]
struct Load {
    clients: usize,
    operations: usize,
}

impl Load {
    fn of(clients: usize, work: Work) -> Self {
        Self {
            clients,
            operations: work.operations,
        }
    }
}
