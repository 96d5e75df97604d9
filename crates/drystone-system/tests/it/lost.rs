//! Directories of nodes that are gone: the others serve, and what is lost comes back under a new id.

use drystone_system::process::{self, Signal};
use drystone_system::{Cluster, Options, Running, wait_for};
use serde_json::Value;
use std::fs;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

pub fn server(status: &Value, node: u64) -> Option<Value> {
    let servers = status["servers"].as_array().unwrap();
    servers.iter().find(|server| server["node"] == node).cloned()
}

pub fn is_alive(cluster: &Cluster, node: u64) -> bool {
    server(&cluster.status(), node).is_some_and(|server| server["state"] == "alive")
}

#[test]
fn a_lost_chunk_server_starts_anew_by_itself_and_the_old_one_is_removed() {
    let mut cluster = Cluster::start(Options::single());
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    let lost = 21;
    assert!(is_alive(&cluster, lost));
    cluster
        .cli(&["admin", "servers", "--remove", "21"])
        .refused(4, "is alive");
    assert!(cluster.end_up(Signal::TERM).success());
    fs::remove_dir_all(cluster.data().join("chunk-1")).unwrap();
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("chunk-1: its directory is gone"), "{log}");
    assert!(log.contains("admin servers --remove 21"), "{log}");
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes, "the others have it");
    wait_for("the new server is alive, the old one is not", PATIENCE, || {
        (is_alive(&cluster, 24) && !is_alive(&cluster, lost)).then_some(())
    });
    // Something that waits for the lost one, for ever.
    cluster.cli(&["rm", "/file"]).ok();
    let text = cluster.cli(&["admin", "servers", "--remove", "21"]).text();
    assert!(text.contains("node 21 is removed"), "{text}");
    assert_eq!(server(&cluster.status(), lost), None);
    wait_for("the doomed chunk has ended", Duration::from_secs(120), || {
        let doomed = cluster.status()["chunks"]["doomed"].as_u64();
        (doomed == Some(0)).then_some(())
    });
    cluster.cli_with(&["put", "-", "/again"], &bytes).ok();
    // It is remembered: the next start changes nothing.
    assert!(cluster.end_up(Signal::TERM).success());
    cluster.up();
    wait_for("the new server is alive again", PATIENCE, || {
        is_alive(&cluster, 24).then_some(())
    });
    assert!(cluster.cli(&["cat", "/again"]).ok() == bytes);
}

#[test]
fn the_last_replica_of_something_is_not_removed_unless_the_loss_is_accepted() {
    let cluster = Cluster::start(Options {
        chunk_servers: Some(2),
        ..Options::processes()
    });
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    for name in ["chunk-1", "chunk-2"] {
        cluster.signal(name, Signal::KILL);
    }
    for node in [21, 22] {
        wait_for("the server is found dead", PATIENCE, || {
            (!is_alive(&cluster, node)).then_some(())
        });
    }
    let answer = cluster.cli(&["admin", "servers", "--remove", "21"]);
    answer.refused(4, "would be lost for ever");
    cluster.revive();
    wait_for("both are back", PATIENCE, || {
        (is_alive(&cluster, 21) && is_alive(&cluster, 22)).then_some(())
    });
    assert!(
        cluster.cli(&["cat", "/file"]).ok() == bytes,
        "a refusal has changed nothing"
    );
    cluster.signal("chunk-1", Signal::KILL);
    wait_for("the server is found dead", PATIENCE, || {
        (!is_alive(&cluster, 21)).then_some(())
    });
    let text = cluster.cli(&["admin", "servers", "--remove", "21"]).text();
    assert!(text.contains("is removed") && !text.contains("lost"), "{text}");
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
}

