//! Which nodes a cluster on one machine consists of, and where they listen: made once, kept in the data
//! directory, so that the same command finds the same cluster again.

use crate::args::UpOptions;
use crate::exit::UsageError;
use crate::node::config::{NodeConfig, Voter};
use crate::node::gateway::GatewayConfig;
use crate::output::note;
use anyhow::{Context, bail};
use drystone_types::{ByteCount, Policy};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Chunk servers of `up` get node ids from here on, metadata servers from 1 on.
const FIRST_CHUNK_NODE: u64 = 21;

/// Where REST of a new cluster listens, unless `--listen` says something else.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9700);

/// Where the plan is kept.
const FILE: &str = "plan.json";

/// The layout of a cluster on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Metadata servers.
    pub metadata: Vec<Place>,
    /// Chunk servers.
    pub chunk: Vec<Place>,
    /// REST.
    pub gateway: Place,
    /// Ids of nodes whose directories were lost: they are not given again.
    #[serde(default)]
    pub retired: Vec<u64>,
    /// Names by which REST is reached, beside its address.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// A node of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name, and name of its directory.
    pub name: String,
    /// Node id; 0 for the gateway.
    pub node: u64,
    /// Its wire (REST for the gateway).
    pub wire: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    /// Failure domain; empty for the gateway.
    pub rack: String,
    /// Its directory was formatted: if there is nothing in it now, it was lost.
    #[serde(default = "yes")]
    pub formatted: bool,
    /// A metadata server that joins as a learner, in the place of one that was lost.
    #[serde(default)]
    pub join: bool,
    /// Its directory was on another mount than the data directory when it was last there: if nothing is in it and it
    /// is on none now, its disk is not mounted.
    #[serde(default)]
    pub mounted: bool,
}

/// Of the plans of versions that did not note it: they formatted at once.
fn yes() -> bool {
    true
}

impl Plan {
    /// Reads the plan in the data directory, or makes one from the options. More chunk servers than before are
    /// added; what was formatted otherwise cannot change. Keeps nothing: the ports of the plan may be taken.
    pub fn load_or_make(options: &UpOptions, data: &Path) -> anyhow::Result<Self> {
        let (mut metadata, mut chunk) = if options.processes { (3, 5) } else { (3, 3) };
        // Before anything was formatted a plan binds nobody: its ports may have been taken.
        let present = Self::load(data)?.filter(|plan| plan.is_begun(data));
        if let Some(present) = &present {
            (metadata, chunk) = (present.metadata.len() as u32, present.chunk.len() as u32);
        }
        let metadata = options.metadata.unwrap_or(metadata);
        let chunk = options.chunk_servers.unwrap_or(chunk);
        check(metadata, chunk, options.racks)?;
        match present {
            Some(present) => present.grown(metadata, chunk, options),
            None => Self::make(metadata, chunk, options),
        }
    }

