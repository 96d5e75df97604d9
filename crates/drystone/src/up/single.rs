//! The whole cluster in this process.

use super::plan::Plan;
use super::{Started, again, banner, describe, health, publish};
use crate::node::config::NodeConfig;
use crate::node::{Node, terminated};
use crate::output::note;
use anyhow::bail;
use drystone_env::Env;
use std::path::Path;
use std::time::Duration;

/// How long a node may take to recover its disks.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing is said while nodes get ready.
const SILENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);

/// Runs until SIGINT or SIGTERM, or until what is left is no cluster.
pub async fn run(data: &Path, plan: &Plan, configs: Vec<NodeConfig>) -> anyhow::Result<()> {
    let env = Env::os();
    let mut cluster = Cluster {
        members: configs
            .into_iter()
            .map(|config| Member { config, node: None })
            .collect(),
    };
    let outcome = tokio::select! {
        biased;
        outcome = cluster.run(&env, data, plan) => outcome,
        () = terminated() => Ok(()),
    };
    cluster.stop().await;
    // What the file says is no longer true.
    let _ = std::fs::remove_file(data.join("cluster.json"));
    outcome
}

struct Member {
    config: NodeConfig,
    // None: it has not been started, or it has failed.
    node: Option<Node>,
}

struct Cluster {
    members: Vec<Member>,
}

impl Cluster {
    async fn run(&mut self, env: &Env, data: &Path, plan: &Plan) -> anyhow::Result<()> {
        self.start_dead(env).await?.tell();
        let configs: Vec<NodeConfig> = self.members.iter().map(|member| member.config.clone()).collect();
        let cluster = describe(plan, &configs, |_| std::process::id());
        publish(data, &cluster);
        let refused = health::writes_refused(env, plan).await;
        banner::print(data, plan, &cluster, "one process", refused.as_deref());
        let mut answers = again::Answers::default();
        loop {
            env.clock.sleep(again::POLL).await;
            self.drop_failed().await?;
            if let Some(number) = answers.next(data) {
                let started = self.start_dead(env).await?;
                started.tell();
                answers.give(data, number, started);
            }
        }
    }

    /// Starts every node that does not run, and waits until they are ready. One that does not start does not keep the
    /// others from it.
    ///
    /// # Errors
    /// There is no majority of metadata servers.
    async fn start_dead(&mut self, env: &Env) -> anyhow::Result<Started> {
        let mut started = Started::default();
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            if member.node.is_some() {
                continue;
            }
            let is_metadata = member.config.metadata.is_some();
            if !is_metadata && !has_majority(&self.members) {
                return Err(started.without_majority());
            }
            let member = &mut self.members[index];
            match Node::start(env, member.config.clone()).await {
                Ok(node) => {
                    member.node = Some(node);
                    started.names.push(member.config.name.clone());
                }
                Err(error) => started.faults.push(format!("{error:#}")),
            }
        }
        self.wait_until_ready(env, &mut started).await?;
        Ok(started)
    }

    async fn wait_until_ready(&mut self, env: &Env, started: &mut Started) -> anyhow::Result<()> {
        let begun = env.clock.now();
        let mut is_told = false;
        loop {
            let waiting: Vec<&str> = self
                .members
                .iter()
                .filter_map(|member| member.node.as_ref())
                .filter(|node| started.names.contains(&node.name) && !node.is_ready())
                .map(|node| node.name.as_str())
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            let waited = env.clock.now().since(begun);
            if waited >= PATIENCE {
                let late = waiting
                    .iter()
                    .map(|name| format!("node {name} is not ready after {PATIENCE:?}"));
                started.faults.extend(late);
                return Ok(());
            }
            if waited >= SILENCE && !is_told {
                note(format_args!("waiting for {}", waiting.join(", ")));
                is_told = true;
            }
            env.clock.sleep(STEP).await;
            for (name, failure) in self.take_failed().await {
                started.names.retain(|started| *started != name);
                started.faults.push(format!("node {name}: {failure}"));
            }
            if !has_majority(&self.members) {
                return Err(started.without_majority());
            }
        }
    }

    /// Stops the nodes that have failed: their names, and why.
    async fn take_failed(&mut self) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        for member in &mut self.members {
            let Some(failure) = member.node.as_ref().and_then(Node::failure) else {
                continue;
            };
            if let Some(node) = member.node.take() {
                node.stop().await;
            }
            failed.push((member.config.name.clone(), failure));
        }
        failed
    }

    /// Stops the nodes that have failed and says so.
    ///
    /// # Errors
    /// Without them there is no majority of metadata servers.
    async fn drop_failed(&mut self) -> anyhow::Result<()> {
        for (name, failure) in self.take_failed().await {
            if !has_majority(&self.members) {
                bail!("node {name}: {failure}");
            }
            note(format_args!(
                "node {name} has ended: {failure}; `drystone up` in another terminal, with the same arguments, starts it \
                 again"
            ));
        }
        Ok(())
    }

    /// Doors first, so that nothing new comes in.
    async fn stop(&mut self) {
        while let Some(member) = self.members.pop() {
            if let Some(node) = member.node {
                node.stop().await;
            }
        }
    }
}

fn has_majority(members: &[Member]) -> bool {
    let voters = members.iter().filter(|member| member.config.metadata.is_some());
    let (all, alive) = voters.fold((0, 0), |(all, alive), member| {
        (all + 1, alive + usize::from(member.node.is_some()))
    });
    alive * 2 > all
}
