//! `drystone format`: makes data directories, once, and the cluster file with the first of them.

use crate::atomic::{self, Readers};
use crate::exit::UsageError;
use crate::node::config::{NodeConfig, Voter};
use crate::output::say;
use anyhow::{Context, bail};
use drystone_env::Env;
use drystone_env::os::{OsDisk, random_bytes};
use drystone_identity::{Identity, IdentityError, Role};
use drystone_proto::grant::ClusterKey;
use drystone_types::{ClusterId, DiskId, DiskRef, HistoryId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// What every node of a cluster shares. A secret: whoever has it can join and sign.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// 32 hexadecimal digits.
    pub history: String,
    /// 64 hexadecimal digits.
    pub key: String,
    /// The first voters.
    pub voters: Vec<(u64, String)>,
}

impl ClusterFile {
    /// Draws a new cluster.
    pub fn draw(voters: &[Voter]) -> Self {
        Self {
            cluster: hex(&drawn::<16>()),
            history: hex(&drawn::<16>()),
            key: hex(&drawn::<32>()),
            voters: voters
                .iter()
                .map(|voter| (voter.node, voter.address.clone()))
                .collect(),
        }
    }

    /// The file that a directory was formatted by.
    pub fn of(identity: &Identity) -> Self {
        Self {
            cluster: hex(&identity.cluster.0),
            history: hex(&identity.history.0),
            key: hex(&identity.key.0),
            voters: identity
                .voters
                .iter()
                .map(|(node, address)| (node.0, address.clone()))
                .collect(),
        }
    }

    /// Reads the file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a cluster file of drystone format", path.display()))
    }

    /// Writes it in the place of the one that is there, atomically; readable by its owner only.
    ///
    /// # Errors
    /// What the disk says.
    pub fn replace(&self, path: &Path) -> anyhow::Result<()> {
        atomic::write(
            path,
            serde_json::to_string_pretty(self)?.as_bytes(),
            Readers::Owner,
        )
    }

    /// Writes it, readable by its owner only.
    ///
    /// # Errors
    /// There is a file already, or what the disk says.
    pub fn create(&self, path: &Path) -> anyhow::Result<()> {
        atomic::create(
            path,
            serde_json::to_string_pretty(self)?.as_bytes(),
            Readers::Owner,
        )
    }

    /// Reads the file, or draws a cluster with `voters` and writes it, readable by its owner only.
    pub fn load_or_draw(path: &Path, voters: &[Voter]) -> anyhow::Result<(Self, bool)> {
        if path.exists() {
            return Ok((Self::load(path)?, false));
        }
        if voters.is_empty() {
            return Err(UsageError(format!(
                "{} does not exist: copy it from the first node, or name the first voters in `voters` to make a new \
                 cluster",
                path.display()
            ))
            .into());
        }
        let file = Self::draw(voters);
        file.create(path)?;
        Ok((file, true))
    }

    /// The identity of a node of this cluster, without a disk.
    pub fn identity(&self, node: u64, name: &str, role: Role, joining: bool) -> anyhow::Result<Identity> {
        let key = unhex(&self.key).context("the cluster file's key is not 64 hexadecimal digits")?;
        Ok(Identity {
            cluster: ClusterId::from_hex(&self.cluster)
                .context("the cluster file's cluster id is malformed")?,
            history: HistoryId::from_hex(&self.history)
                .context("the cluster file's history id is malformed")?,
            key: ClusterKey(key),
            node: NodeId(node),
            node_incarnation: Incarnation(u64::from_le_bytes(drawn())),
            role,
            disk: None,
            voters: self
                .voters
                .iter()
                .map(|(node, address)| (NodeId(*node), address.clone()))
                .collect(),
            joining,
            name: name.to_owned(),
        })
    }
}

/// A disk's id is drawn from the node's: nodes have at most 256 disks.
fn disk_id(node: u64, index: usize) -> DiskId {
    DiskId(node << 8 | index as u64)
}