    /// Keeps the plan in the data directory.
    pub fn save(&self, data: &Path) -> anyhow::Result<()> {
        super::write_atomically(&data.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }

    /// A cluster was made by this plan: there is its secret, or what was formatted under one that is gone now.
    pub fn is_begun(&self, data: &Path) -> bool {
        let mut places = self.metadata.iter().chain(&self.chunk);
        data.join(super::SECRET).exists() || places.any(|place| place.formatted)
    }

    /// The names of nodes whose directories were never formatted.
    pub fn new_nodes(&self) -> impl Iterator<Item = &str> {
        let places = self.metadata.iter().chain(&self.chunk);
        places.filter(|place| !place.formatted).map(|place| &*place.name)
    }

    /// The directories of these nodes are formatted.
    pub fn note_formatted(&mut self, is_formatted: impl Fn(&str) -> bool) {
        for place in self.metadata.iter_mut().chain(&mut self.chunk) {
            place.formatted |= is_formatted(&place.name);
        }
    }

    /// An id that no chunk server of this cluster has had.
    pub fn next_chunk_node(&self) -> u64 {
        let last = self.ids().filter(|node| *node >= FIRST_CHUNK_NODE).max();
        last.map_or(FIRST_CHUNK_NODE, |last| last + 1)
    }

    /// An id that no node of this cluster has had, for a metadata server: below those of chunk servers while there are
    /// such, so that people tell them apart.
    pub fn next_metadata_node(&self) -> u64 {
        let small = self.ids().filter(|node| *node < FIRST_CHUNK_NODE).max();
        match small.map_or(1, |last| last + 1) {
            FIRST_CHUNK_NODE => self.next_chunk_node(),
            node => node,
        }
    }

    fn ids(&self) -> impl Iterator<Item = u64> {
        let places = self.metadata.iter().chain(&self.chunk);
        places.map(|place| place.node).chain(self.retired.iter().copied())
    }

    /// Reads the plan in the data directory, if there is one.
    pub fn load(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = data.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// A new plan.
    pub fn make(metadata: u32, chunk: u32, options: &UpOptions) -> anyhow::Result<Self> {
        let mut ports = Ports::new(options.listen.unwrap_or(DEFAULT_LISTEN))?;
        let gateway = Place {
            name: "gateway".to_owned(),
            node: 0,
            wire: ports.at(0)?,
            admin: ports.inside(100)?,
            rack: String::new(),
            formatted: true,
            join: false,
            mounted: false,
        };
        let mut plan = Self {
            metadata: Vec::new(),
            chunk: Vec::new(),
            gateway,
            retired: Vec::new(),
            hosts: options.host.clone(),
        };
        for i in 0..metadata {
            let (wire, admin) = (ports.inside(10 + i)?, ports.inside(101 + i)?);
            let (name, node) = (format!("metadata-{}", i + 1), u64::from(i) + 1);
            plan.metadata.push(Place {
                name,
                node,
                wire,
                admin,
                rack: rack(i, options.racks),
                formatted: false,
                join: false,
                mounted: false,
            });
        }
        plan.add_chunk_servers(chunk, options, &mut ports)?;
        Ok(plan)
    }

    fn add_chunk_servers(
        &mut self,
        until: u32,
        options: &UpOptions,
        ports: &mut Ports,
    ) -> anyhow::Result<()> {
        for i in self.chunk.len() as u32..until {
            let (wire, admin) = (ports.inside(20 + i)?, ports.inside(110 + i)?);
            let (name, node) = (format!("chunk-{}", i + 1), self.next_chunk_node());
            self.chunk.push(Place {
                name,
                node,
                wire,
                admin,
                rack: rack(i, options.racks),
                formatted: false,
                join: false,
                mounted: false,
            });
        }
        Ok(())
    }

    fn grown(mut self, metadata: u32, chunk: u32, options: &UpOptions) -> anyhow::Result<Self> {
        if metadata as usize != self.metadata.len() {
            bail!(UsageError(format!(
                "this cluster was made with {} metadata servers; --metadata cannot change it (use another --data, or \
                 add voters with `admin raft`)",
                self.metadata.len()
            )));
        }
        if (chunk as usize) < self.chunk.len() {
            bail!(UsageError(format!(
                "this cluster has {} chunk servers, and their data; --chunk-servers can only add some",
                self.chunk.len()
            )));
        }
        let listen = options.listen.unwrap_or(self.gateway.wire);
        if listen.port() != 0 && listen != self.gateway.wire {
            self.move_to(listen)?;
        }
        if !options.host.is_empty() {
            self.hosts.clone_from(&options.host);
        }
        let mut ports = Ports::new(self.base(listen))?;
        self.add_chunk_servers(chunk, options, &mut ports)?;
        Ok(self)
    }

    fn base(&self, listen: SocketAddr) -> SocketAddr {
        if listen.port() == 0 {
            SocketAddr::new(listen.ip(), 0)
        } else {
            self.gateway.wire
        }
    }

    /// Another base port: voters are known by their addresses, so only a lone voter can move.
    fn move_to(&mut self, listen: SocketAddr) -> anyhow::Result<()> {
        if self.metadata.len() > 1 {
            bail!(UsageError(format!(
                "this cluster listens on {}; its metadata servers know each other by their ports, so --listen cannot \
                 change: leave it out",
                self.gateway.wire
            )));
        }
        let mut ports = Ports::new(listen)?;
        (self.gateway.wire, self.gateway.admin) = (ports.at(0)?, ports.inside(100)?);
        for (i, place) in (0..).zip(&mut self.metadata) {
            (place.wire, place.admin) = (ports.inside(10 + i)?, ports.inside(101 + i)?);
        }
        for (i, place) in (0..).zip(&mut self.chunk) {
            (place.wire, place.admin) = (ports.inside(20 + i)?, ports.inside(110 + i)?);
        }
        Ok(())
    }

    /// The first voters.
    pub fn voters(&self) -> Vec<Voter> {
        self.metadata
            .iter()
            .map(|place| Voter {
                node: place.node,
                address: place.wire.to_string(),
            })
            .collect()
    }

    /// True if the metadata servers whose names are `alive` are a majority of all that the cluster has.
    pub fn has_majority(&self, alive: impl Fn(&str) -> bool) -> bool {
        let count = self.metadata.iter().filter(|place| alive(&place.name)).count();
        count * 2 > self.metadata.len()
    }

    /// True if others than this machine reach it. All ports are on one address.
    pub fn is_exposed(&self) -> bool {
        !self.gateway.wire.ip().is_loopback()
    }

    fn metadata_addresses(&self) -> Vec<String> {
        self.metadata.iter().map(|place| place.wire.to_string()).collect()
    }

    /// The configuration of every node, metadata servers first, the gateway last.
    pub fn nodes(&self, data: &Path) -> Vec<NodeConfig> {
        let cluster_file = data.join(super::SECRET);
        let blank = |place: &Place| NodeConfig {
            name: place.name.clone(),
            cluster_file: cluster_file.clone(),
            admin: Some(place.admin),
            insecure: self.is_exposed(),
            metadata_node: None,
            chunk_node: None,
            voters: Vec::new(),
            join: false,
            metadata: None,
            chunk: None,
            gateway: None,
        };
        let metadata = self.metadata.iter().map(|place| NodeConfig {
            metadata_node: Some(place.node),
            join: place.join,
            metadata: Some(drystone_meta::Config {
                join: (self.metadata.iter())
                    .filter(|other| place.join && other.name != place.name)
                    .map(|other| other.wire.to_string())
                    .collect(),
                ..metadata_config(place, data)
            }),
            ..blank(place)
        });
        let servers = self.chunk.len() as u64;
        let read_cache = drystone_chunk::Config::share_of_memory(drystone_env::os::memory_bytes(), servers);
        let chunk = self.chunk.iter().map(|place| NodeConfig {
            chunk_node: Some(place.node),
            chunk: Some(chunk_config(place, data, self.metadata_addresses(), read_cache)),
            ..blank(place)
        });
        let gateway = NodeConfig {
            gateway: Some(GatewayConfig {
                hosts: self.hosts.clone(),
                ..GatewayConfig::new(self.gateway.wire, self.metadata_addresses())
            }),
            ..blank(&self.gateway)
        };
        metadata.chain(chunk).chain([gateway]).collect()
    }

    /// The rack of a node, by name.
    pub fn rack(&self, name: &str) -> &str {
        let all = self.metadata.iter().chain(&self.chunk);
        all.into_iter()
            .find(|place| place.name == name)
            .map_or("", |place| &place.rack)
    }
}

/// The redundancy of a cluster on one machine: three replicas, but two will do when a server is down.
pub fn policy() -> Policy {
    Policy {
        degraded_minimum: 2,
        ..Policy::default()
    }
}

fn metadata_config(place: &Place, data: &Path) -> drystone_meta::Config {
    let mut config = drystone_meta::Config::new(data.join(&place.name), place.wire);
    config.policy = policy().into();
    config.rack = place.rack.clone();
    config.host = place.name.clone();
    config.admin = Some(place.admin.to_string());
    // A machine that also runs everything else: small caches, small log.
    config.overlay = ByteCount(64 << 20);
    config.store_cache = ByteCount(32 << 20);
    config.log_segment = ByteCount(16 << 20);
    // Its state is small, and cheap to export.
    config.export_after = ByteCount(1 << 20);
    config.heartbeat = Duration::from_secs(1);
    config.suspect_after = Duration::from_secs(3);
    // Its disks are small: what was deleted soon makes room.
    config.doomed_grace = Duration::from_secs(30);
    config
}

fn chunk_config(
    place: &Place,
    data: &Path,
    metadata: Vec<String>,
    read_cache: ByteCount,
) -> drystone_chunk::Config {
    drystone_chunk::Config {
        listen: place.wire,
        admin: place.admin.to_string(),
        data: vec![data.join(&place.name)],
        metadata,
        host: place.name.clone(),
        rack: place.rack.clone(),
        read_cache: Some(read_cache),
        heartbeat: Duration::from_secs(1),
        ..drystone_chunk::Config::default()
    }
}

/// The TOML file of a node of this plan, as `drystone node --config` reads it.
pub fn toml(config: &NodeConfig) -> String {
    let mut text = String::from("# Written by drystone up; the reference is docs/configuration.md.\n");
    let quote = |value: &str| serde_json::Value::from(value).to_string();
    let list = |values: &[String]| serde_json::Value::from(values).to_string();
    let path = |value: &PathBuf| quote(&value.to_string_lossy());
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = {value}");
    };
    line("name", quote(&config.name));
    line("cluster-file", path(&config.cluster_file));
    if let Some(admin) = config.admin {
        line("admin", quote(&admin.to_string()));
    }
    if config.insecure {
        line("insecure", "true".to_owned());
    }
    if let Some(node) = config.metadata_node {
        line("metadata-node", node.to_string());
    }
    if let Some(node) = config.chunk_node {
        line("chunk-node", node.to_string());
    }
    if config.join {
        line("join", "true".to_owned());
    }
    let millis = |duration: Duration| quote(&format!("{}ms", duration.as_millis()));
    if let Some(metadata) = &config.metadata {
        text.push_str("\n[metadata]\n");
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key} = {value}");
        };
        line("data", path(&metadata.data));
        line("listen", quote(&metadata.listen.to_string()));
        if let Some(admin) = &metadata.admin {
            line("admin", quote(admin));
        }
        if !metadata.join.is_empty() {
            line("join", list(&metadata.join));
        }
        line("rack", quote(&metadata.rack));
        line("host", quote(&metadata.host));
        line("overlay", quote(&metadata.overlay.to_string()));
        line("store-cache", quote(&metadata.store_cache.to_string()));
        line("log-segment", quote(&metadata.log_segment.to_string()));
        line("export-after", quote(&metadata.export_after.to_string()));
        line("heartbeat", millis(metadata.heartbeat));
        line("suspect-after", millis(metadata.suspect_after));
        line("doomed-grace", millis(metadata.doomed_grace));
        let _ = writeln!(
            text,
            "\n[metadata.policy]\nreplicas = {}\ndegraded-minimum = {}\nchunk-bytes = {}",
            metadata.policy.replicas,
            metadata.policy.degraded_minimum,
            quote(&metadata.policy.chunk_bytes.to_string()),
        );
    }
    if let Some(chunk) = &config.chunk {
        text.push_str("\n[chunk]\n");
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key} = {value}");
        };
        line("listen", quote(&chunk.listen.to_string()));
        line("admin", quote(&chunk.admin));
        let data: Vec<String> = chunk
            .data
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        line("data", list(&data));
        line("metadata", list(&chunk.metadata));
        line("host", quote(&chunk.host));
        line("rack", quote(&chunk.rack));
        if let Some(read_cache) = chunk.read_cache {
            line("read-cache", quote(&read_cache.to_string()));
        }
        line("heartbeat", millis(chunk.heartbeat));
    }
    if let Some(gateway) = &config.gateway {
        text.push_str("\n[gateway]\n");
        let _ = writeln!(text, "rest = {}", quote(&gateway.rest.to_string()));
        let _ = writeln!(text, "metadata = {}", list(&gateway.metadata));
        if !gateway.hosts.is_empty() {
            let _ = writeln!(text, "hosts = {}", list(&gateway.hosts));
        }
    }
    text
}

