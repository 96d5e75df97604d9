//! Metadata servers come and go.

use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, Running, binary, wait_for};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

fn members(cluster: &Cluster) -> Vec<Value> {
    let status = cluster.cli(&["--json", "admin", "raft", "status"]).json();
    status["members"].as_array().unwrap().clone()
}

fn member(cluster: &Cluster, node: u64) -> Option<Value> {
    members(cluster).into_iter().find(|member| member["node"] == node)
}

#[test]
fn a_wiped_follower_comes_back_under_a_new_id() {
    let cluster = Cluster::start(Options::processes());
    for i in 0..30 {
        cluster
            .http()
            .put(&format!("/files/before-{i}"), b"before")
            .expect(201);
    }
    let leader = cluster.leader();
    let nodes = cluster.nodes();
    let wiped = nodes
        .iter()
        .find(|node| node.role == "metadata" && node.name != leader)
        .unwrap();
    let old: u64 = wiped.name.rsplit('-').next().unwrap().parse().unwrap();
    cluster.signal(&wiped.name, Signal::KILL);
    fs::remove_dir_all(&wiped.data[0]).unwrap();

    // The same place in the network and on the disk, another identity.
    let config = fs::read_to_string(cluster.data().join(format!("{}.toml", wiped.name))).unwrap();
    let config = config.replace(
        &format!("metadata-node = {old}\n"),
        "metadata-node = 9\njoin = true\n",
    );
    let config = config.replace(&format!("name = \"{}\"", wiped.name), "name = \"metadata-9\"");
    let file = cluster.home().join("metadata-9.toml");
    fs::write(&file, config).unwrap();
    let run = |word: &str| {
        let mut command = Command::new(binary());
        command
            .arg(word)
            .arg("--config")
            .arg(&file)
            .env("DRYSTONE_LOG", "info");
        Running::start(command)
    };
    run("format").finish().ok();
    let mut node = run("node");
    let learner = wait_for("the new server is a learner that has caught up", PATIENCE, || {
        assert!(node.runs(), "the new server ended");
        member(&cluster, 9).filter(|member| member["matched"].as_u64().is_some_and(|matched| matched > 30))
    });
    assert_eq!(
        (
            &learner["voter"],
            member(&cluster, old).unwrap()["voter"].as_bool()
        ),
        (&Value::Bool(false), Some(true))
    );
    cluster
        .cli(&["admin", "raft", "replace", &old.to_string(), "9"])
        .ok();
    wait_for("the new server is a voter, the old one is gone", PATIENCE, || {
        let is_voter = member(&cluster, 9).is_some_and(|member| member["voter"] == true);
        (is_voter && member(&cluster, old).is_none_or(|member| member["voter"] == false)).then_some(())
    });
    println!("{:?}", members(&cluster));
    cluster.http().put("/files/with", b"with").expect(201);

    // Its vote counts: with one more server dead, two of three voters are left, and it is one of them.
    let leader = cluster.leader();
    let names: Vec<&str> = nodes
        .iter()
        .filter(|n| n.role == "metadata")
        .map(|n| n.name.as_str())
        .collect();
    let follower = names
        .into_iter()
        .find(|name| *name != leader && *name != wiped.name)
        .unwrap();
    cluster.signal(follower, Signal::KILL);
    cluster.http().put("/files/after", b"after").expect(201);
    // And it can lead.
    cluster.cli(&["admin", "raft", "transfer", "9"]).ok();
    wait_for("the new server leads", PATIENCE, || {
        (cluster.leader() == "metadata-9").then_some(())
    });
    cluster.http().put("/files/led", b"led").expect(201);
    assert_eq!(
        cluster
            .cli(&["cat", "/before-29", "/with", "/after", "/led"])
            .ok(),
        b"beforewithafterled"
    );
    assert_eq!(cluster.status()["files"], 33);
}

