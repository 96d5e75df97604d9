//! One process, and what a user does every day.

use drystone_system::files::bytes;
use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, Running, binary};
use std::fs;
use std::process::Command;

#[test]
fn files_go_in_and_come_out() {
    let cluster = Cluster::start(Options::single());
    let content = bytes(1, 300_000);
    fs::write(cluster.home().join("local"), &content).unwrap();
    cluster.cli(&["put", "local", "/file"]).ok();
    assert_eq!(cluster.cli(&["cat", "/file"]).ok(), content);
    cluster.cli(&["get", "/file", "back"]).ok();
    assert_eq!(fs::read(cluster.home().join("back")).unwrap(), content);
    cluster.cli_with(&["put", "-", "/small"], b"seven b").ok();
    assert_eq!(cluster.cli(&["get", "/small", "-"]).ok(), b"seven b");
    cluster.cli_with(&["append", "/small"], b"ytes and more").ok();
    assert_eq!(
        cluster.cli(&["cat", "/small", "/small"]).ok(),
        b"seven bytes and moreseven bytes and more"
    );
    cluster.cli_with(&["put", "-", "/empty"], b"").ok();
    assert_eq!(cluster.cli(&["cat", "/empty"]).ok(), b"");

    cluster.cli(&["mkdir", "/d"]).ok();
    cluster.cli(&["mkdir", "-p", "/d/e/f"]).ok();
    cluster.cli(&["cp", "/file", "/d/e"]).ok();
    cluster.cli(&["cp", "-r", "/d", "/copy"]).ok();
    cluster.cli(&["mv", "/small", "/d/"]).ok();
    cluster.cli(&["mv", "/d/small", "/d/large"]).ok();
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "copy/\nd/\nempty\nfile\n");
    assert_eq!(cluster.cli(&["cat", "/copy/e/file"]).ok(), content);
    let found = cluster.cli(&["find", "/", "--name", "f*", "--kind", "f"]).text();
    assert_eq!(
        found.lines().collect::<Vec<_>>(),
        ["/copy/e/file", "/d/e/file", "/file"]
    );
    let large = cluster
        .cli(&["find", "/", "--kind", "f", "--min-size", "1KiB"])
        .text();
    assert_eq!(large.lines().count(), 3, "{large}");
    assert!(
        cluster
            .cli(&["du", "/d"])
            .text()
            .starts_with("300020 bytes in 2 files and 2 directories")
    );

    cluster.cli(&["rm", "/file"]).ok();
    cluster.cli(&["rm", "-r", "/copy", "/d"]).ok();
    assert_eq!(cluster.cli(&["ls", "-r", "/"]).text(), "/empty\n");
}

#[test]
fn exit_codes_tell_what_happened() {
    let mut cluster = Cluster::start(Options::single());
    cluster.cli_with(&["put", "-", "/file"], b"one").ok();
    cluster.cli(&["mkdir", "-p", "/d/e"]).ok();
    cluster.cli(&["put"]).refused(2, "required");
    cluster
        .cli(&["put", "--colour", "a", "/b"])
        .refused(2, "--colour");
    cluster.cli(&["put", ".", "/b"]).refused(2, "--recursive");
    cluster.cli(&["rm", "/"]).refused(2, "root");
    cluster.cli(&["--cluster", "ftp://x", "ls"]).refused(2, "http://");
    cluster.cli(&["mkdir", "/a/../b"]).refused(2, "..");
    for words in [
        &["cat", "/none"][..],
        &["ls", "/none"],
        &["rm", "/none"],
        &["stat", "/none"],
        &["mv", "/none", "/x"],
    ] {
        cluster.cli(words).refused(3, "/none");
    }
    cluster.cli(&["mkdir", "/a/b"]).refused(3, "/a");
    cluster.cli(&["rm", "-f", "/none"]).ok();
    for words in [
        &["mkdir", "/file"][..],
        &["mkdir", "/d"],
        &["rm", "/d"],
        &["cat", "/d"],
        &["ls", "/file/x"],
        &["cp", "/file", "/file"],
    ] {
        cluster.cli(words).refused(4, "/");
    }
    cluster
        .cli_with(&["put", "--no-overwrite", "-", "/file"], b"two")
        .refused(4, "/file");
    assert_eq!(cluster.cli(&["cat", "/file"]).ok(), b"one");
    let fault = cluster.cli(&["--json", "cat", "/none"]).refused(3, "not_found");
    let fault: serde_json::Value = serde_json::from_str(&fault.stderr).unwrap();
    assert_eq!(fault["code"], "not_found");

    let command = cluster.command(&["ls"]);
    assert!(cluster.end_up(Signal::TERM).success());
    Running::start(command).finish().refused(6, "is it up?");
}