fn check(metadata: u32, chunk: u32, racks: u32) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    if !(1..=7).contains(&metadata) {
        faults.push(format!("--metadata is {metadata}, must be 1 to 7"));
    }
    if !(1..=64).contains(&chunk) {
        faults.push(format!("--chunk-servers is {chunk}, must be 1 to 64"));
    }
    if racks == 0 || racks > 64 {
        faults.push(format!("--racks is {racks}, must be 1 to 64"));
    }
    if !faults.is_empty() {
        bail!(UsageError(faults.join("; ")));
    }
    if metadata.is_multiple_of(2) {
        note(format_args!(
            "warning: {metadata} metadata servers survive the loss of {}, as {} would; take 1, 3 or 5",
            metadata / 2 - 1,
            metadata - 1
        ));
    }
    Ok(())
}

fn rack(index: u32, racks: u32) -> String {
    format!("rack-{}", index % racks + 1)
}

/// Ports counted from a base, or free ones found by asking the system.
struct Ports {
    base: SocketAddr,
    // Held until the plan is made, so that no port is found twice.
    held: Vec<TcpListener>,
}

impl Ports {
    fn new(base: SocketAddr) -> anyhow::Result<Self> {
        if base.port() > 65_535 - 200 {
            bail!(UsageError(format!(
                "--listen {base}: the base port must leave room for 200 more"
            )));
        }
        Ok(Self {
            base,
            held: Vec::new(),
        })
    }

