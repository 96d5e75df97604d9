//! What `up` says once the cluster is ready.

use super::ClusterJson;
use super::plan::{Plan, policy};
use crate::output::say;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where it is, what to try, and which failures it does not survive.
///
/// `refused`: why it takes no data, if it takes none.
pub fn print(data: &Path, plan: &Plan, cluster: &ClusterJson, how: &str, refused: Option<&str>) {
    let rest = &cluster.rest;
    let of_role = |role: &str| cluster.nodes.iter().filter(|node| node.role == role).count();
    say(format_args!(
        "drystone is up: {}, {}, {how}",
        count(of_role("metadata"), "metadata server"),
        count(of_role("chunk"), "chunk server")
    ));
    say(format_args!(
        "  REST  {rest}   (described by {rest}/openapi.json)"
    ));
    say(format_args!("  data  {}   (nodes: cluster.json)", data.display()));
    say("");
    let flag = if rest == "http://127.0.0.1:9700" {
        String::new()
    } else {
        format!(" --cluster {rest}")
    };
    let program = program();
    say("Try, in another terminal:");
    say(format_args!("  {program}{flag} put README.md /readme.md"));
    say(format_args!("  {program}{flag} ls -l /"));
    say(format_args!("  curl {rest}/files/readme.md"));
    say("");
    if let Some(refused) = refused {
        say(format_args!(
            "WARNING: new data is refused, some or all: {refused}. `drystone admin status` says when that changes."
        ));
    }
    for line in domains(plan, cluster) {
        say(format_args!("{line}"));
    }
    say("Ctrl-C stops it; the same command starts it again with everything in it.");
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// How this binary was called, so that the commands can be pasted.
fn program() -> String {
    let name = std::env::args().next().unwrap_or_default();
    if name.contains("target/release/") {
        "cargo run --release --".to_owned()
    } else {
        name
    }
}

/// Racks that are one disk are no racks: say so.
fn domains(plan: &Plan, cluster: &ClusterJson) -> Vec<String> {
    let mut racks_of: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for node in cluster.nodes.iter().filter(|node| node.role == "chunk") {
        for path in &node.data {
            if let Ok(meta) = std::fs::metadata(path) {
                let racks = racks_of.entry(meta.dev()).or_default();
                if !racks.contains(&node.rack.as_str()) {
                    racks.push(&node.rack);
                }
            }
        }
    }
    let policy = policy();
    let mut lines = Vec::new();
    for (device, racks) in &racks_of {
        if racks.len() > 1 {
            let (major, minor) = (device >> 8 & 0xfff, device & 0xff);
            lines.push(format!(
                "Note: {} are really one disk (device {major}:{minor}) of one machine: if it dies, everything dies.",
                racks.join(", ")
            ));
        }
    }
    lines.push(format!(
        "Note: files have {} replicas, each synced before a write is acknowledged; while servers are down or full {} will do.",
        policy.replicas,
        policy.minimum()
    ));
    if plan.metadata.len() == 1 {
        lines.push("Note: one metadata server: while it is down, so is the namespace.".to_owned());
    }
    lines
}
