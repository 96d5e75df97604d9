//! `cargo xtask fuzz`: runs the fuzz targets, each for a while, beginning with the seeds in `fuzz/corpus`.
//!
//! What the fuzzer adds stays under the target directory and helps the next run; `fuzz/corpus` is changed by hand
//! only, when a finding becomes a seed.

use crate::{root, run, target};
use anyhow::{Context, bail};
use std::process::{Command, Stdio};

/// A fuzz target and its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Target {
    name: &'static str,
    /// Longest input: a longer one finds nothing that a shorter one does not.
    longest: u32,
    /// No single allocation may be larger, in MiB: a length that the input claims must not be believed before the
    /// bytes are there. It is small where memory follows from the input alone, and the size of a pool or of a segment
    /// elsewhere.
    allocation: u32,
}

const fn target_of(name: &'static str, longest: u32, allocation: u32) -> Target {
    Target {
        name,
        longest,
        allocation,
    }
}

const TARGETS: &[Target] = &[
    target_of("frame", 16 << 10, 2),
    target_of("messages", 4 << 10, 1),
    target_of("commands", 4 << 10, 1),
    target_of("raft-messages", 512, 5),
    target_of("raft-records", 2 << 10, 5),
    target_of("raft-log", 512, 5),
    target_of("wal", 512, 5),
    target_of("snapshot", 8 << 10, 1),
    target_of("export", 512, 5),
    target_of("store", 512, 5),
    target_of("identity", 512, 1),
    target_of("path", 4200, 1),
    target_of("rest", 1 << 10, 1),
    target_of("node", 2 << 10, 1),
    target_of("config", 64, 1),
];

struct Options {
    minutes: u64,
    targets: Vec<Target>,
}

fn options(arguments: &[&str]) -> anyhow::Result<Options> {
    let (mut minutes, mut targets) = (1, TARGETS.to_vec());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().with_context(|| format!("{argument} needs a value"))?;
        match *argument {
            "--minutes" => {
                minutes = value
                    .parse()
                    .ok()
                    .filter(|minutes| (1..=1 << 20).contains(minutes))
                    .with_context(|| format!("--minutes takes a whole number of 1 or more, not {value}"))?;
            }
            "--target" => {
                targets.retain(|target| target.name == *value);
                if targets.is_empty() {
                    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                    bail!("no target {value}: the targets are {}", names.join(", "));
                }
            }
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(Options { minutes, targets })
}

/// Runs the targets one after another, all of them even if one finds something.
pub fn fuzz(arguments: &[&str]) -> anyhow::Result<()> {
    let options = options(arguments)?;
    if !quiet(Command::new("cargo").args(["fuzz", "--version"])) {
        println!("cargo-fuzz is missing and is installed now");
        run("cargo", &["install", "cargo-fuzz", "--locked"])?;
    }
    let nightly = quiet(Command::new("cargo").args(["+nightly", "--version"]));
    println!(
        "compiler: {}",
        if nightly {
            "nightly"
        } else {
            "the default one with RUSTC_BOOTSTRAP=1, for there is no nightly"
        }
    );
    let mut found = Vec::new();
    for target in &options.targets {
        println!("\n== {}, {} min ==", target.name, options.minutes);
        if !one(target, options.minutes, nightly)? {
            found.push(target.name);
        }
    }
    if found.is_empty() {
        println!("\nno target found anything");
        return Ok(());
    }
    bail!(
        "these targets failed: {}. An input that fails lies in fuzz/artifacts/TARGET: copy it to \
         fuzz/corpus/TARGET under a name that says what it is, and `cargo test` of the crate fails until it is mended",
        found.join(", ")
    )
}

/// True if the target ran through.
fn one(fuzzed: &Target, minutes: u64, nightly: bool) -> anyhow::Result<bool> {
    let name = fuzzed.name;
    let grown = target().join("fuzz-corpus").join(name);
    std::fs::create_dir_all(&grown).with_context(|| grown.display().to_string())?;
    let mut command = Command::new("cargo");
    if nightly {
        command.arg("+nightly");
    } else {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command
        .args(["fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"])
        .arg(target().join("fuzz"))
        .arg(name)
        .arg(&grown)
        .arg(format!("fuzz/corpus/{name}"))
        .arg("--")
        .arg(format!("-dict=fuzz/dictionaries/{name}.dict"))
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-max_len={}", fuzzed.longest))
        .arg(format!("-malloc_limit_mb={}", fuzzed.allocation))
        // The scripts of several changes, and the frames with a payload, are long from the start.
        .arg("-len_control=1")
        // A slow input is a finding as well.
        .args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"])
        // Reading the debug information for a trace would exceed the bound of an allocation and hide the finding.
        .env("RUST_BACKTRACE", "0")
        // What a target keeps to its end, as the server that the one of REST is connected to, is no finding.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .current_dir(root());
    println!("$ {command:?}");
    Ok(command.status().context("cannot start cargo")?.success())
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_file_its_seeds_and_its_dictionary() {
        for Target { name, .. } in TARGETS {
            assert!(
                root().join(format!("fuzz/fuzz_targets/{name}.rs")).is_file(),
                "{name}"
            );
            assert!(root().join(format!("fuzz/corpus/{name}")).is_dir(), "{name}");
            assert!(
                root().join(format!("fuzz/dictionaries/{name}.dict")).is_file(),
                "{name}"
            );
        }
        let files = std::fs::read_dir(root().join("fuzz/fuzz_targets")).expect("the targets");
        assert_eq!(files.count(), TARGETS.len());
    }

    #[test]
    fn arguments_are_checked() {
        let all = options(&[]).expect("no arguments are needed");
        assert_eq!((all.minutes, all.targets.len()), (1, TARGETS.len()));
        let one = options(&["--target", "wal", "--minutes", "30"]).expect("valid arguments");
        assert_eq!((one.minutes, one.targets), (30, vec![target_of("wal", 512, 5)]));
        for bad in [
            &["--minutes", "0"][..],
            &["--minutes"],
            &["--target", "x"],
            &["x", "y"],
        ] {
            assert!(options(bad).is_err(), "{bad:?}");
        }
    }
}
