//! One process per node: who lives, who dies, who is started again.

use drystone_system::process::{self, Signal, is_alive};
use drystone_system::{Cluster, Http, Node, Options, Running};
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

fn names(nodes: &[Node], role: &str) -> Vec<String> {
    nodes
        .iter()
        .filter(|node| node.role == role)
        .map(|node| node.name.clone())
        .collect()
}

#[test]
fn nodes_outlive_up_and_only_the_dead_are_started_again() {
    let mut cluster = Cluster::start(Options::processes());
    let before = cluster.nodes();
    assert_eq!(
        names(&before, "metadata"),
        ["metadata-1", "metadata-2", "metadata-3"]
    );
    assert_eq!(
        names(&before, "chunk"),
        ["chunk-1", "chunk-2", "chunk-3", "chunk-4", "chunk-5"]
    );
    assert_eq!(names(&before, "gateway"), ["gateway"]);
    let pids: BTreeSet<u32> = before.iter().map(|node| node.pid).collect();
    assert_eq!(pids.len(), 9, "each node has a process of its own");
    for node in &before {
        let line = fs::read(format!("/proc/{}/cmdline", node.pid)).unwrap();
        let line = String::from_utf8_lossy(&line).into_owned();
        assert!(
            line.contains(&format!("{}.toml", node.name)),
            "{} is not {line}",
            node.name
        );
    }
    cluster.cli_with(&["put", "-", "/file"], b"before").ok();

    cluster.end_up(Signal::KILL);
    assert!(
        before.iter().all(|node| is_alive(node.pid)),
        "a node died with up"
    );
    assert_eq!(cluster.cli(&["cat", "/file"]).ok(), b"before");
    for name in ["chunk-2", "metadata-2"] {
        cluster.signal(name, Signal::KILL);
    }
    cluster.cli_with(&["put", "-", "/other"], b"meanwhile").ok();
    cluster.up();
    for (old, new) in before.iter().zip(cluster.nodes()) {
        assert_eq!(old.name, new.name);
        let was_killed = ["chunk-2", "metadata-2"].contains(&old.name.as_str());
        assert_eq!(
            old.pid != new.pid,
            was_killed,
            "{}: {} then {}",
            old.name,
            old.pid,
            new.pid
        );
        assert!(is_alive(new.pid));
    }
    assert_eq!(cluster.cli(&["cat", "/file", "/other"]).ok(), b"beforemeanwhile");

    assert!(cluster.end_up(Signal::INT).success());
    assert!(
        before.iter().all(|node| !is_alive(node.pid)),
        "a node outlived the end of up"
    );
    assert_eq!(process::started_on(cluster.home()), Vec::<u32>::new());
    cluster.up();
    assert_eq!(cluster.cli(&["cat", "/file", "/other"]).ok(), b"beforemeanwhile");
}

fn wait_for_line(cluster: &Cluster, line: &str) {
    drystone_system::wait_for(line, Duration::from_secs(60), || {
        fs::read_to_string(cluster.log())
            .unwrap()
            .contains(line)
            .then_some(())
    });
}

#[test]
fn a_node_that_dies_is_seen_and_missed_by_nobody() {
    let cluster = Cluster::start(Options::processes());
    cluster.signal("chunk-3", Signal::KILL);
    drystone_system::wait_for(
        "the status tells of the dead server",
        Duration::from_secs(60),
        || {
            let status = cluster.status();
            let servers = status["servers"].as_array().unwrap();
            let dead = servers.iter().find(|server| server["name"] == "chunk-3").unwrap();
            (dead["state"] != "alive").then_some(())
        },
    );
    let alive = cluster.nodes().iter().filter(|node| is_alive(node.pid)).count();
    assert_eq!(alive, 8, "nothing restarts a node behind the operator's back");
    cluster.cli_with(&["put", "-", "/file"], &vec![7; 3_000_000]).ok();
    wait_for_line(&cluster, "node chunk-3 has ended");
    let before = cluster.nodes();
    let said = cluster.revive();
    assert!(said.contains("started again: chunk-3"), "{said}");
    for (old, new) in before.iter().zip(cluster.nodes()) {
        assert_eq!(old.pid != new.pid, old.name == "chunk-3", "{}", old.name);
    }
    let said = cluster.revive();
    assert!(said.contains("nothing was to be started"), "{said}");
    drystone_system::wait_for("the server is alive again", Duration::from_secs(60), || {
        let status = cluster.status();
        status["servers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|server| server["state"] == "alive")
            .then_some(())
    });
}

#[test]
fn a_node_that_cannot_be_started_again_does_not_end_the_others() {
    let cluster = Cluster::start(Options::processes());
    let before = cluster.nodes();
    cluster.signal("chunk-3", Signal::KILL);
    wait_for_line(&cluster, "node chunk-3 has ended");
    // Neither its configuration nor the file of process ids can be written.
    let taken = ["chunk-3.toml", "pids.json"].map(|name| cluster.data().join(name));
    for path in &taken {
        let _ = fs::remove_file(path);
        fs::create_dir(path).unwrap();
    }
    let answer = Running::start(cluster.up_command()).finish();
    assert!(answer.code != Some(0), "{}", answer.stderr);
    assert!(
        answer.stderr.contains("node chunk-3 cannot be started"),
        "{}",
        answer.stderr
    );
    for node in before.iter().filter(|node| node.name != "chunk-3") {
        assert!(is_alive(node.pid), "{} has ended", node.name);
    }
    cluster.cli_with(&["put", "-", "/file"], &vec![7; 3_000_000]).ok();
    for path in &taken {
        fs::remove_dir(path).unwrap();
    }
    let said = cluster.revive();
    assert!(said.contains("started again: chunk-3"), "{said}");
    for (old, new) in before.iter().zip(cluster.nodes()) {
        assert_eq!(old.pid != new.pid, old.name == "chunk-3", "{}", old.name);
    }
}

#[test]
fn more_chunk_servers_whose_port_is_taken_do_not_keep_the_cluster_from_starting() {
    let mut cluster = Cluster::start(Options::processes());
    cluster.cli_with(&["put", "-", "/file"], b"before").ok();
    let last = cluster
        .nodes()
        .into_iter()
        .find(|node| node.name == "chunk-5")
        .unwrap();
    let wire: SocketAddr = last.rpc.parse().unwrap();
    assert!(cluster.end_up(Signal::TERM).success());
    let held = TcpListener::bind((wire.ip(), wire.port() + 1)).unwrap();
    let mut command = cluster.up_command();
    command.args(["--chunk-servers", "6"]);
    let answer = Running::start(command).finish();
    assert!(answer.stderr.contains("chunk-6"), "{}", answer.stderr);
    cluster.up();
    assert_eq!(cluster.cli(&["cat", "/file"]).ok(), b"before");
    drop(held);
}

#[test]
fn a_door_without_a_metadata_leader_is_not_ready() {
    let cluster = Cluster::start(Options::processes());
    let ready = || Http::new(&cluster.node("gateway").admin).get("/readyz").status;
    assert_eq!(ready(), 200);
    for name in ["metadata-1", "metadata-2", "metadata-3"] {
        cluster.signal(name, Signal::KILL);
    }
    assert_eq!(ready(), 503);
    cluster.revive();
    assert_eq!(ready(), 200);
}