#[test]
fn a_lost_metadata_server_joins_under_a_new_id_and_gets_the_vote_of_the_old_one() {
    let mut cluster = Cluster::start(Options::single());
    cluster.cli_with(&["put", "-", "/file"], b"small").ok();
    assert!(cluster.end_up(Signal::TERM).success());
    fs::remove_dir_all(cluster.data().join("metadata-2")).unwrap();
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("raft replace 2 4"), "{log}");
    assert_eq!(cluster.cli(&["cat", "/file"]).ok(), b"small");
    let members = |cluster: &Cluster| {
        let raft = cluster.cli(&["--json", "admin", "raft", "status"]).json();
        let voters = raft["members"].as_array().unwrap().iter();
        let voters = voters.filter(|member| member["voter"] == true);
        voters
            .map(|member| member["node"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(members(&cluster), [1, 2, 3]);
    wait_for("the learner has caught up", PATIENCE, || {
        let answer = cluster.cli(&["admin", "raft", "replace", "2", "4"]);
        (answer.code == Some(0)).then_some(())
    });
    assert_eq!(members(&cluster), [1, 3, 4]);
    assert!(cluster.end_up(Signal::TERM).success());
    cluster.up();
    assert_eq!(members(&cluster), [1, 3, 4]);
    assert_eq!(cluster.cli(&["cat", "/file"]).ok(), b"small");
}

#[test]
fn a_directory_that_cannot_be_used_stops_its_node_only() {
    let mut cluster = Cluster::start(Options::single());
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    assert!(cluster.end_up(Signal::TERM).success());
    fs::write(cluster.data().join("chunk-2/identity"), "rot").unwrap();
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("node chunk-2 cannot start"), "{log}");
    assert!(log.contains("move it away"), "{log}");
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
    cluster.cli_with(&["put", "-", "/other"], &bytes).ok();
}

#[test]
fn disks_that_are_not_mounted_are_not_taken_for_lost_ones() {
    let mut cluster = Cluster::start(Options::single());
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    assert!(cluster.end_up(Signal::TERM).success());
    let names = ["chunk-1", "chunk-2", "chunk-3"];
    let away = cluster.data().join("away");
    fs::create_dir(&away).unwrap();
    for name in names {
        fs::rename(cluster.data().join(name), away.join(name)).unwrap();
        fs::create_dir(cluster.data().join(name)).unwrap();
    }
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    for name in names {
        let fault = format!("node {name} cannot start: 3 chunk directories");
        assert!(log.contains(&fault), "{log}");
        let mut entries = fs::read_dir(cluster.data().join(name)).unwrap();
        assert!(entries.next().is_none(), "{name} was formatted");
    }
    assert!(log.contains("--replace-lost"), "{log}");
    cluster.cli(&["ls", "/"]).ok();
    assert!(cluster.end_up(Signal::TERM).success());
    for name in names {
        fs::remove_dir(cluster.data().join(name)).unwrap();
        fs::rename(away.join(name), cluster.data().join(name)).unwrap();
    }
    cluster.up();
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
    for node in [21, 22, 23] {
        wait_for("the servers are as before", PATIENCE, || {
            is_alive(&cluster, node).then_some(())
        });
    }
}

#[test]
fn a_node_of_one_process_that_ends_is_told_of_and_comes_back_under_a_new_id_when_its_directory_is_lost() {
    let cluster = Cluster::start(Options::single());
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    // The cluster takes it for a stranger from now on: it ends.
    cluster
        .cli(&["admin", "servers", "--remove", "21", "--force"])
        .ok();
    let log = || fs::read_to_string(cluster.log()).unwrap();
    wait_for("its end is told of", PATIENCE, || {
        log().contains("node chunk-1 has ended: ").then_some(())
    });
    let line = log();
    let line = line.lines().find(|line| line.contains("has ended")).unwrap();
    assert!(
        line.contains("new id") && line.contains("`drystone up`"),
        "{line}"
    );
    // The others go on.
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
    cluster.cli_with(&["put", "-", "/other"], &bytes).ok();
    assert_eq!(log().matches("has ended").count(), 1, "it is told of once");
    // With what it has it is still a stranger.
    let answer = Running::start(cluster.up_command()).finish();
    assert!(
        answer.code != Some(0) && answer.stderr.contains("chunk-1"),
        "{}",
        answer.stderr
    );
    fs::remove_dir_all(cluster.data().join("chunk-1")).unwrap();
    let said = cluster.revive();
    assert!(
        said.contains("started again: chunk-1") && said.contains("new id, node 24"),
        "{said}"
    );
    wait_for("the new server is alive", PATIENCE, || {
        is_alive(&cluster, 24).then_some(())
    });
    // One that runs, although nothing is left of its directory.
    fs::remove_dir_all(cluster.data().join("chunk-2")).unwrap();
    let said = cluster.revive();
    assert!(
        said.contains("started again: chunk-2") && said.contains("new id, node 25"),
        "{said}"
    );
    wait_for("the new server is alive, the old one is not", PATIENCE, || {
        (is_alive(&cluster, 25) && !is_alive(&cluster, 22)).then_some(())
    });
    assert!(cluster.cli(&["cat", "/other"]).ok() == bytes);
    let said = cluster.revive();
    assert!(said.contains("nothing was to be started"), "{said}");
}

#[test]
fn processes_that_lost_their_directories_are_started_under_new_ids_by_a_second_up() {
    let cluster = Cluster::start(Options::processes());
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    let before = cluster.nodes();
    let lost = ["chunk-2", "metadata-2"];
    for name in lost {
        cluster.signal(name, Signal::KILL);
        fs::remove_dir_all(cluster.data().join(name)).unwrap();
    }
    let said = cluster.revive();
    assert!(
        said.contains("new id, node 26") && said.contains("raft replace 2 4"),
        "{said}"
    );
    for (old, new) in before.iter().zip(cluster.nodes()) {
        let was_lost = lost.contains(&old.name.as_str());
        assert_eq!(old.pid != new.pid, was_lost, "{}", old.name);
    }
    wait_for("the new server is alive, the old one is not", PATIENCE, || {
        (is_alive(&cluster, 26) && !is_alive(&cluster, 22)).then_some(())
    });
    wait_for("the learner has caught up", PATIENCE, || {
        let answer = cluster.cli(&["admin", "raft", "replace", "2", "4"]);
        (answer.code == Some(0)).then_some(())
    });
    // One that runs, although nothing is left of its directory, is ended and starts anew.
    let pid = cluster.node("chunk-3").pid;
    fs::remove_dir_all(cluster.data().join("chunk-3")).unwrap();
    let said = cluster.revive();
    assert!(said.contains("new id, node 27"), "{said}");
    assert!(!process::is_alive(pid));
    wait_for("it is alive", PATIENCE, || is_alive(&cluster, 27).then_some(()));
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
}
