//! The rules of `deny.toml` on licences and sources, over what `cargo metadata` says of every dependency.
//!
//! `cargo deny check` does the same and more (advisories, for which it needs its data base from the internet); this
//! runs with every test and needs nothing installed.

use crate::root;
use anyhow::{Context, bail};
use serde::Deserialize;
use spdx::{Expression, ParseMode};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Where every dependency comes from, unless it is a crate of this workspace.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

/// Checks every dependency and reports every fault.
pub fn check() -> anyhow::Result<()> {
    let text = fs::read_to_string(root().join("deny.toml")).context("cannot read deny.toml")?;
    let policy: Policy = toml::from_str(&text).context("deny.toml")?;
    let mut faults = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for target in &policy.graph.targets {
        for package in packages(target)? {
            let text = |field: &str| package[field].as_str().unwrap_or_default();
            let name = format!("{} {}", text("name"), text("version"));
            if let Err(fault) = judge(
                &policy.licenses.allow,
                text("license"),
                package["source"].as_str(),
            ) {
                faults.insert(format!("{name}: {fault}"));
            }
            seen.insert(name);
        }
    }
    if seen.is_empty() {
        bail!("cargo metadata names no package");
    }
    if !faults.is_empty() {
        let faults: Vec<String> = faults.into_iter().collect();
        bail!(
            "{} dependencies break deny.toml:\n  {}",
            faults.len(),
            faults.join("\n  ")
        );
    }
    println!("licences: {} packages, no fault", seen.len());
    Ok(())
}

fn packages(target: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let output = Command::new("cargo")
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            target,
        ])
        .current_dir(root())
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    // `packages` names what other platforms need, too; `resolve` only what this one does.
    let used: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .context("cargo metadata has no nodes")?
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let is_used = |package: &&serde_json::Value| package["id"].as_str().is_some_and(|id| used.contains(id));
    Ok(packages.iter().filter(is_used).cloned().collect())
}

/// What is wrong with one package.
fn judge(allowed: &BTreeSet<String>, licence: &str, source: Option<&str>) -> Result<(), String> {
    if let Some(source) = source.filter(|source| *source != REGISTRY) {
        return Err(format!("comes from {source}"));
    }
    if licence.is_empty() {
        return Err("names no licence".to_owned());
    }
    let expression = Expression::parse_mode(licence, ParseMode::LAX).map_err(|error| error.to_string())?;
    if expression.evaluate(|needed| allowed.contains(&needed.to_string())) {
        return Ok(());
    }
    Err(format!("licence {licence} is not allowed"))
}

#[cfg(test)]
mod tests {
    use super::{REGISTRY, judge};
    use std::collections::BTreeSet;

    #[test]
    fn licences_and_sources_are_judged() {
        let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()]);
        let judge = |licence, source| judge(&allowed, licence, source);
        assert_eq!(judge("MIT OR GPL-3.0-only", Some(REGISTRY)), Ok(()));
        assert_eq!(judge("MIT/Apache-2.0", Some(REGISTRY)), Ok(()));
        assert_eq!(judge("Apache-2.0 WITH LLVM-exception", None), Ok(()));
        assert!(judge("MIT AND GPL-3.0-only", Some(REGISTRY)).is_err());
        assert!(judge("Apache-2.0", Some(REGISTRY)).is_err());
        assert!(judge("", None).is_err());
        assert!(judge("MIT", Some("git+https://example.org/x")).is_err());
    }
}
