//! The whole cluster in this process.

use super::plan::Plan;
use super::prepare::{Prepared, Settled};
use super::restarts::Restarts;
use super::{Started, again, banner, describe, health, publish, remove_files, what_follows};
use crate::node::config::NodeConfig;
use crate::node::{Node, terminated};
use crate::output::note;
use anyhow::bail;
use drystone_env::{BoxFuture, Env};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::oneshot::{self, Receiver};

/// How long a node may take to recover its disks.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing is said while nodes get ready.
const SILENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);

/// Runs until SIGINT or SIGTERM, or until what is left is no cluster.
///
/// # Errors
/// There is no majority of metadata servers.
pub async fn run(env: &Env, data: &Path, plan: Plan, replace_lost: bool) -> anyhow::Result<()> {
    let mut cluster = Cluster {
        data: data.to_owned(),
        plan,
        members: Vec::new(),
        start: start_node,
        patience: PATIENCE,
        restarts: Restarts::default(),
    };
    let prepared = cluster.prepare(env, replace_lost).await?;
    let outcome = tokio::select! {
        biased;
        outcome = cluster.run(env, prepared) => outcome,
        () = terminated() => Ok(()),
    };
    let stopped = cluster.stop().await;
    // What the file says is no longer true.
    remove_files(env, data, vec![data.join("cluster.json")]).await;
    outcome?;
    stopped
}

type StartNode = fn(Env, NodeConfig) -> BoxFuture<anyhow::Result<Node>>;

fn start_node(env: Env, config: NodeConfig) -> BoxFuture<anyhow::Result<Node>> {
    Box::pin(async move { Node::start(&env, config).await })
}

enum State {
    /// It has not been started, or it has failed.
    Stopped,
    /// It opens its directories; what comes of it is sent.
    Starting(Receiver<anyhow::Result<Node>>),
    Running(Box<Node>),
}

struct Member {
    config: NodeConfig,
    state: State,
}

impl Member {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    fn running(&self) -> Option<&Node> {
        match &self.state {
            State::Running(node) => Some(node),
            _ => None,
        }
    }

    /// Starts it on a thread of its own: a directory that does not answer holds up nobody else.
    fn begin(&mut self, env: &Env, start: StartNode) {
        let (sender, receiver) = oneshot::channel();
        let (inner, config) = (env.clone(), self.config.clone());
        let begin = async move { drop(sender.send(start(inner, config).await)) };
        env.spawn.thread(self.name(), Box::pin(begin));
        self.state = State::Starting(receiver);
    }

    /// Takes what has come of its start. Answers the fault, if it has failed.
    fn take_started(&mut self) -> Option<String> {
        let State::Starting(receiver) = &mut self.state else {
            return None;
        };
        let (state, fault) = match receiver.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Ok(Ok(node)) => (State::Running(Box::new(node)), None),
            Ok(Err(error)) => (State::Stopped, Some(format!("{error:#}"))),
            Err(TryRecvError::Closed) => {
                let fault = format!("node {}: starting it failed, see the log", self.name());
                (State::Stopped, Some(fault))
            }
        };
        self.state = state;
        fault
    }

    /// Stops it, if it runs.
    ///
    /// # Errors
    /// As [`Node::stop`].
    async fn stop(&mut self) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Running(node) => node.stop().await,
            _ => Ok(()),
        }
    }

    /// Stops it while others run, and says what of it does not end.
    async fn stop_alone(&mut self) {
        if let Err(error) = self.stop().await {
            note(format_args!("drystone: {error:#}"));
        }
    }

    /// Why it is not ready, `patience` after it was started.
    fn late(&self, patience: Duration) -> String {
        let name = self.name();
        let directories: Vec<String> = (self.config.directories().iter())
            .map(|path| path.display().to_string())
            .collect();
        match (&self.state, directories.as_slice()) {
            (State::Starting(_), [_, ..]) => format!(
                "node {name} has not opened {} after {patience:?}: does the disk answer? It starts as soon as it does",
                directories.join(", ")
            ),
            _ => format!("node {name} is not ready after {patience:?}"),
        }
    }
}