    /// An address that only this machine reaches, if the base is a wildcard: of the servers behind the doors.
    fn inside(&mut self, offset: u32) -> anyhow::Result<SocketAddr> {
        let mut address = self.at(offset)?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Ok(address)
    }

    fn at(&mut self, offset: u32) -> anyhow::Result<SocketAddr> {
        if self.base.port() != 0 {
            return Ok(SocketAddr::new(self.base.ip(), self.base.port() + offset as u16));
        }
        let listener =
            TcpListener::bind(self.base).with_context(|| format!("cannot listen on {}", self.base))?;
        let address = listener.local_addr()?;
        self.held.push(listener);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(listen: &str) -> UpOptions {
        UpOptions {
            data: "d".into(),
            listen: Some(listen.parse().unwrap()),
            metadata: None,
            chunk_servers: None,
            racks: 3,
            processes: true,
            replace_lost: false,
            insecure: false,
            host: Vec::new(),
        }
    }

    #[test]
    fn ports_follow_from_the_base() {
        let plan = Plan::make(3, 5, &options("127.0.0.1:9700")).unwrap();
        assert_eq!(plan.gateway.wire.port(), 9700);
        assert_eq!(
            plan.metadata.iter().map(|p| p.wire.port()).collect::<Vec<_>>(),
            [9710, 9711, 9712]
        );
        assert_eq!(
            plan.chunk.iter().map(|p| p.wire.port()).collect::<Vec<_>>(),
            [9720, 9721, 9722, 9723, 9724]
        );
        assert_eq!(
            plan.chunk.iter().map(|p| p.rack.as_str()).collect::<Vec<_>>(),
            ["rack-1", "rack-2", "rack-3", "rack-1", "rack-2"]
        );
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
            let mut plan = Plan::make(3, 5, &options(listen)).unwrap();
            (plan.metadata[1].node, plan.metadata[1].join) = (4, true);
            assert_eq!(plan.is_exposed(), listen.starts_with('0'));
            for config in plan.nodes(Path::new("/data/\"x")) {
                assert_eq!(NodeConfig::parse(&toml(&config)).unwrap(), config);
            }
        }
    }

