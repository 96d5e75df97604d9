//! The cluster under test: which nodes, how they are configured, started, killed and looked at.

use crate::command::run;
use crate::network::{CLIENT, address, namespace};
use crate::volume::Volume;
use anyhow::{Context, bail};
use drystone_system::Http;
use drystone_system::process::{Signal, is_alive, signal};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to recover and find the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a scenario asks of a cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Chunk servers, 3 to 5; there are always 3 metadata servers.
    pub chunk_servers: u32,
    /// Bytes of each disk.
    pub disk_bytes: u64,
    /// `degraded-minimum` of the policy; 0: all three replicas always.
    pub degraded_minimum: u32,
    /// `log-segment`: only whole segments are purged, so a small one makes snapshots.
    pub log_segment: &'static str,
    /// More lines for `[metadata]`.
    pub metadata_lines: String,
    /// Others reach the servers through proxies: `(node, advertised address)`.
    pub advertised: Vec<(String, String)>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            chunk_servers: 3,
            disk_bytes: 2 << 30,
            degraded_minimum: 0,
            log_segment: "1MiB",
            metadata_lines: String::new(),
            advertised: Vec::new(),
        }
    }
}

/// One node.
pub struct Node {
    /// `metadata-1`, `chunk-2`, `gateway`.
    pub name: String,
    /// Its disk; the gateway has none.
    pub volume: Option<Volume>,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    panics: usize,
    /// Set for the next start.
    pub environment: Vec<(String, String)>,
}

/// All nodes, the gateway last.
pub struct Cluster {
    /// The nodes.
    pub nodes: Vec<Node>,
    binary: PathBuf,
}

impl Cluster {
    /// Makes disks and configurations and formats them; nothing runs yet.
    ///
    /// # Errors
    /// What the machine does not allow, or what the binary says.
    pub fn make(binary: &Path, work: &Path, shape: &Shape) -> anyhow::Result<Self> {
        let mut cluster = Self {
            nodes: Vec::new(),
            binary: binary.to_owned(),
        };
        for directory in ["disks", "logs"] {
            fs::create_dir_all(work.join(directory))?;
        }
        // Whatever an earlier cluster of this run has left.
        let _ = fs::remove_file(work.join("cluster.secret"));
        for name in names(shape) {
            let volume = match name.as_str() {
                "gateway" => None,
                _ => Some(Volume::make(work, &name, shape.disk_bytes)?),
            };
            let data = volume.as_ref().map(|volume| volume.path().join("data"));
            let config = work.join(format!("{name}.toml"));
            fs::write(&config, toml(&name, work, data.as_deref(), shape))?;
            let log = work.join("logs").join(format!("{name}.log"));
            File::create(&log)?;
            cluster.nodes.push(Node {
                name: name.clone(),
                volume,
                config: config.clone(),
                log,
                child: None,
                panics: 0,
                environment: Vec::new(),
            });
            if name != "gateway" {
                let binary = binary.to_string_lossy();
                run(&binary, &["format", "--config", &config.to_string_lossy()])?;
            }
        }
        Ok(cluster)
    }

    /// `host:port` of REST.
    pub fn rest(&self) -> String {
        format!("{}:9700", address("gateway"))
    }

    /// REST.
    pub fn http(&self) -> Http {
        Http::new(&self.rest())
    }

    /// A node by name.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&mut self, name: &str) -> &mut Node {
        let found = self.nodes.iter_mut().find(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The names of a role's nodes.
    pub fn role(&self, role: &str) -> Vec<String> {
        let names = self.nodes.iter().map(|node| node.name.clone());
        names.filter(|name| name.starts_with(role)).collect()
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let binary = self.binary.clone();
        self.node(name).start(&binary)
    }

    /// Starts every node that does not run, but for `without`.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start_all(&mut self, without: &[String]) -> anyhow::Result<()> {
        let binary = self.binary.clone();
        for node in &mut self.nodes {
            if node.child.is_none() && !without.contains(&node.name) {
                node.start(&binary)?;
            }
        }
        Ok(())
    }

    /// Kills a node with SIGKILL and waits for its end.
    pub fn kill(&mut self, name: &str) {
        self.node(name).kill();
    }