struct Cluster {
    data: PathBuf,
    plan: Plan,
    members: Vec<Member>,
    start: StartNode,
    patience: Duration,
    restarts: Restarts,
}

impl Cluster {
    async fn run(&mut self, env: &Env, prepared: Prepared) -> anyhow::Result<()> {
        for fault in prepared.faults() {
            note(format_args!("drystone: {fault}; the others go on without it"));
        }
        self.start_dead(env, &prepared, Started::default()).await?.tell();
        let cluster = self.write_description();
        let refused = health::writes_refused(env, &self.plan).await;
        banner::print(
            &self.data,
            &self.plan,
            &cluster,
            "one process",
            refused.as_deref(),
        );
        let mut answers = again::Answers::default();
        loop {
            env.clock.sleep(again::POLL).await;
            self.take_late(env);
            self.drop_failed(env).await?;
            self.start_again(env);
            if let Some(number) = answers.next(&self.data) {
                // What runs goes on, whatever is wrong with the directories of the others.
                let started = match self.prepare(env, false).await {
                    Ok(prepared) => self.start_dead(env, &prepared, prepared.started()).await,
                    Err(error) => Err(error),
                };
                let started = started.unwrap_or_else(|error| Started::failed(&error));
                self.write_description();
                started.tell();
                answers.give(&self.data, number, started);
            }
        }
    }

    /// True if a majority of all metadata servers has not ended.
    fn has_majority(&self) -> bool {
        let running = self.running();
        self.plan.has_majority(|name| running.contains(name))
    }

    fn running(&self) -> BTreeSet<String> {
        let running = self.members.iter().filter(|member| !member.is_stopped());
        running.map(|member| member.name().to_owned()).collect()
    }

    /// Settles what became of the directories of the nodes that do not run, or that have lost theirs while they did.
    ///
    /// # Errors
    /// As [`Settled::find`] and [`Settled::apply`].
    async fn prepare(&mut self, env: &Env, replace_lost: bool) -> anyhow::Result<Prepared> {
        let settled = Settled::find(env, &self.plan, &self.data, &self.running(), replace_lost).await?;
        for member in &mut self.members {
            if settled.robbed.iter().any(|name| name == member.name()) {
                member.stop_alone().await;
            }
        }
        let running = self.running();
        let prepared = settled.apply(env, &mut self.plan, &self.data, &running).await?;
        self.take_configs(&prepared);
        Ok(prepared)
    }

    /// What does not run takes the place that the plan gives it now.
    fn take_configs(&mut self, prepared: &Prepared) {
        for config in &prepared.nodes {
            let present = self.members.iter_mut();
            match present.into_iter().find(|member| member.name() == config.name) {
                Some(member) if member.is_stopped() => member.config = config.clone(),
                Some(_) => {}
                None => self.members.push(Member {
                    config: config.clone(),
                    state: State::Stopped,
                }),
            }
        }
    }

    /// Writes `cluster.json`.
    fn write_description(&self) -> super::ClusterJson {
        let there = self.members.iter().filter(|member| !member.is_stopped());
        let configs: Vec<NodeConfig> = there.map(|member| member.config.clone()).collect();
        let cluster = describe(&self.plan, &configs, |_| std::process::id());
        publish(&self.data, &cluster);
        cluster
    }