    #[test]
    fn a_cluster_grows_and_nothing_else() {
        let plan = Plan::make(1, 3, &options("127.0.0.1:9700")).unwrap();
        assert_eq!(
            plan.clone()
                .grown(1, 5, &options("127.0.0.1:9700"))
                .unwrap()
                .chunk
                .len(),
            5
        );
        assert!(plan.clone().grown(3, 3, &options("127.0.0.1:9700")).is_err());
        assert!(plan.grown(1, 2, &options("127.0.0.1:9700")).is_err());
    }

    #[test]
    fn a_cluster_keeps_what_it_was_made_with_once_it_is_formatted() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let mut asked = options("127.0.0.1:9700");
        (asked.processes, asked.metadata) = (false, Some(1));
        assert_eq!(Plan::load_or_make(&asked, data).unwrap().metadata.len(), 1);
        asked.metadata = None;
        // Nothing was formatted: the ports were taken, perhaps.
        asked.listen = Some("127.0.0.1:9400".parse().unwrap());
        let plan = Plan::load_or_make(&asked, data).unwrap();
        assert_eq!((plan.metadata.len(), plan.gateway.wire.port()), (3, 9400));
        // One of an earlier version, with one metadata server.
        asked.metadata = Some(1);
        Plan::load_or_make(&asked, data).unwrap().save(data).unwrap();
        std::fs::write(data.join(super::super::SECRET), "").unwrap();
        (asked.metadata, asked.listen) = (None, None);
        assert_eq!(Plan::load_or_make(&asked, data).unwrap().metadata.len(), 1);
        // More chunk servers, whose ports are not checked yet.
        let before = Plan::load(data).unwrap().unwrap();
        asked.chunk_servers = Some(before.chunk.len() as u32 + 1);
        let grown = Plan::load_or_make(&asked, data).unwrap();
        assert_eq!(grown.chunk.len(), before.chunk.len() + 1);
        assert_eq!(Plan::load(data).unwrap().unwrap(), before);
    }

    #[test]
    fn the_names_of_a_cluster_are_remembered() {
        let home = tempfile::tempdir().unwrap();
        let named = UpOptions {
            host: vec!["store.example".to_owned()],
            ..options("127.0.0.1:9400")
        };
        let made = Plan::make(1, 1, &named).unwrap();
        let again = made.grown(1, 1, &options("127.0.0.1:9400")).unwrap();
        let nodes = again.nodes(home.path());
        let text = toml(nodes.last().unwrap());
        assert!(text.contains("hosts = [\"store.example\"]"), "{text}");
        let read = NodeConfig::parse(&text).unwrap();
        assert_eq!(read.gateway.unwrap().hosts, ["store.example"]);
    }

    #[test]
    fn the_port_of_a_cluster_is_remembered() {
        let plan = Plan::make(3, 3, &options("127.0.0.1:9300")).unwrap();
        let mut again = options("127.0.0.1:9300");
        again.listen = None;
        assert_eq!(plan.clone().grown(3, 3, &again).unwrap(), plan);
        let refused = plan.grown(3, 3, &options("127.0.0.1:9400")).unwrap_err();
        assert!(
            refused.to_string().contains("--listen cannot change"),
            "{refused}"
        );
    }
}
