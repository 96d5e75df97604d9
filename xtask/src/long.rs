//! `cargo xtask soak`, `failover`, `learner`, `disk-use` and `bench`: long runs of real processes; builds what is needed and runs a program
//! of drystone-system on the release binary.

use crate::{output, root, target};
use anyhow::bail;
use std::process::Command;

/// Passes the arguments on to `drystone-NAME`.
pub fn run(name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    crate::run("cargo", &["build", "--release", "--locked", "--bin", "drystone"])?;
    crate::run("cargo", &["build", "--locked", "--package", "drystone-system"])?;
    let mut command = Command::new(target().join(format!("debug/drystone-{name}")));
    command
        .args(arguments)
        .env("DRYSTONE_BINARY", target().join("release/drystone"))
        .current_dir(root());
    let status = output::watched(name, || output::shown(&mut command))?;
    if !status.success() {
        bail!("drystone-{name} ended with {status}");
    }
    Ok(())
}
