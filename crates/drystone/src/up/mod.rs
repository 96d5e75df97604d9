//! `drystone up`: a whole cluster on this machine, in one process or in one process per node.

mod again;
mod banner;
mod health;
mod look;
mod lost;
mod plan;
mod ports;
mod prepare;
mod processes;
mod restarts;
mod room;
mod single;

use crate::args::UpOptions;
use crate::atomic;
use crate::lock::lock_patiently;
use crate::node::config::NodeConfig;
use crate::output::note;
use anyhow::{Context, bail};
use drystone_env::Env;
use plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directories of a cluster that `up` has made.
pub struct Tree {
    /// Of metadata servers.
    pub metadata: Vec<PathBuf>,
    /// Of chunk servers, those that are formatted.
    pub chunk: Vec<PathBuf>,
    /// The cluster file.
    pub secret: PathBuf,
}

impl Tree {
    /// The cluster in `data`; `None` if `up` has made none there.
    pub fn load(data: &Path) -> anyhow::Result<Option<Self>> {
        let Some(plan) = Plan::load(data)? else {
            return Ok(None);
        };
        let places = |places: &[plan::Place]| -> Vec<PathBuf> {
            let paths = places.iter().map(|place| data.join(&place.name));
            paths.filter(|path| path.join("identity").exists()).collect()
        };
        Ok(Some(Self {
            metadata: places(&plan.metadata),
            chunk: places(&plan.chunk),
            secret: data.join(SECRET),
        }))
    }
}

/// How long the removal of small files may take at the end.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);
/// Name of the cluster file.
const SECRET: &str = "cluster.secret";

/// What `DIR/cluster.json` says, for tests, scripts and people. Written when every node is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterJson {
    /// `http://address` of the REST door.
    pub rest: String,
    /// Every node.
    pub nodes: Vec<NodeJson>,
}

/// A node in `cluster.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeJson {
    /// Its name.
    pub name: String,
    /// `metadata`, `chunk` or `gateway`.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// Address of its wire (of REST for the gateway).
    pub rpc: String,
    /// Address of its admin port.
    pub admin: String,
    /// Its data directories.
    pub data: Vec<String>,
    /// Its failure domain.
    pub rack: String,
}

/// The whole command.
pub async fn run(options: UpOptions) -> anyhow::Result<()> {
    std::fs::create_dir_all(&options.data)
        .with_context(|| format!("cannot make the data directory {}", options.data.display()))?;
    let data = options.data.canonicalize()?;
    let env = Env::os();
    let _lock = match lock_patiently(&env, &data).await {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            check_mode(&data, options.processes)?;
            return again::ask(&env, &options, &data).await;
        }
        other => other.with_context(|| format!("cannot lock {}", data.display()))?,
    };
    room::check_unused(&data)?;
    again::clear(&data);
    check_mode(&data, options.processes)?;
    if let Some(listen) = options.listen {
        // Before a plan is kept that says so.
        check_exposed(listen, options.insecure)?;
    }
    let plan = Plan::load_or_make(&options, &data)?;
    check_exposed(plan.gateway.wire, options.insecure)?;
    let living = match options.processes {
        true => processes::living(&data),
        false => BTreeMap::new(),
    };
    ports::check(&env, &plan, |name| living.contains_key(name)).await?;
    room::check(&plan, &data)?;
    // Only now is the plan kept: one whose ports are taken would keep the cluster from every later start.
    let outcome = match options.processes {
        true => processes::run(&env, &data, plan, living, options.replace_lost).await,
        false => single::run(&env, &data, plan, options.replace_lost).await,
    };
    remove_files(&env, &data, again::files(&data)).await;
    outcome
}

/// Refuses an address that others than this machine reach, unless that is what the user says.
fn check_exposed(listen: SocketAddr, insecure: bool) -> anyhow::Result<()> {
    if insecure || listen.ip().is_loopback() {
        return Ok(());
    }
    bail!(crate::exit::UsageError(format!(
        "others than this machine reach {listen}, and nobody is authenticated yet: whoever reaches it can read, change \
         and delete everything; on a network that you trust say so with --insecure"
    )))
}

/// What became of nodes that were to be started.
#[derive(Default)]
pub struct Started {
    /// Those that run now.
    pub names: Vec<String>,
    /// Why others do not.
    pub faults: Vec<String>,
    /// What else people have to know; said already.
    pub notes: Vec<String>,
}

impl Started {
    /// Nothing could be started.
    pub fn failed(error: &anyhow::Error) -> Self {
        Self {
            faults: vec![format!("{error:#}")],
            ..Self::default()
        }
    }

