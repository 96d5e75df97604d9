//! Many files, fast: the measuring program of the binary as load.

use crate::{Cluster, Running, wait_for};
use std::time::Duration;

/// Until a tree is made: 10 million files at some 10,000/s.
const PATIENCE: Duration = Duration::from_secs(1_000);

/// Files of the cluster, as its status counts them.
///
/// # Panics
/// If there is no answer.
#[track_caller]
pub fn files(cluster: &Cluster) -> u64 {
    cluster.status()["files"].as_u64().expect("status counts files")
}

/// Begins to create up to `count` empty files in `path`, which must not exist, by so many clients. They stay when it is
/// killed.
pub fn create(cluster: &Cluster, path: &str, clients: u64, count: u64) -> Running {
    let (clients, count) = (clients.to_string(), count.to_string());
    cluster.begin(&[
        "bench",
        "metadata",
        "--clients",
        &clients,
        "--count",
        &count,
        "--keep",
        "--path",
        path,
    ])
}

/// Makes a tree of `count` files. The look-ups and listings that the measuring program would make afterwards are not
/// waited for.
///
/// # Panics
/// If it takes too long.
#[track_caller]
pub fn make_tree(cluster: &Cluster, path: &str, count: u64) {
    let goal = files(cluster) + count;
    let mut making = create(cluster, path, 256, count);
    wait_for("a tree is made", PATIENCE, || {
        (files(cluster) >= goal).then_some(())
    });
    making.kill();
}
