//! What `drystone up` writes down about the cluster that it runs on this machine.

use crate::args::Arguments;
use anyhow::Context;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct ClusterJson {
    nodes: Vec<NodeJson>,
}

#[derive(Deserialize)]
struct NodeJson {
    pid: u32,
}

/// The cluster's local processes: those named, and those of the data directory; each once.
///
/// # Errors
/// If the data directory was named and does not say.
pub fn pids(arguments: &Arguments) -> anyhow::Result<Vec<u32>> {
    let mut pids = arguments.pids.clone();
    if let Some(data) = &arguments.data {
        let path = data.join("cluster.json");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        pids.extend(pids_in(&text).with_context(|| path.display().to_string())?);
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Where limit programs work.
pub fn directory(arguments: &Arguments) -> PathBuf {
    let named = arguments.directory.as_ref().or(arguments.data.as_ref());
    named.cloned().unwrap_or_else(|| Path::new(".").to_owned())
}

fn pids_in(text: &str) -> Result<Vec<u32>, serde_json::Error> {
    let cluster: ClusterJson = serde_json::from_str(text)?;
    Ok(cluster
        .nodes
        .into_iter()
        .map(|node| node.pid)
        .filter(|pid| *pid != 0)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn processes_are_named_once_however_many_nodes_they_run() {
        let directory = tempfile::tempdir().unwrap();
        let text = r#"{"rest": "http://127.0.0.1:9700", "nodes": [
            {"name": "m1", "pid": 7, "role": "metadata"}, {"name": "c1", "pid": 7}, {"name": "c2", "pid": 9}]}"#;
        std::fs::write(directory.path().join("cluster.json"), text).unwrap();
        let data = directory.path().to_str().unwrap();
        let arguments = Arguments::try_parse_from(["bench", "--data", data, "--pids", "5,9"]).unwrap();
        assert_eq!(pids(&arguments).unwrap(), [5, 7, 9]);
        assert_eq!(super::directory(&arguments), directory.path());
        assert!(pids_in("{}").is_err());
    }
}
