//! One process per node: each survives a kill of `up`. One that dies is told of. One that ends by itself is started again
//! after a while, any other when an operator runs `up` once more.

use super::plan::{Plan, toml};
use super::prepare::{Prepared, Settled};
use super::restarts::Restarts;
use super::{
    ClusterJson, Started, again, banner, describe, health, publish, remove_files, what_follows,
    write_atomically,
};
use crate::connect;
use crate::node::config::NodeConfig;
use crate::node::terminated;
use crate::output::note;
use anyhow::{Context, bail};
use drystone_env::Env;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a node may take to recover its disks.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing is said while nodes get ready.
const SILENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);
/// How long a node may take to say whether it is ready.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes at the end of a log in which its last line is looked for.
const LOG_END: u64 = 64 << 10;
/// How long a node may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Starts what is not alive, waits until every node is ready, and stops all of them at SIGINT or SIGTERM. `living`: the
/// nodes of an earlier `up`, by name.
///
/// # Errors
/// There is no majority of metadata servers.
pub async fn run(
    env: &Env,
    data: &Path,
    plan: Plan,
    living: BTreeMap<String, u32>,
    replace_lost: bool,
) -> anyhow::Result<()> {
    let mut fleet = Fleet {
        data: data.to_owned(),
        plan,
        configs: Vec::new(),
        pids: living,
        children: Vec::new(),
        binary: Binary::open(Path::new("/proc/self/exe"))?,
        is_unsaved: false,
        restarts: Restarts::default(),
    };
    let prepared = fleet.prepare(env, replace_lost).await?;
    let outcome = tokio::select! {
        biased;
        outcome = fleet.run(env, prepared) => outcome,
        () = terminated() => Ok(()),
    };
    let stopped = fleet.stop(env).await;
    outcome?;
    stopped
}

/// Whether a node can be used.
enum Readiness {
    Ready,
    /// Not yet, and why.
    Waiting(String),
    /// It never will: why.
    Ended(String),
}

struct Fleet {
    data: PathBuf,
    plan: Plan,
    // Those that can be used.
    configs: Vec<NodeConfig>,
    pids: BTreeMap<String, u32>,
    // Kept to be reaped.
    children: Vec<Child>,
    binary: Binary,
    // The file of process ids is older than they are.
    is_unsaved: bool,
    restarts: Restarts,
}

/// The program that this process runs. An upgrade may remove its file or put another one in its place; the nodes of
/// one `up` are of one version, so the file that was there at the start is kept open.
struct Binary {
    path: PathBuf,
    file: File,
}

impl Binary {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || -> std::io::Result<Self> {
            Ok(Self {
                path: fs::canonicalize(path)?,
                file: File::open(path)?,
            })
        };
        open().context("cannot open this binary")
    }

    /// Runs it, under its own name while that is still its name.
    fn command(&self) -> Command {
        let is_same = || -> std::io::Result<bool> {
            let (named, kept) = (fs::metadata(&self.path)?, self.file.metadata()?);
            Ok((named.dev(), named.ino()) == (kept.dev(), kept.ino()))
        };
        if is_same().unwrap_or(false) {
            return Command::new(&self.path);
        }
        // The child has the descriptor until it has become the program.
        let mut command = Command::new(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        command.arg0(&self.path);
        command
    }
}

impl Fleet {
    async fn run(&mut self, env: &Env, prepared: Prepared) -> anyhow::Result<()> {
        let kept = self.pids.len();
        for fault in prepared.faults() {
            note(format_args!("drystone: {fault}; the others go on without it"));
        }
        self.start_dead(env, Started::default(), true).await?.tell();
        let cluster = self.write_description();
        let how = match kept {
            0 => "each in a process of its own".to_owned(),
            _ => format!("each in a process of its own, {kept} of them kept from before"),
        };
        let refused = health::writes_refused(env, &self.plan).await;
        banner::print(&self.data, &self.plan, &cluster, &how, refused.as_deref());
        let mut answers = again::Answers::default();
        loop {
            env.clock.sleep(again::POLL).await;
            self.tell_of_deaths(env);
            self.start_again(env);
            if self.is_unsaved {
                self.save_pids();
            }
            if let Some(number) = answers.next(&self.data) {
                // What lives goes on, whatever could not be started.
                let started = match self.revive(env).await {
                    Ok(started) => started,
                    Err(error) => Started::failed(&error),
                };
                self.write_description();
                started.tell();
                answers.give(&self.data, number, started);
            }
        }
    }

