//! One process per node: each survives a kill of `up`, none is restarted when it dies.

use super::plan::{Plan, toml};
use super::{ClusterJson, banner, describe, write_atomically};
use crate::connect;
use crate::node::config::NodeConfig;
use crate::node::terminated;
use anyhow::{Context, bail};
use drystone_env::Env;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a node may take to recover its disks.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a node may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Starts what is not alive, waits until every node is ready, and stops all of them at SIGINT or SIGTERM.
pub async fn run(data: &Path, plan: &Plan, configs: Vec<NodeConfig>) -> anyhow::Result<()> {
    let env = Env::os();
    let mut fleet = Fleet {
        data: data.to_owned(),
        pids: living(data),
        children: Vec::new(),
    };
    let outcome = fleet.start_and_wait(&env, plan, configs).await;
    fleet.stop(&env).await;
    outcome
}

struct Fleet {
    data: PathBuf,
    pids: BTreeMap<String, u32>,
    // Kept to be reaped.
    children: Vec<Child>,
}

impl Fleet {
    async fn start_and_wait(
        &mut self,
        env: &Env,
        plan: &Plan,
        configs: Vec<NodeConfig>,
    ) -> anyhow::Result<()> {
        let kept = self.pids.len();
        for config in &configs {
            self.start_node(config)?;
        }
        for config in &configs {
            self.wait_until_ready(env, config).await?;
        }
        let cluster = describe(plan, &configs, |name| {
            self.pids.get(name).copied().unwrap_or_default()
        });
        write_atomically(
            &self.data.join("cluster.json"),
            serde_json::to_string_pretty(&cluster)?.as_bytes(),
        )?;
        let how = match kept {
            0 => "each in a process of its own".to_owned(),
            _ => format!("each in a process of its own, {kept} of them kept from before"),
        };
        banner::print(&self.data, plan, &cluster, &how);
        terminated().await;
        Ok(())
    }

    fn start_node(&mut self, config: &NodeConfig) -> anyhow::Result<()> {
        if self.pids.contains_key(&config.name) {
            return Ok(());
        }
        let file = config_file(&self.data, &config.name);
        write_atomically(&file, toml(config).as_bytes())?;
        let logs = self.data.join("logs");
        fs::create_dir_all(&logs)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(logs.join(format!("{}.log", config.name)))?;
        let child = Command::new(std::env::current_exe().context("cannot find this binary")?)
            .arg("node")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C and the death of `up` do not reach it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start node {}", config.name))?;
        self.pids.insert(config.name.clone(), child.id());
        self.children.push(child);
        // So that a `up` that is killed now is followed by one that knows this process.
        let pids = serde_json::to_string(&self.pids)?;
        write_atomically(&self.data.join("pids.json"), pids.as_bytes())
    }

    async fn wait_until_ready(&mut self, env: &Env, config: &NodeConfig) -> anyhow::Result<()> {
        let Some(admin) = config.admin else { return Ok(()) };
        let url = format!("http://{admin}/readyz");
        let deadline = env.clock.now().plus(PATIENCE);
        let mut reason = String::new();
        while env.clock.now() < deadline {
            self.reap();
            let pid = self.pids.get(&config.name).copied().unwrap_or_default();
            if !is_node(&self.data, &config.name, pid) {
                let log = self.data.join("logs").join(format!("{}.log", config.name));
                bail!("node {} ended at once: {}", config.name, last_line(&log));
            }
            match connect::get(&url).await {
                Ok((200, _)) => return Ok(()),
                Ok((_, body)) => reason = String::from_utf8_lossy(&body).trim().to_owned(),
                Err(error) => reason = format!("{error:#}"),
            }
            env.clock.sleep(Duration::from_millis(50)).await;
        }
        bail!("node {} was not ready after {PATIENCE:?}: {reason}", config.name)
    }

    fn reap(&mut self) {
        self.children
            .retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }

    async fn stop(mut self, env: &Env) {
        for (name, pid) in &self.pids {
            signal(&self.data, name, *pid, Signal::TERM);
        }
        let deadline = env.clock.now().plus(STOP_PATIENCE);
        while env.clock.now() < deadline {
            self.reap();
            if !self
                .pids
                .iter()
                .any(|(name, pid)| is_node(&self.data, name, *pid))
            {
                break;
            }
            env.clock.sleep(Duration::from_millis(50)).await;
        }
        for (name, pid) in &self.pids {
            signal(&self.data, name, *pid, Signal::KILL);
        }
        self.reap();
        for file in ["cluster.json", "pids.json"] {
            // What they say is no longer true.
            let _ = fs::remove_file(self.data.join(file));
        }
    }
}

fn config_file(data: &Path, name: &str) -> PathBuf {
    data.join(format!("{name}.toml"))
}

/// The nodes of an earlier `up` that still live.
fn living(data: &Path) -> BTreeMap<String, u32> {
    let mut pids: BTreeMap<String, u32> = read_json(&data.join("pids.json")).unwrap_or_default();
    if let Some(cluster) = read_json::<ClusterJson>(&data.join("cluster.json")) {
        pids.extend(cluster.nodes.into_iter().map(|node| (node.name, node.pid)));
    }
    pids.retain(|name, pid| is_node(data, name, *pid));
    pids
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// True if the process lives and was started on this node's configuration: process ids are used again.
fn is_node(data: &Path, name: &str, pid: u32) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let file = config_file(data, name);
    line.split(|byte| *byte == 0)
        .any(|word| word == file.as_os_str().as_encoded_bytes())
}

fn signal(data: &Path, name: &str, pid: u32, signal: Signal) {
    if is_node(data, name, pid)
        && let Some(pid) = Pid::from_raw(pid as i32)
    {
        // It may have ended between the two lines.
        let _ = kill_process(pid, signal);
    }
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("its log is empty").to_owned()
}
