//! `cargo xtask test`: one list of steps, each of which passes, fails or is skipped with a reason.

use crate::{licences, output, root, run, schema, sim, target, tidy};
use anyhow::{Context, bail};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Debian packages that some test needs, and the program that tells whether it is there.
const PACKAGES: &[(&str, &str)] = &[("curl", "curl"), ("python3-venv", "python3")];

/// Seeds of the simulator: ten minutes on two processors at most.
const SEEDS: &str = "4000";

/// Tests without the release binary.
const UNIT: &[&str] = &["test", "--workspace", "--locked", "--exclude", "drystone-system"];

struct Step {
    name: &'static str,
    what: fn() -> anyhow::Result<()>,
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        what: || run("cargo", &["fmt", "--all", "--check"]),
    },
    Step {
        name: "tidy",
        what: tidy::run,
    },
    Step {
        name: "licences",
        what: licences::check,
    },
    Step {
        name: "lint",
        what: || {
            run(
                "cargo",
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "-D",
                    "warnings",
                ],
            )
        },
    },
    Step {
        name: "unit",
        what: || {
            run("cargo", &[UNIT, &["--no-run"]].concat())?;
            write_back()?;
            run("cargo", &[UNIT, &["--no-fail-fast"]].concat())
        },
    },
    Step {
        name: "sim",
        what: || {
            // With what the unit tests were built of: alone the simulator is built anew, with other features.
            run("cargo", &[UNIT, &["--no-run"]].concat())?;
            sim::seeds(&["--seeds", SEEDS])
        },
    },
    Step {
        name: "release",
        what: || {
            run("cargo", &["build", "--release", "--locked", "--bin", "drystone"])?;
            write_back()
        },
    },
    Step {
        name: "system",
        what: system,
    },
    Step {
        name: "openapi",
        what: schema::run,
    },
];

/// What a build leaves in the page cache is gigabytes: a sync of a test would wait for it.
fn write_back() -> anyhow::Result<()> {
    run("sync", &[])
}

/// Real processes of the release binary.
fn system() -> anyhow::Result<()> {
    let binary = target().join("release/drystone");
    println!(
        "$ DRYSTONE_BINARY={} cargo test --package drystone-system -- --test-threads 1",
        binary.display()
    );
    let status = output::shown(
        Command::new("cargo")
            .args([
                "test",
                "--package",
                "drystone-system",
                "--locked",
                "--",
                "--test-threads",
                "1",
            ])
            .env("DRYSTONE_BINARY", &binary)
            .current_dir(root()),
    )?;
    if !status.success() {
        bail!("the system tests ended with {status}");
    }
    Ok(())
}

/// Installs missing packages; answers what is missing still, with the reason.
pub fn install() -> anyhow::Result<Vec<String>> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(package, program)| !present(package, program))
        .map(|(package, _)| *package)
        .collect();
    install_missing(&missing)
}

/// Installs these packages; answers what is missing still, with the reason.
pub fn install_missing(missing: &[&str]) -> anyhow::Result<Vec<String>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if !is_root() {
        return Ok(missing
            .iter()
            .map(|package| format!("package {package} is missing and only root can install it"))
            .collect());
    }
    run("apt-get", &["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(missing);
    run("apt-get", &arguments)?;
    Ok(Vec::new())
}

fn present(package: &str, program: &str) -> bool {
    let quiet = |command: &mut Command| {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    match package {
        // The package adds ensurepip to the interpreter that is already there.
        "python3-venv" => quiet(Command::new("python3").args(["-c", "import venv, ensurepip"])),
        _ => quiet(Command::new(program).arg("--version")),
    }
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0"))
}

/// Runs every step, then says what was skipped.
pub fn test(arguments: &[&str]) -> anyhow::Result<()> {
    let mut allow_skips = false;
    let mut only = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--allow-skips" => allow_skips = true,
            "--only" => {
                let name = *rest.next().context("--only needs the name of a step")?;
                if !STEPS.iter().any(|step| step.name == name) {
                    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
                    bail!("no step {name}: the steps are {}", names.join(", "));
                }
                only = Some(name);
            }
            other => bail!("unknown argument {other}"),
        }
    }
    let skipped = install()?;
    let mut times = Vec::new();
    for step in STEPS
        .iter()
        .filter(|step| only.is_none_or(|name| name == step.name))
    {
        if step.name == "openapi" && !skipped.is_empty() {
            continue;
        }
        println!("\n== {} ==", step.name);
        let begun = output::now();
        let result = output::watched(step.name, step.what);
        times.push((step.name, begun.elapsed(), result.is_ok()));
        if result.is_err() {
            table(&times);
        }
        result.with_context(|| format!("step {}", step.name))?;
    }
    table(&times);
    if skipped.is_empty() {
        println!("\nall steps passed, nothing was skipped");
        return Ok(());
    }
    println!("\nskipped:");
    skipped.iter().for_each(|line| println!("  {line}"));
    if allow_skips {
        return Ok(());
    }
    bail!(
        "{} things were skipped (--allow-skips accepts that)",
        skipped.len()
    )
}

/// What each step took.
fn table(times: &[(&str, Duration, bool)]) {
    println!("\n{:<10} {:>14}  result", "step", "time");
    for (name, took, passed) in times {
        let result = if *passed { "passed" } else { "FAILED" };
        println!("{name:<10} {:>14}  {result}", output::time(*took));
    }
    let all = times.iter().map(|(_, took, _)| *took).sum();
    println!("{:<10} {:>14}", "all", output::time(all));
}
