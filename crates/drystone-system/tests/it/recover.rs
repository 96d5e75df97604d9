//! A lone metadata server whose store or log is damaged.

use drystone_system::cluster::clean;
use drystone_system::command::{Answer, Running};
use drystone_system::files::bytes;
use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, binary, wait_for};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn metadata(cluster: &Cluster) -> PathBuf {
    cluster.data().join("metadata-1")
}

/// The newest export's name; empty if there is none.
fn newest_export(cluster: &Cluster) -> String {
    let entries = fs::read_dir(metadata(cluster).join("exports"))
        .into_iter()
        .flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| name.ends_with(".export"))
        .max()
        .unwrap_or_default()
}

/// Makes directories until the state is exported once more.
fn work_until_exported(cluster: &Cluster, name: &str) {
    let (before, mut http) = (newest_export(cluster), cluster.http());
    let mut number = 0;
    wait_for("the state is exported", PATIENCE, || {
        for _ in 0..20 {
            number += 1;
            http.ask("POST", &format!("/directories/{name}-{number}"), &[], b"")
                .expect(201);
        }
        (newest_export(cluster) != before).then_some(())
    });
}

fn files(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.sync_all().unwrap();
    println!("flipped a bit of {} at {at}", path.display());
}

/// The largest table of the store.
fn damage_store(cluster: &Cluster) {
    let mut all = Vec::new();
    files(&metadata(cluster).join("state"), &mut all);
    let tables = all
        .into_iter()
        .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("1/tables")));
    let table = tables
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    flip(&table, fs::metadata(&table).unwrap().len() / 2);
}

/// The log's record that holds `text`.
fn damage_log(cluster: &Cluster, text: &str) {
    let mut all = Vec::new();
    files(&metadata(cluster).join("log"), &mut all);
    for path in all {
        let log = fs::read(&path).unwrap();
        if let Some(at) = log
            .windows(text.len())
            .position(|window| window == text.as_bytes())
        {
            return flip(&path, at as u64);
        }
    }
    panic!("{text} is not in the log");
}

fn run(words: &[&str], cluster: &Cluster) -> Answer {
    let mut command = clean(Command::new(binary()));
    command.args(words).current_dir(cluster.home());
    Running::start(command).finish()
}

fn recover(cluster: &Cluster, more: &[&str]) -> Answer {
    let data = cluster.data();
    let words = [&["admin", "recover", "--data", data.to_str().unwrap()], more].concat();
    run(&words, cluster)
}

#[test]
fn a_damaged_store_is_rebuilt_from_an_export_and_the_log() {
    let mut cluster = Cluster::start(Options::lone());
    let content = bytes(41, 3 << 20);
    cluster.cli_with(&["put", "-", "/before"], &content).ok();
    work_until_exported(&cluster, "a");
    cluster.cli_with(&["put", "-", "/after"], &content).ok();
    let listed = cluster.cli(&["ls", "/"]).text();
    cluster.end_up(Signal::TERM);
    damage_store(&cluster);
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("the state is rebuilt from an export"), "{log}");
    assert_eq!(cluster.cli(&["ls", "/"]).text(), listed);
    assert!(cluster.cli(&["cat", "/before"]).ok() == content);
    assert!(cluster.cli(&["cat", "/after"]).ok() == content);
    // Nothing of it is left to the next start.
    cluster.end_up(Signal::TERM);
    recover(&cluster, &[]).refused(2, "nothing is to be recovered");
    cluster.up();
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(!log.contains("rebuilt"), "{log}");
}

