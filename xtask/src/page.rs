//! `cargo xtask page NAME COMMAND...`: runs a command and writes what it printed to `docs/benchmarks/NAME.md`, with the
//! command, the machine and the commit.
//!
//! What people write stands under "What it says" and is kept when the page is made anew; the rest is the command's.

use crate::{output, root};
use anyhow::{Context, bail};
use std::fs;
use std::process::{Command, Stdio};

const SAYS: &str = "## What it says";
const MEASURED: &str = "## Measured";

/// Makes a page.
pub fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let [name, program, words @ ..] = arguments else {
        bail!("usage: cargo xtask page NAME COMMAND...");
    };
    if name.is_empty()
        || !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        bail!("{name:?}: letters, digits and hyphens, as in 0003-failover");
    }
    let path = root().join("docs/benchmarks").join(format!("{name}.md"));
    let commit = text("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = text("git", &["status", "--porcelain", "--untracked-files=no"])?;
    let mut command = Command::new(program);
    command.args(words).current_dir(root()).stderr(Stdio::inherit());
    let done = output::watched(name, || command.output()).with_context(|| format!("cannot run {program}"))?;
    if !done.status.success() {
        bail!("{program} ended with {}", done.status);
    }
    let printed = String::from_utf8_lossy(&done.stdout);
    println!("{printed}");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let page = page(
        &before,
        name,
        &Facts {
            command: arguments[1..].join(" "),
            machine: machine(),
            commit: commit.trim().to_owned()
                + if changed.trim().is_empty() {
                    ""
                } else {
                    ", changed"
                },
        },
        &printed,
    );
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

struct Facts {
    command: String,
    machine: String,
    commit: String,
}

/// The page, with title and prose of the one before.
fn page(before: &str, name: &str, facts: &Facts, printed: &str) -> String {
    let title = before.lines().find_map(|line| line.strip_prefix("# "));
    let says = before
        .split_once(SAYS)
        .map(|(_, rest)| rest.split_once(MEASURED).map_or(rest, |(says, _)| says));
    format!(
        "# {}\n\n- Command: `cargo xtask page {name} {}`\n- Machine: {}\n- Commit: {}\n\n{SAYS}\n{}\n\n{MEASURED}\n```\n{}\n```\n",
        title.unwrap_or(name),
        facts.command,
        facts.machine,
        facts.commit,
        says.unwrap_or("Not written yet.").trim(),
        printed.trim()
    )
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let processors = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("processors", |(_, model)| model.trim());
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<u64>()
            .ok()
    });
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{processors} x {model}, {} GiB, Linux {}",
        kib.unwrap_or_default() >> 20,
        kernel.trim()
    )
}

fn text(program: &str, words: &[&str]) -> anyhow::Result<String> {
    let done = Command::new(program).args(words).current_dir(root()).output()?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_made_anew_keeps_title_and_prose() {
        let facts = |commit: &str| Facts {
            command: "true".to_owned(),
            machine: "m".to_owned(),
            commit: commit.to_owned(),
        };
        let first = page("", "0009-x", &facts("a"), "1\n");
        assert!(first.starts_with("# 0009-x\n"), "{first}");
        let edited = first
            .replace("# 0009-x", "# Failover")
            .replace("Not written yet.", "It is fast.");
        let second = page(&edited, "0009-x", &facts("b"), "2\n");
        assert!(
            second.starts_with("# Failover\n")
                && second.contains("It is fast.\n\n## Measured\n```\n2\n```\n"),
            "{second}"
        );
        assert_eq!(second, page(&second, "0009-x", &facts("b"), "2\n"));
    }
}
