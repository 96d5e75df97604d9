//! A node: the roles of one process, started and stopped together.

pub mod admin;
pub mod config;
pub mod door;
#[cfg(test)]
mod fuzzed;
pub mod gateway;
pub mod stopped;
mod toml_file;

use crate::lock::wait_until_unlocked;
use anyhow::Context;
use config::NodeConfig;
use door::Door;
use drystone_client::Client;
use drystone_env::Env;
use futures_util::FutureExt;
use futures_util::future::join;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Reads and checks a node's configuration file.
///
/// # Errors
/// What is wrong and where.
pub fn load(path: &Path) -> anyhow::Result<NodeConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let fault = |fault| crate::exit::UsageError(format!("{}: {fault}", path.display()));
    Ok(NodeConfig::parse(&text).map_err(fault)?)
}

/// `drystone node`: runs until SIGINT or SIGTERM, or until a role fails.
pub async fn run(config: &Path) -> anyhow::Result<()> {
    let config = load(config)?;
    let env = Env::os();
    wait_until_unlocked(&env, &config.directories()).await;
    let node = Node::start(&env, config).await?;
    tracing::info!(name = %node.name, "node started");
    let outcome = tokio::select! {
        biased;
        reason = node.failed(&env) => Err(anyhow::anyhow!(reason)),
        () = terminated() => Ok(()),
    };
    let stopped = node.stop().await;
    outcome?;
    stopped
}

/// The roles of a running process.
pub struct Node {
    /// For people.
    pub name: String,
    /// Metadata server.
    pub metadata: Option<Arc<drystone_meta::Handle>>,
    /// Chunk server.
    pub chunk: Option<drystone_chunk::Handle>,
    /// Doors that are open.
    pub doors: Vec<Door>,
    /// What the doors work with, once a metadata server has answered.
    pub client: Arc<OnceLock<Client>>,
    /// Metrics of its HTTP servers.
    pub http_metrics: drystone_gateway::Metrics,
    /// Metrics and readiness.
    pub admin: Option<drystone_gateway::HttpServer>,
}

impl Node {
    /// Starts every role of `config`, all of them listening when it returns.
    ///
    /// # Errors
    /// The first role that does not start; those before it are stopped again.
    pub async fn start(env: &Env, config: NodeConfig) -> anyhow::Result<Node> {
        let mut node = Node {
            name: config.name.clone(),
            metadata: None,
            chunk: None,
            doors: Vec::new(),
            client: Arc::default(),
            http_metrics: drystone_gateway::Metrics::default(),
            admin: None,
        };
        match node.start_roles(env, config).await {
            Ok(()) => Ok(node),
            Err(error) => {
                // A disk that hangs is told of in the log; this is why it is stopped.
                let _ = node.stop().await;
                Err(error)
            }
        }
    }

    async fn start_roles(&mut self, env: &Env, config: NodeConfig) -> anyhow::Result<()> {
        let name = config.name.clone();
        let gateway_hosts = config
            .gateway
            .as_ref()
            .map(|gateway| gateway.hosts.clone())
            .unwrap_or_default();
        if let Some(metadata) = config.metadata {
            let handle = drystone_meta::MetadataServer::start(env.clone(), metadata).await;
            self.metadata = Some(Arc::new(
                handle.with_context(|| format!("node {name}: metadata server"))?,
            ));
        }
        if let Some(mut chunk) = config.chunk {
            let share = || drystone_chunk::Config::share_of_memory(drystone_env::os::memory_bytes(), 1);
            chunk.read_cache.get_or_insert_with(share);
            let handle = drystone_chunk::ChunkServer::start_configured(env.clone(), chunk).await;
            self.chunk = Some(handle.with_context(|| format!("node {name}: chunk server"))?);
        }
        // Before the doors, which wait for a metadata server.
        if let Some(listen) = config.admin {
            let state = admin::State::new(env, self, config.gateway.is_some());
            let hosts = gateway_hosts;
            self.admin = Some(
                admin::serve(env, listen, state, hosts)
                    .await
                    .with_context(|| format!("node {name}"))?,
            );
        }
        if let Some(gateway) = config.gateway {
            let client = connect_patiently(env, &gateway.metadata).await;
            let client = self.client.get_or_init(|| client).clone();
            let mut rest = drystone_rest::RestConfig::new(gateway.rest, self.http_metrics.clone());
            gateway.limit(&mut rest.http);
            let handle = drystone_rest::serve(env.clone(), rest, client).await;
            let handle = handle.with_context(|| format!("node {name}: REST"))?;
            self.doors.push(Door::Rest(Arc::new(handle)));
        }
        Ok(())
    }

    /// True when traffic may be sent to every role.
    pub fn is_ready(&self) -> bool {
        self.metadata.as_ref().is_none_or(|handle| handle.is_ready())
            && self.chunk.as_ref().is_none_or(drystone_chunk::Handle::ready)
    }

    /// Why a role has failed, if one has.
    pub fn failure(&self) -> Option<String> {
        let metadata = self.metadata.as_ref().and_then(|handle| handle.failure());
        let metadata = metadata.map(stopped::metadata_server);
        let chunk = || self.chunk.as_ref()?.stopped().now_or_never();
        metadata.or_else(|| chunk().map(|reason| stopped::chunk_server(&reason)))
    }

    /// Completes with a reason when a role has failed.
    pub async fn failed(&self, env: &Env) -> String {
        loop {
            if let Some(failure) = self.failure() {
                return failure;
            }
            env.clock.sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops the roles: doors first, so that nothing new comes in.
    ///
    /// # Errors
    /// Disks that hang keep something of it from ending. The process may end all the same.
    pub async fn stop(self) -> anyhow::Result<()> {
        for door in &self.doors {
            door.shutdown();
        }
        let (chunk, metadata) = (self.chunk, self.metadata.and_then(Arc::into_inner));
        let chunk = async {
            let error = chunk?.shutdown().await.err()?;
            Some(error.to_string())
        };
        let metadata = async {
            let error = metadata?.shutdown().await.err()?;
            Some(error.to_string())
        };
        // At the same time: each may wait for a disk that hangs.
        let (chunk, metadata) = join(chunk, metadata).await;
        let faults: Vec<String> = chunk.into_iter().chain(metadata).collect();
        match faults.as_slice() {
            [] => Ok(()),
            faults => Err(anyhow::anyhow!(
                "{} was stopped: {}",
                self.name,
                faults.join("; ")
            )),
        }
    }
}

/// A door is of use only with a cluster: it asks until one answers.
async fn connect_patiently(env: &Env, metadata: &[String]) -> Client {
    loop {
        let options = drystone_client::Options::new(metadata.iter().cloned());
        match Client::connect(env.clone(), options).await {
            Ok(client) => return client,
            Err(error) => tracing::warn!(%error, "no metadata server answers yet"),
        }
        env.clock.sleep(Duration::from_millis(200)).await;
    }
}

/// Completes at SIGINT or SIGTERM.
pub async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("the system refused signal handlers: stop the process with SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