    async fn revive(&mut self, env: &Env) -> anyhow::Result<Started> {
        let prepared = self.prepare(env, false).await?;
        self.start_dead(env, prepared.started(), false).await
    }

    /// Settles what became of the directories of the nodes that do not run, or that have lost theirs while they did.
    ///
    /// # Errors
    /// As [`Settled::find`] and [`Settled::apply`].
    async fn prepare(&mut self, env: &Env, replace_lost: bool) -> anyhow::Result<Prepared> {
        let running = |pids: &BTreeMap<String, u32>| pids.keys().cloned().collect();
        let settled = Settled::find(env, &self.plan, &self.data, &running(&self.pids), replace_lost).await?;
        for name in &settled.robbed {
            if let Some(pid) = self.pids.remove(name) {
                let stopped = self.end(env, &BTreeMap::from([(name.clone(), pid)])).await;
                if let Err(error) = stopped {
                    note(format_args!("drystone: {error:#}"));
                }
            }
        }
        let running = running(&self.pids);
        let prepared = settled.apply(env, &mut self.plan, &self.data, &running).await?;
        self.configs = prepared.usable().cloned().collect();
        Ok(prepared)
    }

    /// Writes `cluster.json`.
    fn write_description(&self) -> ClusterJson {
        let cluster = describe(&self.plan, &self.configs, |name| {
            self.pids.get(name).copied().unwrap_or_default()
        });
        publish(&self.data, &cluster);
        cluster
    }

    /// Says once of each node that has ended that it has.
    fn tell_of_deaths(&mut self, env: &Env) {
        let ended = self.reap();
        let (data, now) = (&self.data, env.clock.now());
        let restarts = &mut self.restarts;
        self.pids.retain(|name, pid| {
            let lives = is_node(data, name, *pid);
            if !lives {
                let last = last_line(&log_file(data, name));
                // Who was killed was meant to end; of a process that another `up` has started nobody knows.
                let by_itself = ended
                    .get(pid)
                    .is_some_and(|status| status.code().is_some_and(|code| code != 0));
                let again = by_itself.then(|| restarts.ended(name, &last, now)).flatten();
                note(format_args!(
                    "node {name} has ended ({last}); {}",
                    what_follows(again)
                ));
            }
            lives
        });
    }

    /// Starts what has ended some time ago.
    fn start_again(&mut self, env: &Env) {
        let now = env.clock.now();
        let due = self.restarts.due(now);
        for name in &due {
            let config = self.configs.iter().find(|config| config.name == *name);
            let Some(config) = config.filter(|_| !self.pids.contains_key(name)).cloned() else {
                continue;
            };
            if let Err(error) = self.start_node(&config) {
                let fault = format!("{error:#}");
                let again = self.restarts.ended(name, &fault, now);
                note(format_args!(
                    "node {name} cannot be started: {fault}; {}",
                    what_follows(again)
                ));
            }
        }
        if !due.is_empty() {
            self.write_description();
        }
    }

    /// Starts the nodes that do not live and waits until they are ready (`all`: until every node is). One that ends,
    /// or cannot be started, does not keep the others from it.
    ///
    /// # Errors
    /// There is no majority of metadata servers.
    async fn start_dead(&mut self, env: &Env, mut started: Started, all: bool) -> anyhow::Result<Started> {
        let configs = self.configs.clone();
        for config in &configs {
            if !self.pids.contains_key(&config.name) {
                match self.start_node(config) {
                    Ok(()) => started.names.push(config.name.clone()),
                    Err(error) => started
                        .faults
                        .push(format!("node {} cannot be started: {error:#}", config.name)),
                }
            }
        }
        let mut waiting: Vec<(&NodeConfig, String)> = configs
            .iter()
            .filter(|config| all || started.names.contains(&config.name))
            .filter(|config| self.pids.contains_key(&config.name))
            .map(|config| (config, String::new()))
            .collect();
        if !self.has_majority() {
            return Err(started.without_majority());
        }
        let begun = env.clock.now();
        let mut is_told = false;
        while !waiting.is_empty() {
            let mut still = Vec::new();
            for (config, _) in waiting {
                match self.readiness(env, config).await {
                    Readiness::Ready => {}
                    Readiness::Waiting(reason) => still.push((config, reason)),
                    Readiness::Ended(fault) => {
                        self.pids.remove(&config.name);
                        started.names.retain(|name| *name != config.name);
                        started.faults.push(fault);
                    }
                }
            }
            if !self.has_majority() {
                return Err(started.without_majority());
            }
            waiting = still;
            let waited = env.clock.now().since(begun);
            if waited >= PATIENCE {
                let late = |(config, reason): (&NodeConfig, String)| {
                    format!("node {} is not ready after {PATIENCE:?}: {reason}", config.name)
                };
                started.faults.extend(waiting.drain(..).map(late));
            } else if waited >= SILENCE && !is_told {
                let names: Vec<&str> = waiting.iter().map(|(config, _)| config.name.as_str()).collect();
                note(format_args!("waiting for {}", names.join(", ")));
                is_told = true;
            }
            env.clock.sleep(STEP).await;
        }
        Ok(started)
    }

