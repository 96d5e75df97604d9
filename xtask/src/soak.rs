//! `cargo xtask soak`: builds what is needed and runs drystone-soak on the release binary.

use crate::{output, root, target};
use anyhow::bail;
use std::process::Command;

/// Passes its arguments on.
pub fn run(arguments: &[&str]) -> anyhow::Result<()> {
    crate::run("cargo", &["build", "--release", "--locked", "--bin", "drystone"])?;
    crate::run("cargo", &["build", "--locked", "--package", "drystone-system"])?;
    let soak = target().join("debug/drystone-soak");
    let mut command = Command::new(soak);
    command
        .args(arguments)
        .env("DRYSTONE_BINARY", target().join("release/drystone"))
        .current_dir(root());
    let status = output::watched("soak", || output::shown(&mut command))?;
    if !status.success() {
        bail!("the soak ended with {status}");
    }
    Ok(())
}
