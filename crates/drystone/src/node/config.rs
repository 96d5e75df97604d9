//! The configuration file of a node.

use super::gateway::GatewayConfig;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One node: a process that runs any set of roles. TOML, kebab-case, unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeConfig {
    /// Name for people; no default.
    pub name: String,
    /// The cluster's ids, key and first voters. `drystone format` makes it if it does not exist; copy it, as the
    /// secret that it is, to every node before formatting there. No default.
    pub cluster_file: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; default: nowhere.
    pub admin: Option<SocketAddr>,
    /// Listen on other addresses than loopback although nobody is authenticated: whoever reaches them can read, change
    /// and delete everything. Default false: such addresses are refused.
    #[serde(default)]
    pub insecure: bool,
    /// Node id of the metadata server; needed with `[metadata]`.
    pub metadata_node: Option<u64>,
    /// Node id of the chunk server; needed with `[chunk]`.
    pub chunk_node: Option<u64>,
    /// The first voters, used once by `drystone format` when it makes the cluster file.
    #[serde(default)]
    pub voters: Vec<Voter>,
    /// `drystone format` makes this node's metadata server a joiner: it becomes a learner, and a voter by
    /// `admin raft replace`. Default false.
    #[serde(default)]
    pub join: bool,
    /// Role: metadata server.
    pub metadata: Option<drystone_meta::Config>,
    /// Role: chunk server.
    pub chunk: Option<drystone_chunk::Config>,
    /// Role: doors.
    pub gateway: Option<GatewayConfig>,
}

/// A first voter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Voter {
    /// Node id, 1 or more.
    pub node: u64,
    /// `host:port` of its wire.
    pub address: String,
}

impl NodeConfig {
    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// What is wrong and where; every fault of its keys at once, or else every fault of what they say.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: NodeConfig = super::toml_file::read(text).map_err(|faults| faults.join("\n"))?;
        match config.faults() {
            faults if faults.is_empty() => Ok(config),
            faults => Err(faults.join("; ")),
        }
    }

    /// The data directories of its roles.
    pub fn directories(&self) -> Vec<&Path> {
        let metadata = self.metadata.iter().map(|metadata| &metadata.data);
        let chunk = self.chunk.iter().flat_map(|chunk| &chunk.data);
        metadata.chain(chunk).map(PathBuf::as_path).collect()
    }

    /// Its listening addresses by key.
    fn listening(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let metadata = self.metadata.iter().map(|it| ("[metadata] listen", it.listen));
        let chunk = self.chunk.iter().map(|it| ("[chunk] listen", it.listen));
        let rest = self.gateway.iter().map(|it| ("[gateway] rest", it.rest));
        let admin = self.admin.iter().map(|&address| ("admin", address));
        metadata.chain(chunk).chain(rest).chain(admin)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let exposed: Vec<String> = self
            .listening()
            .filter(|(_, address)| !self.insecure && !address.ip().is_loopback())
            .map(|(key, address)| format!("{key} = {address}"))
            .collect();
        if !exposed.is_empty() {
            faults.push(format!(
                "{}: nobody is authenticated yet, so whoever reaches these ports can read, change and delete \
                 everything; on a network that you trust say so with insecure = true",
                exposed.join(", ")
            ));
        }
        if self.name.is_empty() || self.name.len() > 255 {
            faults.push("name must have 1 to 255 bytes".to_owned());
        }
        if self.metadata.is_none() && self.chunk.is_none() && self.gateway.is_none() {
            faults.push("the node has no role: add [metadata], [chunk] or [gateway]".to_owned());
        }
        if self.metadata.is_some() && self.metadata_node.is_none_or(|id| id == 0) {
            faults.push("[metadata] needs metadata-node = ID (1 or more)".to_owned());
        }
        if self.chunk.is_some() && self.chunk_node.is_none_or(|id| id == 0) {
            faults.push("[chunk] needs chunk-node = ID (1 or more)".to_owned());
        }
        if self.metadata.is_some() && self.chunk.is_some() && self.metadata_node == self.chunk_node {
            faults.push("metadata-node and chunk-node must differ".to_owned());
        }
        if let Some(Err(error)) = self.metadata.as_ref().map(drystone_meta::Config::validate) {
            faults.extend(error.0.into_iter().map(|fault| format!("[metadata] {fault}")));
        }
        if let Some(Err(error)) = self.chunk.as_ref().map(drystone_chunk::Config::validate) {
            faults.extend(error.0.into_iter().map(|fault| format!("[chunk] {fault}")));
        }
        if self.chunk.as_ref().is_some_and(|chunk| chunk.data.is_empty()) {
            faults.push("[chunk] data is empty, at least one directory is needed".to_owned());
        }
        if let Some(gateway) = &self.gateway {
            faults.extend(gateway.faults().iter().map(|fault| format!("[gateway] {fault}")));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_needs_a_word() {
        let head = "name = \"a\"\ncluster-file = \"c\"\nadmin = \"0.0.0.0:9800\"\n";
        let gateway = "[gateway]\nrest = \"10.0.0.1:9700\"\nmetadata = [\"m:9710\"]\n";
        let refused = NodeConfig::parse(&format!("{head}{gateway}")).unwrap_err();
        for part in [
            "[gateway] rest = 10.0.0.1:9700",
            "admin = 0.0.0.0:9800",
            "insecure = true",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
        assert!(NodeConfig::parse(&format!("{head}insecure = true\n{gateway}")).is_ok());
        let local = format!("{head}{gateway}")
            .replace("0.0.0.0", "[::1]")
            .replace("10.0.0.1", "127.0.0.2");
        assert!(NodeConfig::parse(&local).is_ok());
    }

    #[test]
    fn unknown_keys_and_missing_roles_are_refused() {
        let parse = |text: &str| toml::from_str::<NodeConfig>(text);
        assert!(parse("name = \"a\"\ncluster-file = \"c\"\ncolour = 1").is_err());
        let bare = parse("name = \"a\"\ncluster-file = \"c\"").unwrap();
        assert_eq!(
            bare.faults(),
            ["the node has no role: add [metadata], [chunk] or [gateway]"]
        );
    }
}