#[test]
fn json_is_json() {
    let cluster = Cluster::start(Options::single());
    fs::write(cluster.home().join("local"), bytes(2, 2_000_000)).unwrap();
    assert_eq!(
        cluster.cli(&["--json", "put", "local", "/file"]).json()["bytes"],
        2_000_000
    );
    cluster.cli(&["mkdir", "/d"]).ok();
    let entries = cluster.cli(&["--json", "ls", "-l", "/"]).json_lines();
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry["name"].as_str().unwrap())
            .collect::<Vec<_>>(),
        ["d", "file"]
    );
    let stat = cluster.cli(&["--json", "stat", "-e", "/file"]).json();
    assert_eq!(stat["extents"][0]["replicas"].as_array().unwrap().len(), 3);
    assert_eq!(cluster.cli(&["--json", "du", "/"]).json()["files"], 1);
    assert_eq!(
        cluster.cli(&["--json", "find", "/", "--name", "fil?"]).json()["path"],
        "/file"
    );
    assert_eq!(cluster.status()["servers"].as_array().unwrap().len(), 3);
    assert_eq!(
        cluster.cli(&["--json", "admin", "servers"]).json()[0]["state"],
        "alive"
    );
    assert_eq!(
        cluster.cli(&["--json", "admin", "raft", "status"]).json()["members"][0]["voter"],
        true
    );
}

#[test]
fn what_was_acknowledged_is_there_after_every_kind_of_end() {
    let mut cluster = Cluster::start(Options::single());
    let large = bytes(3, 9_000_000);
    let mut expected: Vec<(String, Vec<u8>)> = vec![("/large".to_owned(), large)];
    let mut add = |cluster: &Cluster, round: usize| {
        for i in 0..10 {
            expected.push((
                format!("/r{round}-{i}"),
                bytes((round * 100 + i) as u64, i * i * 2_000),
            ));
        }
        let start = if round == 0 { 0 } else { expected.len() - 10 };
        for (path, content) in &expected[start..] {
            cluster.cli_with(&["put", "-", path], content).ok();
        }
        // Appended to something older: replayed once, not twice.
        let (path, content) = &mut expected[1];
        content.extend(b"more");
        cluster.cli_with(&["append", path], b"more").ok();
        expected.clone()
    };
    let check = |cluster: &Cluster, expected: &[(String, Vec<u8>)]| {
        let mut http = cluster.http();
        for (path, content) in expected {
            assert!(
                http.get(&format!("/files{path}")).expect(200) == *content,
                "{path} came back otherwise"
            );
        }
        assert_eq!(
            cluster.cli(&["--json", "du", "/"]).json()["files"],
            expected.len()
        );
    };
    let known = add(&cluster, 0);
    assert!(cluster.end_up(Signal::TERM).success());
    cluster.up();
    check(&cluster, &known);
    for round in 1..=2 {
        let known = add(&cluster, round);
        cluster.end_up(Signal::KILL);
        cluster.up();
        check(&cluster, &known);
    }
    assert!(cluster.end_up(Signal::INT).success());
    assert!(
        !cluster.data().join("cluster.json").exists(),
        "nothing runs, but cluster.json says so"
    );
}

#[test]
fn a_second_up_asks_the_first_and_takes_nothing_from_it() {
    let cluster = Cluster::start(Options::single());
    let said = Running::start(cluster.up_command()).finish().text();
    assert!(said.contains("drystone is up already"), "{said}");
    let mut other = cluster.up_command();
    other.args(["--chunk-servers", "4"]);
    Running::start(other).finish().refused(2, "--chunk-servers");
    // Another data directory on the same port.
    let mut command = Command::new(binary());
    command
        .arg("up")
        .arg("--data")
        .arg(cluster.home().join("other"))
        .args(["--listen", &cluster.listen()]);
    let answer = Running::start(command).finish();
    let port = cluster.listen();
    assert_eq!(answer.code, Some(1), "{}", answer.stderr);
    let says = answer.stderr.to_lowercase();
    assert!(
        says.contains("in use") && says.contains(&port),
        "{port} is in use: {says}"
    );
    cluster.cli(&["ls"]).ok();
}

#[test]
fn ports_are_found_if_none_is_named() {
    let cluster = Cluster::prepare(Options::single());
    let mut command = Command::new(binary());
    command
        .arg("up")
        .arg("--data")
        .arg(cluster.data())
        .args(["--listen", "127.0.0.1:0"]);
    let up = Running::start(command);
    let file = cluster.data().join("cluster.json");
    drystone_system::wait_for("it gets ready", std::time::Duration::from_secs(60), || {
        file.exists().then_some(())
    });
    assert_eq!(cluster.cli(&["ls"]).ok(), b"");
    drystone_system::process::signal(up.pid(), Signal::TERM);
    assert_eq!(up.finish().code, Some(0));
}
