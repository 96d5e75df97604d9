//! The whole cluster in this process.

use super::plan::Plan;
use super::{banner, describe, write_atomically};
use crate::node::config::NodeConfig;
use crate::node::{Node, terminated};
use drystone_env::Env;
use std::path::Path;
use std::time::Duration;

/// How long a node may take to recover its disks.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs until SIGINT or SIGTERM, or until a node fails.
pub async fn run(data: &Path, plan: &Plan, configs: Vec<NodeConfig>) -> anyhow::Result<()> {
    let env = Env::os();
    let mut nodes = Vec::new();
    let outcome = start_and_wait(&env, data, plan, configs, &mut nodes).await;
    while let Some(node) = nodes.pop() {
        node.stop().await;
    }
    // What the file says is no longer true.
    let _ = std::fs::remove_file(data.join("cluster.json"));
    outcome
}

async fn start_and_wait(
    env: &Env,
    data: &Path,
    plan: &Plan,
    configs: Vec<NodeConfig>,
    nodes: &mut Vec<Node>,
) -> anyhow::Result<()> {
    let cluster = describe(plan, &configs, |_| std::process::id());
    for config in configs {
        nodes.push(Node::start(env, config).await?);
    }
    for node in nodes.iter() {
        node.ready(env, PATIENCE).await?;
    }
    write_atomically(
        &data.join("cluster.json"),
        serde_json::to_string_pretty(&cluster)?.as_bytes(),
    )?;
    banner::print(data, plan, &cluster, "one process");
    tokio::select! {
        biased;
        reason = first_failure(env, nodes) => anyhow::bail!(reason),
        () = terminated() => Ok(()),
    }
}

async fn first_failure(env: &Env, nodes: &[Node]) -> String {
    let mut failures: Vec<_> = nodes
        .iter()
        .map(|node| Box::pin(async move { format!("node {}: {}", node.name, node.failed(env).await) }))
        .collect();
    std::future::poll_fn(move |context| {
        for failure in &mut failures {
            if let std::task::Poll::Ready(reason) = failure.as_mut().poll(context) {
                return std::task::Poll::Ready(reason);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
