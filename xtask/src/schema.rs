//! `cargo xtask openapi`: schemathesis (PyPI) against the REST door of a cluster started for it.

use crate::{root, run as command, target};
use anyhow::{Context, bail};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The version that the checks were written against.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// What it was tried with: a newer one has broken an older schemathesis before.
const HYPOTHESIS: &str = "hypothesis==6.170.15";

struct Cluster {
    child: Child,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended already; the directory is temporary either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Installs schemathesis into the target directory, starts a cluster and runs the checks.
fn checks(rest: &str) -> anyhow::Result<()> {
    let environment = target().join("schemathesis");
    let program = environment.join("bin/schemathesis");
    if !program.exists() {
        let path = environment.display().to_string();
        command("python3", &["-m", "venv", &path])?;
        command(
            &environment.join("bin/pip").display().to_string(),
            &["install", "--quiet", SCHEMATHESIS, HYPOTHESIS],
        )?;
    }
    command(
        &program.display().to_string(),
        &[
            "--config-file",
            "xtask/schemathesis.toml",
            "run",
            &format!("{rest}/openapi.json"),
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "20",
            "--seed",
            "1",
            "--workers",
            "1",
            "--request-timeout",
            "30",
        ],
    )
}

/// The whole step.
pub fn run() -> anyhow::Result<()> {
    let binary = target().join("release/drystone");
    if !binary.exists() {
        command("cargo", &["build", "--release", "--locked", "--bin", "drystone"])?;
    }
    let data = target().join("openapi-cluster");
    if data.exists() {
        fs::remove_dir_all(&data).context("cannot clear the old cluster")?;
    }
    let child = Command::new(&binary)
        .args([
            "up",
            "--data",
            &data.display().to_string(),
            "--listen",
            "127.0.0.1:0",
        ])
        .current_dir(root())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the cluster")?;
    let mut cluster = Cluster { child };
    let rest = wait_for_address(&data.join("cluster.json"), &mut cluster)?;
    checks(&rest)
}

fn wait_for_address(file: &Path, cluster: &mut Cluster) -> anyhow::Result<String> {
    for _ in 0..600 {
        if let Ok(text) = fs::read_to_string(file) {
            let value: serde_json::Value = serde_json::from_str(&text)?;
            return Ok(value["rest"]
                .as_str()
                .context("cluster.json names no REST address")?
                .to_owned());
        }
        if let Some(status) = cluster.child.try_wait()? {
            bail!("the cluster ended with {status}");
        }
        #[allow(clippy::disallowed_methods, reason = "a chore, not a node")]
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the cluster was not ready in a minute")
}