    /// Starts every node that does not run and can, all at the same time, and waits until they are ready. One that does
    /// not start does not keep the others from it.
    ///
    /// # Errors
    /// There is no majority of metadata servers.
    async fn start_dead(
        &mut self,
        env: &Env,
        prepared: &Prepared,
        mut started: Started,
    ) -> anyhow::Result<Started> {
        for config in prepared.usable() {
            let member = self.members.iter_mut().find(|it| it.name() == config.name);
            if let Some(member) = member.filter(|member| member.is_stopped()) {
                member.begin(env, self.start);
            }
        }
        // One that was late when others were started is waited for again.
        let mut waiting: Vec<usize> = (0..self.members.len())
            .filter(|at| matches!(self.members[*at].state, State::Starting(_)))
            .collect();
        let begun = env.clock.now();
        let mut is_told = false;
        loop {
            for at in &waiting {
                started.faults.extend(self.members[*at].take_started());
            }
            for (name, failure) in self.take_failed().await {
                started.faults.push(format!("node {name}: {failure}"));
            }
            if !self.has_majority() {
                return Err(started.without_majority());
            }
            waiting.retain(|at| {
                let member = &self.members[*at];
                let is_ready = member.running().is_some_and(Node::is_ready);
                if is_ready {
                    started.names.push(member.name().to_owned());
                }
                !is_ready && !member.is_stopped()
            });
            let waited = env.clock.now().since(begun);
            if waiting.is_empty() || waited >= self.patience {
                let late = waiting.iter().map(|at| self.members[*at].late(self.patience));
                started.faults.extend(late);
                return Ok(started);
            }
            if waited >= SILENCE && !is_told {
                let names: Vec<&str> = waiting.iter().map(|at| self.members[*at].name()).collect();
                note(format_args!("waiting for {}", names.join(", ")));
                is_told = true;
            }
            env.clock.sleep(STEP).await;
        }
    }

    /// What was given up waiting for, or is started again, has started, or has failed.
    fn take_late(&mut self, env: &Env) {
        for member in &mut self.members {
            let was_starting = matches!(member.state, State::Starting(_));
            if let Some(fault) = member.take_started() {
                let again = match self.restarts.has(member.name()) {
                    true => self.restarts.ended(member.name(), &fault, env.clock.now()),
                    false => None,
                };
                note(format_args!("drystone: {fault}; {}", what_follows(again)));
            } else if was_starting && member.running().is_some() {
                note(format_args!("node {} has started", member.name()));
            }
        }
    }

    /// Starts what has ended some time ago.
    fn start_again(&mut self, env: &Env) {
        let due = self.restarts.due(env.clock.now());
        for member in &mut self.members {
            if member.is_stopped() && due.iter().any(|name| name == member.name()) {
                member.begin(env, self.start);
            }
        }
        if !due.is_empty() {
            self.write_description();
        }
    }

