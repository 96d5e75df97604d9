//! A cluster of `drystone up` in a temporary directory.

use crate::command::{Answer, Running};
use crate::process::{self, Signal};
use crate::{Http, binary, setting, wait_for};
use serde_json::Value;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// How long a cluster may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(150);
/// What is printed of each log when a test fails.
const LOG_LINES: usize = 40;

/// How `up` is called.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `--processes`.
    pub processes: bool,
    /// `--metadata`.
    pub metadata: Option<u32>,
    /// `--chunk-servers`.
    pub chunk_servers: Option<u32>,
    /// Hard limit of open files, of `up` and what it starts.
    pub descriptors: Option<u32>,
}

impl Options {
    /// Everything in one process.
    pub fn single() -> Self {
        Self::default()
    }

    /// Everything in one process, with one metadata server.
    pub fn lone() -> Self {
        Self {
            metadata: Some(1),
            ..Self::default()
        }
    }

    /// 3 metadata and 5 chunk servers, a process each.
    pub fn processes() -> Self {
        Self {
            processes: true,
            ..Self::default()
        }
    }
}

/// A node, as `cluster.json` describes it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `metadata`, `chunk` or `gateway`.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// Its wire (REST for the gateway).
    pub rpc: String,
    /// Its admin port.
    pub admin: String,
    /// Its data directories.
    pub data: Vec<PathBuf>,
}

/// A cluster. Dropping it kills what was started on its directory; after a failure it prints the ends of the logs.
pub struct Cluster {
    home: TempDir,
    options: Options,
    base: u16,
    up: Option<Child>,
    runs: u32,
}

