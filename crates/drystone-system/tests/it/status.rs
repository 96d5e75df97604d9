//! What `admin status`, its exit code and `admin lost` say when something is wrong.

use drystone_system::files::bytes;
use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, wait_for};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

fn check(cluster: &Cluster) -> Option<i32> {
    cluster.cli(&["-q", "admin", "status", "--check"]).code
}

fn wait_for_code(cluster: &Cluster, code: i32) {
    wait_for(
        &format!("admin status --check exits with {code}"),
        PATIENCE,
        || (check(cluster) == Some(code)).then_some(()),
    );
}

#[test]
fn a_cluster_that_takes_no_writes_says_so() {
    let options = Options {
        chunk_servers: Some(1),
        ..Options::single()
    };
    let cluster = Cluster::start(options);
    wait_for_code(&cluster, 11);
    let text = cluster.cli(&["admin", "status"]).text();
    assert!(
        text.contains("NEW DATA IS REFUSED") && text.contains("2 replicas are needed"),
        "{text}"
    );
    assert!(cluster.status()["writes_refused"].is_string());
    let up = std::fs::read_to_string(cluster.log()).unwrap();
    assert!(up.contains("new data is refused"), "{up}");
}

#[test]
fn the_exit_code_and_the_list_of_lost_files_tell_what_is_gone() {
    let options = Options {
        processes: true,
        metadata: Some(1),
        chunk_servers: Some(3),
        ..Options::default()
    };
    let cluster = Cluster::start(options);
    wait_for_code(&cluster, 0);
    cluster.cli(&["mkdir", "-p", "/some/deep"]).ok();
    cluster
        .cli_with(&["put", "-", "/some/deep/file"], &bytes(3, 500_000))
        .ok();
    cluster.cli_with(&["put", "-", "/other"], &bytes(4, 300_000)).ok();
    assert!(cluster.cli(&["admin", "lost"]).text().starts_with("0 chunks"));
    cluster.signal("chunk-1", Signal::KILL);
    wait_for_code(&cluster, 12);
    for name in ["chunk-2", "chunk-3"] {
        cluster.signal(name, Signal::KILL);
    }
    wait_for("the files are listed", PATIENCE, || {
        let listed = cluster.cli(&["--json", "admin", "lost"]).json_lines();
        (listed.len() == 2).then_some(())
    });
    let listed = cluster.cli(&["--json", "admin", "lost"]).json_lines();
    let mut paths: Vec<&str> = listed.iter().map(|line| line["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/other", "/some/deep/file"]);
    assert_eq!(listed[0]["servers"].as_array().unwrap().len(), 3);
    wait_for_code(&cluster, 10);
    let text = cluster.cli(&["admin", "lost"]).text();
    assert!(
        text.contains("/some/deep/file  chunk") && text.contains("2 chunks with"),
        "{text}"
    );
    cluster.revive();
    wait_for_code(&cluster, 0);
    assert!(cluster.cli(&["admin", "lost"]).text().starts_with("0 chunks"));
}