#[test]
fn a_chunk_server_whose_directory_is_lost_rejoins_under_a_new_id_with_format_as_node() {
    let cluster = Cluster::start(Options::processes());
    let bytes = vec![7; 3_000_000];
    cluster.cli_with(&["put", "-", "/file"], &bytes).ok();
    let lost = cluster.node("chunk-2");
    let is_alive = |node: u64| {
        let servers = cluster.cli(&["--json", "admin", "servers"]).json();
        let mut servers = servers.as_array().unwrap().iter();
        servers.any(|server| server["node"] == node && server["state"] == "alive")
    };
    assert!(is_alive(22));
    cluster.signal(&lost.name, Signal::KILL);
    fs::remove_dir_all(&lost.data[0]).unwrap();
    let file = cluster.home().join("chunk-2.toml");
    fs::copy(cluster.data().join("chunk-2.toml"), &file).unwrap();
    let start = |words: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(words)
            .arg("--config")
            .arg(&file)
            .env("DRYSTONE_LOG", "info");
        Running::start(command)
    };
    // It does not make itself anew.
    let refused = start(&["node"]).finish();
    assert!(refused.code != Some(0), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("no disk could be opened"),
        "{}",
        refused.stderr
    );
    // The cluster knows it: it is not formatted as what it was, and told of the way.
    let way = format!("drystone format --config {} --as-node ID", file.display());
    start(&["format"]).finish().refused(2, &way);
    start(&["format", "--as-node", "23"])
        .finish()
        .refused(2, "node 23 is known");
    assert!(!lost.data[0].join("identity").exists());
    // Formatted so nevertheless, while the cluster could not be asked, it is refused when it starts.
    let config = fs::read_to_string(&file).unwrap();
    let alone: String = config
        .lines()
        .map(|line| match line.starts_with("metadata = [") {
            true => "metadata = [\"127.0.0.1:1\"]\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    assert_ne!(alone, config, "it names metadata servers");
    fs::write(&file, &alone).unwrap();
    start(&["format"]).finish().ok();
    fs::write(&file, &config).unwrap();
    let refused = start(&["node"]).finish();
    assert!(refused.code != Some(0), "{}", refused.stderr);
    for part in [
        "Move them out of the way",
        "drystone format --config FILE --as-node ID",
    ] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    fs::remove_dir_all(&lost.data[0]).unwrap();
    // Ids that would be the old mistake again, or somebody else's.
    start(&["format", "--as-node", "22"])
        .finish()
        .refused(2, "--as-node 22");
    assert!(!lost.data[0].join("identity").exists());
    let said = start(&["format", "--as-node", "30"]).finish().text();
    assert!(
        said.contains("formatted") && said.contains("write chunk-node = 30"),
        "{said}"
    );
    // The configuration still says the old one.
    let refused = start(&["format"]).finish();
    assert!(
        refused.code != Some(0) && refused.stderr.contains("belongs to node 30"),
        "{}",
        refused.stderr
    );
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("chunk-node = 22\n", "chunk-node = 30\n")).unwrap();
    let mut node = start(&["node"]);
    wait_for("it is alive under its new id", PATIENCE, || {
        assert!(node.runs(), "the new server ended");
        is_alive(30).then_some(())
    });
    wait_for("what it was is found dead", PATIENCE, || {
        (!is_alive(22)).then_some(())
    });
    let listed = cluster.cli(&["admin", "servers"]).text();
    let line = |id: &str| {
        listed
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(id))
    };
    assert!(line("30").is_some_and(|line| line.contains("alive")), "{listed}");
    assert!(line("22").is_some_and(|line| !line.contains("alive")), "{listed}");
    cluster.cli(&["admin", "servers", "--remove", "22"]).ok();
    assert!(!is_alive(22));
    // The id that was removed is used up.
    let config = fs::read_to_string(&file).unwrap();
    let elsewhere = cluster.home().join("elsewhere");
    let moved = config.replace(
        &lost.data[0].display().to_string(),
        &elsewhere.display().to_string(),
    );
    assert_ne!(moved, config, "it names the directory");
    fs::write(&file, moved).unwrap();
    start(&["format", "--as-node", "22"])
        .finish()
        .refused(2, "node 22 was removed");
    assert!(!elsewhere.join("identity").exists());
    let status = cluster.cli(&["--json", "admin", "status"]).json();
    assert_eq!(status["highest_node"], 30);
    let text = cluster.cli(&["admin", "status"]).text();
    assert!(text.contains("up to 30"), "{text}");
    assert!(cluster.cli(&["cat", "/file"]).ok() == bytes);
    // It takes data: without three others no file has three replicas.
    for name in ["chunk-4", "chunk-5"] {
        cluster.signal(name, Signal::KILL);
    }
    wait_for("both are found dead", PATIENCE, || {
        (!is_alive(24) && !is_alive(25)).then_some(())
    });
    cluster.cli_with(&["put", "-", "/new"], &bytes).ok();
    let stat = cluster.cli(&["stat", "-e", "/new"]).text();
    assert!(stat.matches("chunk-2").count() == 1, "{stat}");
    assert!(cluster.cli(&["cat", "/new"]).ok() == bytes);
}