    /// Says on stderr what did not start.
    pub fn tell(&self) {
        for fault in &self.faults {
            note(format_args!(
                "drystone: {fault}; the others go on without it (`drystone up` once more tries again)"
            ));
        }
    }

    /// The error of a cluster that cannot work.
    pub fn without_majority(&self) -> anyhow::Error {
        match self.faults.as_slice() {
            [one] => anyhow::anyhow!("{one}"),
            several => anyhow::anyhow!("too few metadata servers run: {}", several.join("; ")),
        }
    }
}

/// A cluster is run in the same way every time, so that nobody finds half of it stopped.
fn check_mode(data: &Path, processes: bool) -> anyhow::Result<()> {
    let path = data.join("mode");
    let mode = if processes { "processes" } else { "single" };
    match std::fs::read_to_string(&path) {
        Ok(present) if present.trim() == mode => Ok(()),
        Ok(_) if !Plan::load(data)?.is_some_and(|plan| plan.is_begun(data)) => {
            write_atomically(&path, mode.as_bytes())
        }
        Ok(present) => bail!(crate::exit::UsageError(format!(
            "{} was made by `drystone up` with {} process; use the same mode, or another --data",
            data.display(),
            if present.trim() == "processes" {
                "--processes, one node per"
            } else {
                "one"
            }
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => write_atomically(&path, mode.as_bytes()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file of the data directory so that readers and crashes see the old one or the new one. One that says so already is
/// left as it is: a cluster whose disk is full starts, so that something can be deleted.
fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if std::fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    atomic::write(path, bytes, atomic::Readers::Usual)
}

/// Writes `cluster.json`. The cluster works without it: a failure is only told.
fn publish(data: &Path, cluster: &ClusterJson) {
    let written = serde_json::to_string_pretty(cluster)
        .map_err(anyhow::Error::from)
        .and_then(|text| write_atomically(&data.join("cluster.json"), text.as_bytes()));
    if let Err(error) = written {
        note(format_args!(
            "drystone: {error:#}; the cluster runs, but what cluster.json says is not true now"
        ));
    }
}

/// Removes files of the data directory when everything has ended. One that hangs does not hold that up: the next `up` knows
/// better than what they say.
async fn remove_files(env: &Env, data: &Path, files: Vec<PathBuf>) {
    let remove = move || {
        for file in files {
            let _ = std::fs::remove_file(file);
        }
    };
    if let Err(why) = look::patiently(env, data, REMOVE_PATIENCE, remove).await {
        tracing::warn!(why, "files of this `up` are left behind");
    }
}

fn describe(plan: &Plan, nodes: &[NodeConfig], pid_of: impl Fn(&str) -> u32) -> ClusterJson {
    let nodes = nodes.iter().map(|node| {
        let (role, rpc, data) = match (&node.metadata, &node.chunk, &node.gateway) {
            (Some(metadata), ..) => ("metadata", metadata.listen, vec![metadata.data.clone()]),
            (_, Some(chunk), _) => ("chunk", chunk.listen, chunk.data.clone()),
            _ => ("gateway", plan.gateway.wire, Vec::new()),
        };
        NodeJson {
            name: node.name.clone(),
            role: role.to_owned(),
            pid: pid_of(&node.name),
            rpc: rpc.to_string(),
            admin: node.admin.map(|admin| admin.to_string()).unwrap_or_default(),
            data: data.iter().map(|path| path.display().to_string()).collect(),
            rack: plan.rack(&node.name).to_owned(),
        }
    });
    ClusterJson {
        rest: format!("http://{}", plan.gateway.wire),
        nodes: nodes.collect(),
    }
}

const TRY_AGAIN: &str = "`drystone up` in another terminal, with the same arguments, starts it again";

/// What is to be said of a node that has ended and is started `again` after a pause.
fn what_follows(again: Option<Duration>) -> String {
    match again {
        Some(pause) => format!("it is started again in {} s", pause.as_secs()),
        None => TRY_AGAIN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// On a full disk nothing new can be written, and a cluster must start there.
    #[test]
    fn a_file_that_says_so_already_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plan.json");
        let number = || std::fs::metadata(&path).unwrap().ino();
        write_atomically(&path, b"one").unwrap();
        let first = number();
        write_atomically(&path, b"one").unwrap();
        assert_eq!(number(), first);
        for other in [&b"two"[..], b"on", b""] {
            let before = number();
            write_atomically(&path, other).unwrap();
            assert_ne!(number(), before);
            assert_eq!(std::fs::read(&path).unwrap(), other);
        }
    }
}