/// Formats what `config` names and is not formatted yet. Answers the directories that it formatted.
pub fn format_node(config: &NodeConfig, file: &ClusterFile) -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    if let (Some(metadata), Some(node)) = (&config.metadata, config.metadata_node) {
        let is_voter = file.voters.iter().any(|(voter, _)| *voter == node);
        if is_voter == config.join {
            bail!(UsageError(if is_voter {
                format!("metadata-node {node} is a first voter of the cluster: it cannot join; take a new id")
            } else {
                format!("metadata-node {node} is no first voter of the cluster: set join = true")
            }));
        }
        let identity = file.identity(node, &config.name, Role::Metadata, config.join)?;
        format_directory(&metadata.data, &identity, &mut done)?;
    }
    if let (Some(chunk), Some(node)) = (&config.chunk, config.chunk_node) {
        let mut identity = file.identity(node, &config.name, Role::Chunk, false)?;
        let mut taken = BTreeSet::new();
        // A node keeps its incarnation when a disk is added to it.
        for path in &chunk.data {
            if !path.exists() {
                continue;
            }
            match drystone_identity::load(&OsDisk::new(path)?) {
                Ok(present) => {
                    identity.node_incarnation = present.node_incarnation;
                    taken.extend(present.disk.map(|disk| disk.disk));
                }
                Err(IdentityError::NotFormatted) => {}
                // It may hold the id that another one would get.
                Err(error) => bail!("{}: {error}; nothing was formatted", path.display()),
            }
        }
        for (index, path) in chunk.data.iter().enumerate() {
            let incarnation = Incarnation(u64::from_le_bytes(drawn()));
            // One that is replaced has the id of its place, unless the list has been put in another order since.
            let mut ids = std::iter::once(index)
                .chain(0..256)
                .map(|index| disk_id(node, index));
            let disk = ids
                .find(|id| !taken.contains(id))
                .context("a node has at most 256 disks")?;
            identity.disk = Some(DiskRef { disk, incarnation });
            if format_directory(path, &identity, &mut done)? {
                taken.insert(disk);
            }
        }
    }
    Ok(done)
}

/// True if it was not formatted before.
fn format_directory(path: &Path, identity: &Identity, done: &mut Vec<String>) -> anyhow::Result<bool> {
    let disk = OsDisk::new(path).with_context(|| format!("cannot make {}", path.display()))?;
    if let Ok(present) = drystone_identity::load(&disk) {
        if present.cluster == identity.cluster && present.history != identity.history {
            bail!(
                "{} is of history {} of its cluster, not of {}: run `drystone admin recover` to its end, or \
                 `drystone admin adopt`",
                path.display(),
                present.history,
                identity.history
            );
        }
        if present.cluster != identity.cluster {
            bail!(
                "{} belongs to cluster {}, not {}",
                path.display(),
                present.cluster,
                identity.cluster
            );
        }
        if present.node != identity.node {
            bail!(
                "{} belongs to node {}, not {}",
                path.display(),
                present.node,
                identity.node
            );
        }
        return Ok(false);
    }
    drystone_identity::format(&disk, identity)
        .with_context(|| format!("cannot format {}", path.display()))?;
    done.push(path.display().to_string());
    Ok(true)
}

/// The whole command.
pub async fn run(env: &Env, options: &crate::args::FormatOptions) -> anyhow::Result<()> {
    let mut config = crate::node::load(&options.config)?;
    if let Some(node) = options.as_node {
        as_another_node(&mut config, node)?;
    }
    let (file, is_new) = ClusterFile::load_or_draw(&config.cluster_file, &config.voters)?;
    if is_new {
        say(format_args!(
            "new cluster {}; its secret is in {}",
            file.cluster,
            config.cluster_file.display()
        ));
        say("copy that file to every other node before formatting there");
        if file.voters.len().is_multiple_of(2) {
            say(format_args!(
                "warning: {} voters survive no more failures than {}; take 1, 3 or 5",
                file.voters.len(),
                file.voters.len() - 1
            ));
        }
    }
    if !is_new {
        crate::known::refuse_lost(env, &config, &options.config, &file.history).await?;
    }
    let done = format_node(&config, &file)?;
    if done.is_empty() {
        say("everything was formatted already, nothing was changed");
    }
    for path in done {
        say(format_args!("formatted {path}"));
    }
    if let Some(node) = options.as_node {
        say(format_args!(
            "write chunk-node = {node} into {}",
            options.config.display()
        ));
    }
    Ok(())
}

/// The chunk server comes back as `node`, and nothing else of this process is formatted.
fn as_another_node(config: &mut NodeConfig, node: u64) -> anyhow::Result<()> {
    if config.chunk.is_none() {
        bail!(UsageError(
            "--as-node is for a chunk server, and this node is none".to_owned()
        ));
    }
    if node == 0 || Some(node) == config.metadata_node || Some(node) == config.chunk_node {
        bail!(UsageError(format!(
            "--as-node {node}: take an id above 0 that the cluster has never seen (`drystone admin status` says \
             which is the highest that it has)"
        )));
    }
    (config.chunk_node, config.metadata) = (Some(node), None);
    Ok(())
}

fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random_bytes(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let halves = (text.get(..32)?, text.get(32..)?);
    let (high, low) = (ClusterId::from_hex(halves.0)?, ClusterId::from_hex(halves.1)?);
    let mut key = [0; 32];
    key[..16].copy_from_slice(&high.0);
    key[16..].copy_from_slice(&low.0);
    Some(key)
}