    /// Stops the nodes that have failed: their names, and why.
    async fn take_failed(&mut self) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        for member in &mut self.members {
            if let Some(failure) = member.running().and_then(Node::failure) {
                member.stop_alone().await;
                failed.push((member.name().to_owned(), failure));
            }
        }
        failed
    }

    /// Stops the nodes that have failed and says so. They are started again after a while, but for those that an operator
    /// has to see to.
    ///
    /// # Errors
    /// Without those there is no majority of metadata servers.
    async fn drop_failed(&mut self, env: &Env) -> anyhow::Result<()> {
        for (name, failure) in self.take_failed().await {
            let again = self.restarts.ended(&name, &failure, env.clock.now());
            if again.is_none() && !self.has_majority() {
                bail!("node {name}: {failure}");
            }
            note(format_args!(
                "node {name} has ended: {failure}; {}",
                what_follows(again)
            ));
        }
        Ok(())
    }

    /// Stops all nodes: doors first, so that nothing new comes in, then the others at the same time, so that it takes no
    /// longer if all their disks hang.
    ///
    /// # Errors
    /// What does not end, as [`Node::stop`].
    async fn stop(&mut self) -> anyhow::Result<()> {
        let is_door = |member: &Member| member.config.gateway.is_some();
        let (doors, others): (Vec<Member>, Vec<Member>) = self.members.drain(..).partition(is_door);
        let mut faults = Vec::new();
        for members in [doors, others] {
            let stopping = members
                .into_iter()
                .map(|mut member| async move { member.stop().await });
            let stopped = join_all(stopping).await;
            faults.extend(stopped.into_iter().filter_map(Result::err));
        }
        match faults.as_slice() {
            [] => Ok(()),
            faults => bail!(
                "not everything has ended: {}",
                faults
                    .iter()
                    .map(|fault| format!("{fault:#}"))
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;
    use crate::args::UpOptions;
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    static STARTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    /// Nodes without roles, but for the first chunk server, whose directory does not answer, and the second, which
    /// cannot be used.
    fn start(_: Env, config: NodeConfig) -> BoxFuture<anyhow::Result<Node>> {
        Box::pin(async move {
            match config.name.as_str() {
                "chunk-1" => std::future::pending::<()>().await,
                "chunk-2" => bail!("node chunk-2: rot"),
                _ => STARTED.lock().unwrap().push(config.name.clone()),
            }
            Ok(Node {
                name: config.name,
                metadata: None,
                chunk: None,
                doors: Vec::new(),
                client: std::sync::Arc::default(),
                http_metrics: drystone_gateway::Metrics::default(),
                admin: None,
            })
        })
    }

    fn options() -> UpOptions {
        UpOptions {
            data: "d".into(),
            listen: Some("127.0.0.1:9700".parse().unwrap()),
            metadata: Some(1),
            chunk_servers: Some(3),
            racks: 1,
            processes: false,
            replace_lost: false,
            insecure: false,
            host: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_node_whose_directory_does_not_answer_holds_up_nobody_and_is_told_of() {
        let plan = Plan::make(1, 3, &options()).unwrap();
        let prepared = Prepared {
            nodes: plan.nodes(Path::new("/d")),
            unusable: BTreeMap::new(),
            notes: Vec::new(),
        };
        let mut cluster = Cluster {
            data: "/d".into(),
            plan,
            members: Vec::new(),
            start,
            patience: Duration::MAX,
            restarts: Restarts::default(),
        };
        cluster.take_configs(&prepared);
        let env = Env::os();
        // The one that hangs comes before others.
        let everyone = async {
            while STARTED.lock().unwrap().len() < 3 {
                env.clock.sleep(STEP).await;
            }
        };
        tokio::select! {
            _ = cluster.start_dead(&env, &prepared, Started::default()) => panic!("it waits for chunk-1"),
            () = everyone => {}
            () = env.clock.sleep(Duration::from_secs(60)) => panic!("chunk-1 holds up the others"),
        }
        cluster.patience = Duration::ZERO;
        let started = loop {
            let started = cluster
                .start_dead(&env, &prepared, Started::default())
                .await
                .unwrap();
            if started.faults.len() == 2 && cluster.running().len() == 4 {
                break started;
            }
            env.clock.sleep(STEP).await;
        };
        println!("{:?}", started.faults);
        let said = |words: &str| started.faults.iter().any(|fault| fault.contains(words));
        assert!(said("node chunk-1 has not opened /d/chunk-1") && said("does the disk answer?"));
        assert!(said("node chunk-2: rot"));
        assert!(!cluster.running().contains("chunk-2"));
    }

    static FAILS: AtomicU32 = AtomicU32::new(2);

    /// Nodes that cannot be started twice: there is no room for them.
    fn start_at_last(env: Env, config: NodeConfig) -> BoxFuture<anyhow::Result<Node>> {
        let left = FAILS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Box::pin(async { bail!("no space") }),
            Err(_) => start(env, config),
        }
    }

    #[tokio::test]
    async fn a_node_that_has_ended_is_started_again_until_it_stays() {
        let plan = Plan::make(1, 3, &options()).unwrap();
        let prepared = Prepared {
            nodes: plan.nodes(Path::new("/d")),
            unusable: BTreeMap::new(),
            notes: Vec::new(),
        };
        let home = tempfile::tempdir().unwrap();
        let mut cluster = Cluster {
            data: home.path().to_owned(),
            plan,
            members: Vec::new(),
            start: start_at_last,
            patience: Duration::MAX,
            restarts: Restarts::default(),
        };
        cluster.take_configs(&prepared);
        let env = Env::os();
        let begun = env.clock.now();
        let again = cluster
            .restarts
            .ended("chunk-3", "the file system is full", begun);
        assert_eq!(again, Some(Duration::from_secs(1)));
        while cluster.members.iter().all(|member| member.running().is_none()) {
            cluster.take_late(&env);
            cluster.start_again(&env);
            assert!(env.clock.now().since(begun) < Duration::from_secs(60));
            env.clock.sleep(STEP).await;
        }
        // Nobody else is.
        assert_eq!(cluster.running(), BTreeSet::from(["chunk-3".to_owned()]));
        assert_eq!(FAILS.load(Ordering::Relaxed), 0);
        let took = env.clock.now().since(begun);
        assert!(took >= Duration::from_secs(1 + 2 + 4), "{took:?}");
    }
}
