//! `cargo xtask tidy`: what the architecture forbids, checked against the manifests and the sources.

mod circles;
mod documents;
mod words;

use crate::root;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layer of every crate: a crate uses crates of lower layers only.
const LAYERS: &[(&str, u32)] = &[
    ("drystone-types", 0),
    ("drystone-env", 1),
    ("drystone-proto", 2),
    ("drystone-namespace", 3),
    ("drystone-placement", 3),
    ("drystone-identity", 3),
    ("drystone-wal", 3),
    ("drystone-rpc", 3),
    ("drystone-store", 4),
    ("drystone-raft", 4),
    ("drystone-meta", 5),
    ("drystone-chunk", 5),
    ("drystone-client", 5),
    ("drystone-gateway", 6),
    ("drystone-rest", 7),
    ("drystone-bench", 8),
    ("drystone", 9),
    ("drystone-system", 9),
    ("drystone-sim", 9),
    // It uses the harness of drystone-system.
    ("drystone-chaos", 10),
    ("drystone-turmoil", 10),
    ("xtask", 9),
];

/// Words that may not stand in the sources of these crates (tests and comments aside), and why.
const ABSENCES: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "drystone-types",
            "drystone-proto",
            "drystone-namespace",
            "drystone-placement",
            "drystone-wal",
            "drystone-store",
            "drystone-raft",
        ],
        &[
            "tokio::",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant::now",
            "SystemTime",
        ],
        "the cores know no runtime, file, socket, thread or clock",
    ),
    (
        &["drystone-env"],
        &["tokio::", "std::fs", "SystemTime", "rustix::"],
        "only drystone-env/src/os touches the system",
    ),
    (
        &["drystone-gateway", "drystone-rest"],
        &["drystone_rpc", "drystone_proto"],
        "doors use the client library, never the wire",
    ),
    (
        &["drystone-meta", "drystone-chunk"],
        &["drystone_client"],
        "servers do not depend on the client",
    ),
];

/// Crates in which no two files import each other.
const WITHOUT_CIRCLES: &[&str] = &[
    "drystone-rpc",
    "drystone-meta",
    "drystone-chunk",
    "drystone-client",
    "drystone-store",
    "drystone-gateway",
    "drystone-rest",
];

/// What was written at a time keeps the words of that time; the glossary lists the retired words.
const RECORDS: &[&str] = &[
    "CHANGELOG.md",
    "docs/proof.md",
    "docs/benchmarks/",
    "docs/glossary.md",
];

/// Checks everything and reports every fault.
pub fn run() -> anyhow::Result<()> {
    let mut faults = Vec::new();
    layers(&mut faults)?;
    planted(&mut faults)?;
    if let Err(fault) = crate::docs::check() {
        faults.push(fault.to_string());
    }
    for name in WITHOUT_CIRCLES {
        circles::check(name, &root().join("crates").join(name).join("src"), &mut faults)?;
    }
    words::check(&root(), &texts(RECORDS)?, &mut faults)?;
    documents::check(&root(), &texts(&[])?, &mut faults)?;
    for (crates, words, why) in ABSENCES {
        for name in *crates {
            for file in sources(&root().join("crates").join(name).join("src"))? {
                absences(&file, words, why, &mut faults)?;
            }
        }
    }
    if !faults.is_empty() {
        bail!("{} faults:\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("tidy: {} crates, no fault", LAYERS.len());
    Ok(())
}

/// Every source, tests too, and every document, but for `records`.
fn texts(records: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--", "crates/*.rs", "*.md"])
        .current_dir(root())
        .output()
        .context("cannot run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let is_record = |file: &&str| records.iter().any(|record| file.starts_with(record));
    let listed = String::from_utf8(output.stdout)?;
    let files = listed
        .lines()
        .filter(|file| !is_record(file))
        .map(|file| root().join(file));
    // A file may be removed and not committed yet.
    Ok(files.filter(|file| file.exists()).collect())
}

fn layers(faults: &mut Vec<String>) -> anyhow::Result<()> {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layers.get(name) else {
            faults.push(format!("{name}: give it a layer in xtask/src/tidy.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_test = dependency["kind"].as_str() == Some("dev");
            if let Some(below) = layers.get(used)
                && below >= layer
                && !is_test
            {
                faults.push(format!("{name} (layer {layer}) uses {used} (layer {below})"));
            }
        }
    }
    Ok(())
}

/// Known bugs are compiled only for who asks for them: the binary that people run does not.
fn planted(faults: &mut Vec<String>) -> anyhow::Result<()> {
    let tree = |package: &str, features: &[&str]| -> anyhow::Result<bool> {
        let output = Command::new("cargo")
            .args([
                "tree",
                "--locked",
                "--package",
                package,
                "--edges",
                "features",
                "--invert",
                "drystone-env",
            ])
            .args(features)
            .current_dir(root())
            .output()
            .context("cannot run cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).contains("drystone-env feature \"planted\""))
    };
    for package in ["drystone", "drystone-rest", "drystone-bench", "drystone-sim"] {
        if tree(package, &[])? {
            faults.push(format!("{package} is built with planted bugs"));
        }
    }
    if !tree("drystone-sim", &["--features", "planted"])? {
        faults.push("the search for planted bugs in features finds none where there are some".to_owned());
    }
    Ok(())
}

fn sources(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        // The bodies of fuzz targets are tests.
        let is_left_out = name == "fuzzed" || name == "os" && directory.ends_with("drystone-env/src");
        if path.is_dir() && !is_left_out {
            found.extend(sources(&path)?);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn absences(file: &Path, words: &[&str], why: &str, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)?;
    // Unit tests stand at the end of a file.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for word in words.iter().filter(|word| line.contains(**word)) {
            let place = file.strip_prefix(root()).unwrap_or(file).display();
            faults.push(format!("{place}:{}: {word} ({why})", number + 1));
        }
    }
    Ok(())
}
