//! A harness for tests of the binary as real processes: a cluster in a temporary directory, the commands of a user,
//! HTTP as a program speaks it, and kills.
//!
//! Read [`cluster`] first, then [`command`], [`http`] and [`files`]. Faults of the harness are faults of the test:
//! everything panics with what it saw. Architecture invariant: it uses no crate of the product, so that what it
//! finds out is what anybody could find out.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes live in real time; nothing here is replayed from a seed"
)]

pub mod cluster;
pub mod command;
pub mod files;
pub mod fills;
pub mod http;
pub mod load;
pub mod mount;
pub mod process;

pub use cluster::{Cluster, Node, Options};
pub use command::{Answer, Running};
pub use http::{Http, HttpAnswer};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The binary under test.
///
/// # Panics
/// If `DRYSTONE_BINARY` does not name it.
pub fn binary() -> PathBuf {
    let hint = "set DRYSTONE_BINARY to a built drystone, or run `cargo xtask test --only system`";
    let path = PathBuf::from(std::env::var_os("DRYSTONE_BINARY").unwrap_or_else(|| panic!("{hint}")));
    assert!(
        path.is_file(),
        "DRYSTONE_BINARY={} is not a file: {hint}",
        path.display()
    );
    path.canonicalize().expect("a file that exists has a path")
}

/// Asks again until there is an answer.
///
/// # Panics
/// If there is none after `patience`.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A number from the environment, for runs larger or smaller than usual.
///
/// # Panics
/// If it is set to something else.
pub fn setting(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => usual,
    }
}

/// The arguments of a program that takes only numbers: each flag with its number.
///
/// # Errors
/// Which flag lacks one.
pub fn numbers(words: &[String]) -> Result<Vec<(&str, u64)>, String> {
    (words.chunks(2))
        .map(|words| {
            let number = words.get(1).and_then(|text| text.parse().ok());
            let number = number.ok_or_else(|| format!("{} needs a number", words[0]))?;
            Ok((words[0].as_str(), number))
        })
        .collect()
}
