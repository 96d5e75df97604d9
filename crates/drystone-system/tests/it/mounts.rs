//! Directories on mounts of their own: a mount that does not answer, a disk that is not mounted.

use crate::lost::{is_alive, server};
use drystone_system::mount::{Silent, Volume, can_mount, mount_point};
use drystone_system::process::Signal;
use drystone_system::{Cluster, Http, Options, Running, binary, wait_for};
use std::fs;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn a_mount_that_does_not_answer(options: Options) {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::start(options);
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    assert!(cluster.end_up(Signal::TERM).success());
    // A chunk server, and a metadata server, which are looked at before others.
    let names = ["metadata-1", "chunk-2"];
    let path = |cluster: &Cluster, name: &str| cluster.data().join(name);
    for name in names {
        fs::rename(path(&cluster, name), cluster.home().join(name)).unwrap();
    }
    let silent = names.map(|name| Silent::make(&mount_point(&path(&cluster, name))).unwrap());
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    for name in names {
        let place = path(&cluster, name).display().to_string();
        assert!(
            log.contains(&format!("node {name} cannot start: {place} does not answer")),
            "{log}"
        );
    }
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
    cluster.cli_with(&["put", "-", "/other"], &bytes).ok();
    drop(silent);
    for name in names {
        fs::remove_dir(path(&cluster, name)).unwrap();
        fs::rename(cluster.home().join(name), path(&cluster, name)).unwrap();
    }
    let said = cluster.revive();
    assert!(said.contains("metadata-1") && said.contains("chunk-2"), "{said}");
    wait_for("the server is as before", PATIENCE, || {
        is_alive(&cluster, 22).then_some(())
    });
    assert!(cluster.cli(&["cat", "/other"]).ok() == bytes);
}

#[test]
fn a_mount_that_does_not_answer_holds_up_nobody() {
    a_mount_that_does_not_answer(Options::single());
}

#[test]
fn a_mount_that_does_not_answer_holds_up_no_process() {
    a_mount_that_does_not_answer(Options::processes());
}

#[test]
fn a_disk_of_several_that_does_not_answer_is_left_out() {
    if !can_mount() {
        return;
    }
    let cluster = Cluster::start(Options::processes());
    let (server_2, second) = (cluster.node("chunk-2"), cluster.home().join("second"));
    cluster.signal("chunk-2", Signal::KILL);
    let file = cluster.home().join("chunk-2.toml");
    let config = fs::read_to_string(cluster.data().join("chunk-2.toml")).unwrap();
    let first = server_2.data[0].display().to_string();
    let two = format!("\"{}\",\"{first}\"", second.display());
    fs::write(
        &file,
        config.replace(&format!("[\"{first}\"]"), &format!("[{two}]")),
    )
    .unwrap();
    let start = |word: &str| {
        let mut command = Command::new(binary());
        command.arg(word).arg("--config").arg(&file);
        Running::start(command)
    };
    let said = start("format").finish().text();
    assert!(said.contains("second") && !said.contains(&first), "{said}");
    let disks = || {
        let answer = Http::new(&server_2.admin).try_ask("GET", "/metrics", &[], 0, &mut &b""[..]);
        let text = String::from_utf8(answer.ok()?.body).unwrap();
        let is_disk = |line: &&str| line.starts_with("drystone_chunk_disk_free_bytes{");
        is_alive(&cluster, 22).then(|| text.lines().filter(is_disk).count())
    };
    let mut node = start("node");
    wait_for("it serves both", PATIENCE, || (disks() == Some(2)).then_some(()));
    node.kill();
    assert_eq!(node.finish().code, None);
    wait_for("it is found dead", PATIENCE, || disks().is_none().then_some(()));
    fs::rename(&second, cluster.home().join("away")).unwrap();
    let silent = Silent::make(&mount_point(&second)).unwrap();
    let mut node = start("node");
    wait_for("it serves the one", PATIENCE, || {
        (disks() == Some(1)).then_some(())
    });
    node.kill();
    let said = node.finish().stderr;
    drop(silent);
    assert!(
        said.contains("a disk is left out") && said.contains("does not answer"),
        "{said}"
    );
}

#[test]
fn a_disk_that_is_not_mounted_is_waited_for_and_not_replaced() {
    if !can_mount() {
        return;
    }
    let mut cluster = Cluster::prepare(Options::single());
    let place = mount_point(&cluster.data().join("chunk-1"));
    let disk = Volume::make(1 << 30, &place).unwrap();
    cluster.up();
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    assert!(cluster.end_up(Signal::TERM).success());
    disk.unmount();
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("node chunk-1 cannot start"), "{log}");
    assert!(
        log.contains("not mounted now") && log.contains("--replace-lost"),
        "{log}"
    );
    assert!(
        fs::read_dir(&place).unwrap().next().is_none(),
        "it was formatted beneath the mount"
    );
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
    disk.mount();
    let said = cluster.revive();
    assert!(said.contains("started again: chunk-1"), "{said}");
    wait_for("the server is as before", PATIENCE, || {
        is_alive(&cluster, 21).then_some(())
    });
    assert_eq!(server(&cluster.status(), 24), None);
    // The operator knows better.
    assert!(cluster.end_up(Signal::TERM).success());
    disk.unmount();
    cluster.up_with(&["--replace-lost"]);
    wait_for("it starts anew", PATIENCE, || {
        is_alive(&cluster, 24).then_some(())
    });
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
}