#[test]
fn a_damaged_log_is_refused_and_what_is_left_is_recovered_in_a_new_history() {
    let mut cluster = Cluster::start(Options::lone());
    let content = bytes(42, 3 << 20);
    cluster.cli_with(&["put", "-", "/before"], &content).ok();
    work_until_exported(&cluster, "a");
    for number in 0..40 {
        let path = format!("/directories/late-{number:02}");
        cluster.http().ask("POST", &path, &[], b"").expect(201);
    }
    cluster.cli_with(&["put", "-", "/lost"], &content).ok();
    recover(&cluster, &["--dry-run"]).refused(1, "stop the cluster");
    cluster.end_up(Signal::TERM);
    damage_store(&cluster);
    damage_log(&cluster, "late-20");

    let planned = recover(&cluster, &["--dry-run"]).text();
    println!("{planned}");
    assert!(planned.contains("would be restored") && planned.contains("would be lost"));
    assert!(planned.contains("from the export of index"), "{planned}");
    let refused = Running::start(cluster.up_command()).finish();
    let refused = refused.refused(1, "admin recover --data");
    assert!(refused.stderr.contains("damaged"), "{}", refused.stderr);

    let done = recover(&cluster, &[]).text();
    println!("{done}");
    let lost = done.lines().find(|line| line.starts_with("lost: ")).unwrap();
    let number: u64 = lost.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((21..200).contains(&number), "{lost}");
    assert!(done.contains("records from number"), "{done}");

    cluster.up();
    assert!(cluster.cli(&["cat", "/before"]).ok() == content);
    let listed = cluster.cli(&["ls", "/"]).text();
    assert!(
        listed.contains("late-19") && !listed.contains("late-20"),
        "{listed}"
    );
    cluster.cli(&["cat", "/lost"]).refused(3, "");
    let warnings = |cluster: &Cluster| cluster.status()["warnings"].to_string();
    assert!(warnings(&cluster).contains("release-deletion"));
    cluster.cli(&["admin", "release-deletion"]).ok();
    assert!(!warnings(&cluster).contains("release-deletion"));
    // It goes on, also through the next start.
    cluster.cli_with(&["put", "-", "/lost"], &content).ok();
    cluster.end_up(Signal::TERM);
    cluster.up();
    assert!(cluster.cli(&["cat", "/lost"]).ok() == content);
    assert!(cluster.cli(&["cat", "/before"]).ok() == content);
    let old = fs::read_dir(metadata(&cluster)).unwrap();
    let old = old.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    assert_eq!(old.filter(|name| name.starts_with("before-")).count(), 1);
}

#[test]
fn a_good_store_makes_up_for_a_damaged_log() {
    let mut cluster = Cluster::start(Options::lone());
    let content = bytes(43, 3 << 20);
    cluster.cli_with(&["put", "-", "/file"], &content).ok();
    for number in 0..10 {
        let path = format!("/directories/some-{number}");
        cluster.http().ask("POST", &path, &[], b"").expect(201);
    }
    cluster.end_up(Signal::TERM);
    damage_log(&cluster, "some-5");
    let done = recover(&cluster, &["--json"]).json();
    assert_eq!(done["lost"]["entries"], 0, "{done}");
    assert_eq!(done["base"], "the state store", "{done}");
    cluster.up();
    let listed = cluster.cli(&["ls", "/"]).text();
    assert!(
        (0..10).all(|number| listed.contains(&format!("some-{number}"))),
        "{listed}"
    );
    assert!(cluster.cli(&["cat", "/file"]).ok() == content);
}

#[test]
fn chunk_servers_elsewhere_are_taken_along_by_hand() {
    let options = Options {
        processes: true,
        metadata: Some(1),
        chunk_servers: Some(3),
        ..Options::default()
    };
    let mut cluster = Cluster::start(options);
    let content = bytes(44, 3 << 20);
    cluster.cli_with(&["put", "-", "/file"], &content).ok();
    cluster.cli(&["mkdir", "/here"]).ok();
    let chunk_servers = cluster.chunk_servers();
    cluster.end_up(Signal::TERM);
    damage_log(&cluster, "here");
    // As if nothing else of the cluster were on this machine.
    let directory = metadata(&cluster);
    let words = ["admin", "recover", "--data", directory.to_str().unwrap()];
    let done = run(&words, &cluster).text();
    let history = done
        .lines()
        .find_map(|line| line.strip_prefix("new history: "))
        .unwrap();
    let refused = Running::start(cluster.up_command()).finish();
    refused.refused(1, "drystone admin adopt");
    let mut words = vec!["admin".to_owned(), "adopt".to_owned(), history.to_owned()];
    words.push(cluster.data().join("cluster.secret").display().to_string());
    words.extend(
        chunk_servers
            .iter()
            .map(|node| node.data[0].display().to_string()),
    );
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&words, &cluster).ok();
    cluster.up();
    assert!(cluster.cli(&["cat", "/file"]).ok() == content);
    assert!(cluster.cli(&["ls", "/"]).text().contains("here"));
}