    /// Kills all at once.
    pub fn kill_all(&mut self) {
        for node in &self.nodes {
            if let Some(child) = &node.child {
                signal(child.id(), Signal::KILL);
            }
        }
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Sends a signal.
    pub fn signal(&mut self, name: &str, what: Signal) {
        if let Some(child) = &self.node(name).child {
            signal(child.id(), what);
        }
    }

    /// Waits until a node says that it is ready.
    ///
    /// # Errors
    /// If it ends, or is not ready in time.
    pub fn wait_ready(&mut self, name: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut http = Http::new(&format!("{}:9800", address(name)));
        loop {
            let answer = http.try_ask("GET", "/readyz", &[], 0, &mut &b""[..]);
            let reason = match answer {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            let node = self.node(name);
            if !node.child.as_ref().is_some_and(|child| is_alive(child.id())) {
                bail!("{name} ended: {}", node.last_words());
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "{name} was not ready after {PATIENCE:?}: {reason}; {}",
                    node.last_words()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for all that run.
    ///
    /// # Errors
    /// If one ends, or is not ready in time.
    pub fn wait_all(&mut self) -> anyhow::Result<()> {
        let running: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.child.is_some())
            .map(|node| node.name.clone())
            .collect();
        running.iter().try_for_each(|name| self.wait_ready(name))
    }

    /// The name of the metadata leader, by its own metric: nobody who may be cut off is asked by others.
    pub fn leader(&self) -> Option<String> {
        let names = self.role("metadata");
        let mut leaders = names
            .into_iter()
            .filter(|name| metric(name, "drystone_meta_leading") == Some(1.0));
        leaders.next()
    }

    /// Waits for a leader.
    ///
    /// # Errors
    /// If there is none in time.
    pub fn wait_leader(&self) -> anyhow::Result<String> {
        let start = Instant::now();
        loop {
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            if start.elapsed() > PATIENCE {
                bail!("no leader after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nodes that panicked since they were looked at last, with the place.
    pub fn panics(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for node in &mut self.nodes {
            let text = fs::read_to_string(&node.log).unwrap_or_default();
            let panics: Vec<&str> = text.lines().filter(|line| line.contains("panicked at")).collect();
            let new = panics.iter().skip(node.panics);
            found.extend(new.map(|line| format!("{} panicked: {line}", node.name)));
            node.panics = panics.len();
        }
        found
    }

    /// Starts the gateway anew: what its clients still had under way ends here.
    ///
    /// # Errors
    /// If it does not start.
    pub fn renew_gateway(&mut self) -> anyhow::Result<()> {
        self.kill("gateway");
        self.start("gateway")?;
        self.wait_ready("gateway")
    }

    /// Cuts the power of every disk at one time, then kills what ran on them. Disks and processes are dead
    /// afterwards; [`Cluster::restore_power`] brings the disks back.
    ///
    /// # Errors
    /// If the power is still on somewhere.
    pub fn cut_power(&mut self) -> anyhow::Result<Instant> {
        for volume in self.volumes() {
            // A disk that its own node has filled or broken takes no canary.
            let _ = volume.arm();
        }
        let at = Instant::now();
        self.volumes().for_each(Volume::cut);
        let cut: Vec<anyhow::Result<()>> = self.volumes().map(Volume::wait_cut).collect();
        self.kill_all();
        cut.into_iter().collect::<anyhow::Result<()>>()?;
        Ok(at)
    }

    /// Mounts every disk again; on how many the cut has taken what was not synced.
    ///
    /// # Errors
    /// If a file system cannot be mounted.
    pub fn restore_power(&mut self) -> anyhow::Result<u64> {
        let threads = std::thread::scope(|scope| {
            let running: Vec<_> = self
                .volumes()
                .map(|volume| scope.spawn(|| volume.restore()))
                .collect();
            let joined = running.into_iter().map(|thread| thread.join().expect("no panic"));
            joined.collect::<anyhow::Result<Vec<bool>>>()
        })?;
        Ok(threads.into_iter().filter(|is_gone| *is_gone).count() as u64)
    }

    /// Cuts the power of one node.
    ///
    /// # Errors
    /// If the power is still on.
    pub fn cut_power_of(&mut self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name);
        let cut = node.volume.as_mut().map(|volume| {
            let _ = volume.arm();
            volume.cut();
            volume.wait_cut()
        });
        node.kill();
        cut.unwrap_or(Ok(()))
    }

    /// Mounts the disk of one node again.
    ///
    /// # Errors
    /// If the file system cannot be mounted.
    pub fn restore_power_of(&mut self, name: &str) -> anyhow::Result<()> {
        self.node(name)
            .volume
            .as_mut()
            .map_or(Ok(()), |volume| volume.restore().map(|_| ()))
    }

    fn volumes(&mut self) -> impl Iterator<Item = &mut Volume> {
        self.nodes.iter_mut().filter_map(|node| node.volume.as_mut())
    }

    /// Ends and removes everything but the logs.
    pub fn remove(&mut self) {
        self.kill_all();
        self.volumes().for_each(Volume::remove);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Node {
    fn start(&mut self, binary: &Path) -> anyhow::Result<()> {
        let log = File::options().append(true).create(true).open(&self.log)?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", namespace(&self.name).display()))
            .arg(binary)
            .args(["node", "--config"])
            .arg(&self.config)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process, if it was started.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether its process has not ended.
    pub fn is_alive(&self) -> bool {
        self.pid().is_some_and(is_alive)
    }

    /// How often its log says so.
    pub fn told(&self, what: &str) -> u64 {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.matches(what).count() as u64
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            if !self.environment.is_empty() {
                // What libfaketime leaves of a process that is killed.
                for kind in ["faketime_shm", "sem.faketime_sem"] {
                    let _ = fs::remove_file(format!("/dev/shm/{kind}_{}", child.id()));
                }
            }
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

/// A metric of a node, summed over its labels; `None` if the node does not answer or has no such metric.
pub fn metric(node: &str, name: &str) -> Option<f64> {
    let mut http = Http::new(&format!("{}:9800", address(node)));
    let answer = http.try_ask("GET", "/metrics", &[], 0, &mut &b""[..]).ok()?;
    let text = String::from_utf8(answer.body).ok()?;
    let values: Vec<f64> = text
        .lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        })
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn names(shape: &Shape) -> Vec<String> {
    let metadata = (1..=3).map(|i| format!("metadata-{i}"));
    let chunk = (1..=shape.chunk_servers).map(|i| format!("chunk-{i}"));
    metadata.chain(chunk).chain(["gateway".to_owned()]).collect()
}

/// The address under which others reach a node.
fn reached(name: &str, port: u16, shape: &Shape) -> String {
    let advertised = shape.advertised.iter().find(|(node, _)| node == name);
    advertised.map_or_else(
        || format!("{}:{port}", address(name)),
        |(_, address)| address.clone(),
    )
}

/// The configuration of a node. Times are short so that a round takes seconds.
fn toml(name: &str, work: &Path, data: Option<&Path>, shape: &Shape) -> String {
    let own = address(name);
    let metadata: Vec<String> = (1..=3)
        .map(|i| reached(&format!("metadata-{i}"), 9710, shape))
        .collect();
    let list = Value::from(metadata.clone()).to_string();
    let data = data
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    let number: u32 = name
        .rsplit('-')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let mut text = format!(
        "name = {name:?}\ncluster-file = {:?}\nadmin = \"{own}:9800\"\n",
        work.join("cluster.secret")
    );
    let voters = (1..)
        .zip(&metadata)
        .fold(String::new(), |mut text, (node, address)| {
            let _ = writeln!(text, "[[voters]]\nnode = {node}\naddress = {address:?}");
            text
        });
    let common = format!("rack = \"rack-{number}\"\nhost = {name:?}\n");
    let advertise = |port| format!("advertise = {:?}\n", reached(name, port, shape));
    if name.starts_with("metadata") {
        let _ = writeln!(
            text,
            "metadata-node = {number}\n{voters}\n[metadata]\ndata = {data:?}\nlisten = \"{own}:9710\"\n{}{common}\
             raft-tick = \"30ms\"\nlog-segment = {:?}\ncheckpoint-interval = \"300ms\"\noverlay = \"32MiB\"\n\
             store-cache = \"16MiB\"\ndisk-reserve = \"16MiB\"\nheartbeat = \"200ms\"\nsuspect-after = \"1s\"\n\
             doomed-grace = \"1s\"\ngrant-age = \"20s\"\n{}\n[metadata.policy]\nreplicas = 3\n\
             degraded-minimum = {}\nchunk-bytes = \"64KiB\"",
            advertise(9710),
            shape.log_segment,
            shape.metadata_lines,
            shape.degraded_minimum
        );
    } else if name.starts_with("chunk") {
        let node = 20 + number;
        let _ = writeln!(
            text,
            "chunk-node = {node}\n{voters}\n[chunk]\ndata = [{data:?}]\nlisten = \"{own}:9720\"\n{}{common}\
             metadata = {list}\nheartbeat = \"200ms\"\nheartbeat-timeout = \"400ms\"\nread-cache = \"0B\"",
            advertise(9720)
        );
    } else {
        let _ = writeln!(text, "\n[gateway]\nrest = \"{own}:9700\"\nmetadata = {list}");
    }
    text
}

/// Where the wire of a server listens.
pub fn wire(name: &str) -> String {
    let port = if name.starts_with("metadata") { 9710 } else { 9720 };
    format!("{}:{port}", address(name))
}

/// Where proxies listen: in the namespace of the clients.
pub fn proxy_address(port: u16) -> String {
    format!("{}:{port}", address(CLIENT))
}