    /// True if a majority of all metadata servers lives, those among them whose directories cannot be used.
    fn has_majority(&self) -> bool {
        self.plan.has_majority(|name| self.pids.contains_key(name))
    }

    fn start_node(&mut self, config: &NodeConfig) -> anyhow::Result<()> {
        let file = config_file(&self.data, &config.name);
        write_atomically(&file, toml(config).as_bytes())?;
        fs::create_dir_all(self.data.join("logs"))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_file(&self.data, &config.name))?;
        let child = (self.binary.command())
            .arg("node")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A group of its own: Ctrl-C and the death of `up` do not reach it.
            .process_group(0)
            .spawn()?;
        self.pids.insert(config.name.clone(), child.id());
        self.children.push(child);
        self.save_pids();
        Ok(())
    }

    /// So that a `up` that is killed now is followed by one that knows these processes. A failure is told once, and it
    /// is tried again.
    fn save_pids(&mut self) {
        let written = serde_json::to_string(&self.pids)
            .map_err(anyhow::Error::from)
            .and_then(|pids| write_atomically(&self.data.join("pids.json"), pids.as_bytes()));
        let was_unsaved = std::mem::replace(&mut self.is_unsaved, written.is_err());
        if let Err(error) = written
            && !was_unsaved
        {
            note(format_args!("drystone: {error:#}; it is tried again"));
        }
    }

    async fn readiness(&mut self, env: &Env, config: &NodeConfig) -> Readiness {
        self.reap();
        let pid = self.pids.get(&config.name).copied().unwrap_or_default();
        if !is_node(&self.data, &config.name, pid) {
            let log = log_file(&self.data, &config.name);
            return Readiness::Ended(format!("node {} ended at once: {}", config.name, last_line(&log)));
        }
        let Some(admin) = config.admin else {
            return Readiness::Ready;
        };
        let url = format!("http://{admin}/readyz");
        match connect::get_within(env, &url, ANSWER_PATIENCE).await {
            Ok((200, _)) => Readiness::Ready,
            Ok((_, body)) => Readiness::Waiting(String::from_utf8_lossy(&body).trim().to_owned()),
            Err(error) => Readiness::Waiting(format!("{error:#}")),
        }
    }

    /// Takes the children that have ended off the list of processes: how each has, by its id.
    fn reap(&mut self) -> BTreeMap<u32, ExitStatus> {
        let mut ended = BTreeMap::new();
        self.children.retain_mut(|child| match child.try_wait() {
            Ok(Some(status)) => {
                ended.insert(child.id(), status);
                false
            }
            _ => true,
        });
        ended
    }

    /// Ends nodes: asks them to, and kills those that do not.
    ///
    /// # Errors
    /// Those that were killed.
    async fn end(&mut self, env: &Env, pids: &BTreeMap<String, u32>) -> anyhow::Result<()> {
        for (name, pid) in pids {
            signal(&self.data, name, *pid, Signal::TERM);
        }
        let deadline = env.clock.now().plus(STOP_PATIENCE);
        while env.clock.now() < deadline {
            self.reap();
            if !pids.iter().any(|(name, pid)| is_node(&self.data, name, *pid)) {
                break;
            }
            env.clock.sleep(Duration::from_millis(50)).await;
        }
        let mut killed = Vec::new();
        for (name, pid) in pids {
            if signal(&self.data, name, *pid, Signal::KILL) {
                killed.push(name.as_str());
            }
        }
        self.reap();
        if killed.is_empty() {
            return Ok(());
        }
        bail!(
            "{} did not end within {STOP_PATIENCE:?} and was killed: does its disk answer?",
            killed.join(", ")
        )
    }

    async fn stop(mut self, env: &Env) -> anyhow::Result<()> {
        let pids = std::mem::take(&mut self.pids);
        let ended = self.end(env, &pids).await;
        // What they say is no longer true.
        let files = ["cluster.json", "pids.json"].map(|file| self.data.join(file));
        remove_files(env, &self.data, files.to_vec()).await;
        ended
    }
}

