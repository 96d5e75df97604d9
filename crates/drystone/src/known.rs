//! Before a chunk server is formatted: does the cluster know its id already? Then its directories were lost, and formatted
//! under the same id they would be refused.

use crate::exit::UsageError;
use crate::node::config::NodeConfig;
use anyhow::bail;
use drystone_client::admin::ClusterStatus;
use drystone_client::{Client, Options};
use drystone_env::Env;
use drystone_env::os::OsDisk;
use drystone_identity::IdentityError;
use drystone_types::HistoryId;
use std::path::Path;
use std::time::Duration;

/// How long the cluster is asked: it may not be there yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// Refuses to format directories that were lost. `file` is the configuration, `history` the cluster's. Formats the
/// cluster cannot be asked about go on: a server that should not have been formatted says so when it starts.
///
/// # Errors
/// What is wrong, and the command that repairs it.
pub async fn refuse_lost(env: &Env, config: &NodeConfig, file: &Path, history: &str) -> anyhow::Result<()> {
    let (Some(chunk), Some(node)) = (&config.chunk, config.chunk_node) else {
        return Ok(());
    };
    if !chunk.data.iter().all(|path| is_blank(path)) {
        return Ok(());
    }
    let Some(status) = ask(env, chunk.metadata.clone(), history).await else {
        return Ok(());
    };
    match refusal(&status, node, file) {
        Some(why) => bail!(UsageError(why)),
        None => Ok(()),
    }
}

/// What to say if the cluster knows `node`.
fn refusal(status: &ClusterStatus, node: u64, file: &Path) -> Option<String> {
    let servers = status
        .servers
        .iter()
        .filter_map(|server| server.node.as_ref())
        .map(|node| node.id);
    let members = status.members.iter().map(|member| member.node);
    let known: Vec<u64> = servers.chain(members).collect();
    let why = if status.used_up.contains(&node) {
        format!(
            "node {node} was removed from the cluster or replaced, and its id is never used again. Nothing was formatted: \
             it would be refused. Take"
        )
    } else if known.contains(&node) {
        format!(
            "node {node} is known to the cluster, and the directories that {} names for it are empty. Nothing was \
             formatted: under its old id it would be refused. If a disk is not mounted, mount it. If what it held is lost, \
             take",
            file.display()
        )
    } else {
        return None;
    };
    // Leaders of older versions do not say which id was the highest.
    let all = known.iter().chain(&status.used_up).chain([&status.highest_node]);
    Some(format!(
        "{why} an id that the cluster has never seen (it has seen ids up to {}) and run\n  {}",
        all.max().copied().unwrap_or(node),
        repair(&file.display().to_string())
    ))
}

/// The command that formats lost directories anew.
pub fn repair(file: &str) -> String {
    format!("drystone format --config {file} --as-node ID")
}

fn is_blank(path: &Path) -> bool {
    if !path.exists() {
        return true;
    }
    OsDisk::new(path)
        .is_ok_and(|disk| matches!(drystone_identity::load(&disk), Err(IdentityError::NotFormatted)))
}

/// What the cluster says of itself, if it is there and of this history.
async fn ask(env: &Env, metadata: Vec<String>, history: &str) -> Option<ClusterStatus> {
    let options = Options {
        deadline: PATIENCE,
        ..Options::new(metadata)
    };
    let client = Client::connect(env.clone(), options).await.ok()?;
    let info = client.cluster_info().await.ok()?;
    let is_same =
        HistoryId::from_slice(&info.history).is_some_and(|found| Some(found) == HistoryId::from_hex(history));
    match is_same {
        true => client.status().await.ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_client::admin::ServerStatus;
    use drystone_proto::record::NodeRecord;

    #[test]
    fn an_id_that_the_cluster_knows_is_refused_with_the_command_that_repairs() {
        let server = |id| ServerStatus {
            node: Some(NodeRecord {
                id,
                ..NodeRecord::default()
            }),
            ..ServerStatus::default()
        };
        let status = ClusterStatus {
            servers: vec![server(21), server(22), server(23)],
            ..ClusterStatus::default()
        };
        let file = Path::new("/etc/drystone/b.toml");
        let why = refusal(&status, 22, file).unwrap();
        for part in [
            "node 22 is known",
            "ids up to 23",
            "drystone format --config /etc/drystone/b.toml --as-node ID",
        ] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(refusal(&status, 24, file), None);
        // Ids of nodes that were removed are used up too.
        let status = ClusterStatus {
            highest_node: 40,
            used_up: vec![24, 40],
            ..status
        };
        let why = refusal(&status, 24, file).unwrap();
        for part in ["node 24 was removed", "ids up to 40", "--as-node ID"] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(refusal(&status, 25, file), None);
    }
}