impl Cluster {
    /// Starts a cluster and waits until it is ready.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(options: Options) -> Self {
        let mut cluster = Self::prepare(options);
        cluster.up();
        cluster
    }

    /// Everything but starting it.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn prepare(options: Options) -> Self {
        Self::prepare_in(&std::env::temp_dir(), options)
    }

    /// [`Cluster::prepare`] with everything below `place`.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn prepare_in(place: &Path, options: Options) -> Self {
        let home = tempfile::Builder::new()
            .prefix("drystone-system-")
            .tempdir_in(place)
            .expect("a temporary directory");
        Self {
            home,
            options,
            base: free_base(),
            up: None,
            runs: 0,
        }
    }

    /// A place for the test's own files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// `127.0.0.1:PORT` of `--listen`.
    pub fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.base)
    }

    /// The command line of `up`.
    pub fn up_command(&self) -> Command {
        let mut command = match self.options.descriptors {
            None => clean(Command::new(binary())),
            Some(limit) => {
                let mut shell = clean(Command::new("sh"));
                let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
                shell.arg("-c").arg(script).arg(binary());
                shell
            }
        };
        command
            .arg("up")
            .arg("--data")
            .arg(self.data())
            .arg("--listen")
            .arg(self.listen());
        if self.options.processes {
            command.arg("--processes");
        }
        for (flag, number) in [
            ("--metadata", self.options.metadata),
            ("--chunk-servers", self.options.chunk_servers),
        ] {
            if let Some(number) = number {
                command.arg(flag).arg(number.to_string());
            }
        }
        command.env("DRYSTONE_LOG", "info");
        command
    }

    /// Runs `up` and waits until it says that everything is ready.
    ///
    /// # Panics
    /// If it ends, or does not get ready.
    #[track_caller]
    pub fn up(&mut self) {
        self.up_with(&[]);
    }

    /// [`Cluster::up`] with more words on the command line.
    ///
    /// # Panics
    /// If it ends, or does not get ready.
    #[track_caller]
    pub fn up_with(&mut self, words: &[&str]) {
        self.runs += 1;
        let log = self.log();
        let file = File::create(&log).expect("the log can be made");
        let mut command = self.up_command();
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("one more handle"))
            .stderr(file);
        // Signals to the tests are not for it.
        let mut up = command
            .process_group(0)
            .spawn()
            .expect("the binary can be started");
        let mut ended = None;
        wait_for("drystone up gets ready", PATIENCE, || {
            ended = up.try_wait().expect("it is our child");
            let is_ready = fs::read_to_string(&log)
                .unwrap_or_default()
                .contains("Ctrl-C stops it");
            (is_ready || ended.is_some()).then_some(())
        });
        self.up = Some(up);
        if let Some(status) = ended {
            panic!(
                "drystone up ended with {status}: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        }
    }

    /// The log of the present run of `up`.
    pub fn log(&self) -> PathBuf {
        self.home.path().join(format!("up-{}.log", self.runs))
    }

    /// The process of `up`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn up_pid(&self) -> u32 {
        self.up.as_ref().expect("up runs").id()
    }

    /// Ends `up` by a signal, and waits for it.
    ///
    /// # Panics
    /// If it goes on.
    #[track_caller]
    pub fn end_up(&mut self, signal: Signal) -> ExitStatus {
        let mut up = self.up.take().expect("up runs");
        process::signal(up.id(), signal);
        wait_for("drystone up ends", PATIENCE, || {
            up.try_wait().expect("it is our child")
        })
    }

    /// Kills every process of the cluster, and waits for their ends.
    pub fn kill_all(&mut self) {
        self.kill_processes();
        if let Some(mut up) = self.up.take() {
            // It is dead: this only takes it off the list of processes.
            let _ = up.wait();
        }
    }

    /// The same, while others use the cluster.
    pub fn kill_processes(&self) {
        loop {
            let pids = process::started_on(self.home.path());
            let living: Vec<u32> = pids.into_iter().filter(|pid| process::is_alive(*pid)).collect();
            if living.is_empty() {
                break;
            }
            living.iter().for_each(|pid| process::signal(*pid, Signal::KILL));
            // A process that ends has no arguments any more and still holds its locks for a moment.
            wait_for("killed processes die", PATIENCE, || {
                living.iter().all(|pid| !process::is_alive(*pid)).then_some(())
            });
        }
    }

    /// Asks the `up` that runs, by another one, to start the nodes that are dead.
    ///
    /// # Panics
    /// If one does not start.
    #[track_caller]
    pub fn revive(&self) -> String {
        Running::start(self.up_command()).finish().text()
    }

    /// What `cluster.json` says.
    ///
    /// # Panics
    /// If it is not as documented.
    #[track_caller]
    pub fn description(&self) -> Value {
        let text = fs::read_to_string(self.data().join("cluster.json")).expect("cluster.json is there");
        serde_json::from_str(&text).expect("cluster.json is JSON")
    }

    /// The nodes in `cluster.json`.
    ///
    /// # Panics
    /// If it is not as documented.
    #[track_caller]
    pub fn nodes(&self) -> Vec<Node> {
        let description = self.description();
        let text = |value: &Value| value.as_str().expect("a text in cluster.json").to_owned();
        let nodes = description["nodes"].as_array().expect("cluster.json lists nodes");
        nodes
            .iter()
            .map(|node| Node {
                name: text(&node["name"]),
                role: text(&node["role"]),
                pid: node["pid"]
                    .as_u64()
                    .and_then(|pid| pid.try_into().ok())
                    .expect("a pid"),
                rpc: text(&node["rpc"]),
                admin: text(&node["admin"]),
                data: node["data"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|path| text(path).into())
                    .collect(),
            })
            .collect()
    }

    /// A node by name.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn node(&self, name: &str) -> Node {
        self.nodes()
            .into_iter()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The chunk servers.
    pub fn chunk_servers(&self) -> Vec<Node> {
        self.nodes()
            .into_iter()
            .filter(|node| node.role == "chunk")
            .collect()
    }

    /// Sends a signal to a node with a process of its own.
    #[track_caller]
    pub fn signal(&self, name: &str, signal: Signal) {
        let pid = self.node(name).pid;
        process::signal(pid, signal);
        if signal == Signal::KILL {
            wait_for("a killed process dies", PATIENCE, || {
                (!process::is_alive(pid)).then_some(())
            });
        }
    }

    /// The URL of REST.
    ///
    /// # Panics
    /// If `cluster.json` is not as documented.
    #[track_caller]
    pub fn rest(&self) -> String {
        let rest = self.description()["rest"].as_str().map(str::to_owned);
        rest.expect("cluster.json names REST")
    }

    /// REST.
    pub fn http(&self) -> Http {
        Http::new(&self.rest())
    }

    /// `admin status`.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.cli(&["--json", "admin", "status"]).json()
    }

    /// The name of the metadata leader.
    #[track_caller]
    pub fn leader(&self) -> String {
        self.status()["leader"]
            .as_str()
            .expect("a leader has a name")
            .to_owned()
    }

    /// A metric of a node without labels, or the sum over its labels.
    ///
    /// # Panics
    /// If the node does not answer or has no such metric.
    #[track_caller]
    pub fn metric(&self, node: &Node, name: &str) -> f64 {
        let body = Http::new(&node.admin).get("/metrics").expect(200);
        let text = String::from_utf8(body).expect("metrics are text");
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        let values: Vec<f64> = lines
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        assert!(!values.is_empty(), "{} has no metric {name}", node.name);
        values.iter().sum()
    }

    /// A command of a user on this cluster.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = clean(Command::new(binary()));
        command
            .args(words)
            .env("DRYSTONE_CLUSTER", self.rest())
            .current_dir(self.home.path());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> Answer {
        Running::start(self.command(words)).finish()
    }

    /// Runs a command with an input.
    #[track_caller]
    pub fn cli_with(&self, words: &[&str], input: &[u8]) -> Answer {
        let mut running = Running::start(self.command(words));
        running.feed(input);
        running.finish()
    }

    /// Starts a command.
    pub fn begin(&self, words: &[&str]) -> Running {
        Running::start(self.command(words))
    }

    fn print_logs(&self) {
        let logs = fs::read_dir(self.data().join("logs"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for path in (1..=self.runs)
            .map(|run| self.home.path().join(format!("up-{run}.log")))
            .chain(logs)
        {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of {}", path.display());
            lines[lines.len().saturating_sub(LOG_LINES)..]
                .iter()
                .for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        if std::thread::panicking() {
            self.print_logs();
            if setting("DRYSTONE_KEEP", 0) == 1 {
                self.home.disable_cleanup(true);
            }
        }
    }
}

/// Without what the environment of the tests says to Drystone.
pub fn clean(mut command: Command) -> Command {
    for name in [
        "DRYSTONE_CLUSTER",
        "DRYSTONE_USER",
        "DRYSTONE_LOG",
        "DRYSTONE_BINARY",
    ] {
        command.env_remove(name);
    }
    command
}

/// A base port whose followers are free, below the ports that the system gives to clients: a cluster that is
/// stopped and started again finds its ports as it left them. Each call in a process looks elsewhere first: a base that
/// was just given to another test is still free until its cluster listens.
fn free_base() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let start = (std::process::id() % 100 + CALLS.fetch_add(1, Ordering::Relaxed)) % 100;
    let bases = (0..100).map(|i| 10_000 + (((start + i) % 100) * 200) as u16);
    let offsets = || {
        [0].into_iter()
            .chain(10..13)
            .chain(20..26)
            .chain(100..104)
            .chain(110..116)
    };
    let is_free =
        |base: &u16| offsets().all(|offset| TcpListener::bind(("127.0.0.1", base + offset)).is_ok());
    bases.into_iter().find(is_free).expect("some ports are free")
}