fn config_file(data: &Path, name: &str) -> PathBuf {
    data.join(format!("{name}.toml"))
}

fn log_file(data: &Path, name: &str) -> PathBuf {
    data.join("logs").join(format!("{name}.log"))
}

/// The nodes of an earlier `up` that still live.
pub fn living(data: &Path) -> BTreeMap<String, u32> {
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

/// Sends it to the process of a node. False if there is none.
fn signal(data: &Path, name: &str, pid: u32, signal: Signal) -> bool {
    match Pid::from_raw(pid as i32) {
        // It may end between the two lines.
        Some(process) if is_node(data, name, pid) => kill_process(process, signal).is_ok(),
        _ => false,
    }
}

/// The last line of a log that grows for as long as the node lives: only its end is read.
fn last_line(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
        let mut end = Vec::new();
        // It may grow meanwhile.
        file.take(LOG_END).read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    text.lines().last().unwrap_or("its log is empty").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::UpOptions;
    use std::io::Write;

    #[test]
    fn the_last_line_of_a_long_log_is_found_in_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("node.log");
        assert_eq!(last_line(&log), "its log is empty");
        // Larger than any memory, if it were read whole.
        let mut file = File::create(&log).unwrap();
        file.set_len(1 << 40).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all("\nthe disk is g\u{f6}ne\n".as_bytes()).unwrap();
        assert_eq!(last_line(&log), "the disk is g\u{f6}ne");
        // One line that is longer than what is read is cut, in the middle of a character if need be.
        fs::write(&log, "\u{f6}".repeat(LOG_END as usize)).unwrap();
        let line = last_line(&log);
        assert!(line.len() as u64 <= LOG_END + 8, "{}", line.len());
        fs::write(&log, format!("x{}", "\u{f6}".repeat(LOG_END as usize))).unwrap();
        assert!(last_line(&log).ends_with('\u{f6}'));
    }

    #[test]
    fn metadata_servers_that_cannot_be_used_count_for_the_majority() {
        let options = UpOptions {
            data: "d".into(),
            listen: Some("127.0.0.1:9700".parse().unwrap()),
            metadata: Some(5),
            chunk_servers: Some(3),
            racks: 1,
            processes: true,
            replace_lost: false,
            insecure: false,
            host: Vec::new(),
        };
        let plan = Plan::make(5, 3, &options).unwrap();
        let mut fleet = Fleet {
            data: "/d".into(),
            configs: plan.nodes(Path::new("/d")),
            plan,
            pids: BTreeMap::new(),
            children: Vec::new(),
            binary: Binary::open(Path::new("/proc/self/exe")).unwrap(),
            is_unsaved: false,
            restarts: Restarts::default(),
        };
        // The directories of two of the five cannot be used.
        let names: Vec<String> = (fleet.plan.metadata.iter())
            .map(|place| place.name.clone())
            .collect();
        fleet.configs.retain(|config| !names[3..].contains(&config.name));
        fleet.pids.extend(names[..2].iter().map(|name| (name.clone(), 1)));
        fleet.pids.insert(fleet.plan.chunk[0].name.clone(), 1);
        assert!(!fleet.has_majority(), "two of five");
        fleet.pids.insert(names[2].clone(), 1);
        assert!(fleet.has_majority(), "three of five");
    }

    #[test]
    fn a_binary_whose_file_is_removed_or_replaced_still_starts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::copy(fs::canonicalize("/bin/sh").unwrap(), &path).unwrap();
        let binary = Binary::open(&path).unwrap();
        let runs = || binary.command().args(["-c", "exit 7"]).status().unwrap().code() == Some(7);
        assert_eq!(binary.command().get_program(), binary.path.as_os_str());
        assert!(runs());
        fs::remove_file(&path).unwrap();
        assert!(runs());
        fs::write(&path, "another version").unwrap();
        assert!(runs());
    }
}
