//! What happens in a cycle of life.

use crate::crowd::Crowd;
use crate::ledger::{Ledger, Sizes};
use crate::progress::Progress;
use crate::watch::{Usage, Watch};
use drystone_system::mount::{Volume, mount_point};
use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, wait_for};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// What is written in a cycle, as a part of the disk: three replicas, two fills, and small files that take 64 KiB each.
const FILL_PART: u64 = 80;
/// Until deleted chunks are gone from every server.
const PATIENCE: Duration = Duration::from_secs(300);
/// Failures after which a fill that a server was killed in gives up.
const GIVE_UP: u64 = 400;

/// What is left of a cycle when everything was deleted.
#[derive(Clone, Copy, Debug)]
struct Rest {
    usage: Usage,
    disk: u64,
}

/// Lives for `time` on a disk of `bytes`.
///
/// # Panics
/// If an acknowledged byte is missing, a bound is exceeded or something does not come back.
pub fn live(time: Duration, bytes: u64, idle: usize) {
    let begun = Instant::now();
    let home = tempfile::tempdir().expect("a temporary directory");
    let place = mount_point(&home.path().join("disk"));
    let volume = Volume::make(bytes, &place).expect("the machine lets root mount a disk");
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limits.maximum,
        ..limits
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)
        .expect("the soft limit can be raised");
    let mut cluster = Cluster::prepare_in(volume.path(), Options::processes());
    cluster.up();
    let watch = Watch::start(cluster.home(), idle as u64);
    let (ledger, progress) = (Ledger::default(), Progress::start());
    let mut rests: Vec<Rest> = Vec::new();
    let mut cycle = 0;
    while begun.elapsed() < time || cycle < 2 {
        cycle += 1;
        let say = |what: &str| {
            progress.say(&format!("cycle {cycle}: {what}"));
            watch.check();
        };
        say("begins");
        let crowd = gather(&cluster, idle);
        fill_and_refill(&cluster, &ledger, &watch, bytes / FILL_PART, cycle, &say);
        kill_while_writing(&mut cluster, &ledger, bytes / FILL_PART / 4, &say);
        drop(crowd);
        say("everything is killed and started again");
        cluster.kill_all();
        cluster.up();
        say(&format!(
            "{} bytes compared after the restart",
            ledger.verify(&rest(&cluster))
        ));
        let crowd = gather(&cluster, idle);
        if cycle % 2 == 0 {
            lose_a_server(&cluster, &say);
            say(&format!(
                "{} bytes compared after the loss",
                ledger.verify(&rest(&cluster))
            ));
        }
        lose_a_voter(&cluster, cycle, &say);
        say(&format!(
            "{} bytes compared after the voter was replaced",
            ledger.verify(&rest(&cluster))
        ));
        ledger.delete(&rest(&cluster), 1);
        say("everything is deleted, and waited for to be gone");
        wait_for("deleted chunks are gone", PATIENCE, || {
            watch.check();
            (cluster.status()["chunks"]["total"].as_u64() == Some(0)).then_some(())
        });
        drop(crowd);
        let left = settle(&volume, &watch);
        say(&format!("it is gone; left: {left:?}"));
        compare(&rests, &left);
        rests.push(left);
    }
    println!(
        "soak: {cycle} cycles in {:.0} s, nothing lost",
        begun.elapsed().as_secs_f64()
    );
}

/// `HOST:PORT` of REST.
fn rest(cluster: &Cluster) -> String {
    let url = cluster.rest();
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

fn gather(cluster: &Cluster, idle: usize) -> Crowd {
    let ports = cluster
        .nodes()
        .into_iter()
        .flat_map(|node| [node.rpc, node.admin]);
    let ports = ports.map(|port| port.trim_start_matches("http://").to_owned());
    Crowd::gather(ports.collect(), &rest(cluster), idle)
}

fn fill_and_refill(
    cluster: &Cluster,
    ledger: &Ledger,
    watch: &Watch,
    bytes: u64,
    cycle: u64,
    say: &dyn Fn(&str),
) {
    let rest = rest(cluster);
    let order = match cycle % 3 {
        0 => [Sizes::Tiny, Sizes::Odd, Sizes::Large],
        1 => [Sizes::Odd, Sizes::Large, Sizes::Tiny],
        _ => [Sizes::Large, Sizes::Tiny, Sizes::Odd],
    };
    for sizes in order {
        // Tiny files count by their number: each is a command.
        let bytes = if matches!(sizes, Sizes::Tiny) {
            20 << 20
        } else {
            bytes / 2
        };
        let filled = ledger.fill(&rest, sizes, bytes, GIVE_UP);
        say(&format!("{sizes:?}: {filled:?}"));
        assert_eq!(filled.unknown, 0, "writes fail though nothing is broken");
        assert_eq!(filled.refused, 0, "a disk with room says that it is full");
        ledger.delete(&rest, 2);
        watch.check();
    }
    say(&format!(
        "{} files, {} bytes compared",
        ledger.len(),
        ledger.verify(&rest)
    ));
}

/// A chunk server and the metadata leader die while clients write.
fn kill_while_writing(cluster: &mut Cluster, ledger: &Ledger, bytes: u64, say: &dyn Fn(&str)) {
    let rest = rest(cluster);
    let (victim, leader) = (cluster.chunk_servers()[0].name.clone(), cluster.leader());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| ledger.fill(&rest, Sizes::Odd, bytes, GIVE_UP));
        std::thread::sleep(Duration::from_secs(2));
        cluster.signal(&victim, Signal::KILL);
        std::thread::sleep(Duration::from_secs(2));
        cluster.signal(&leader, Signal::KILL);
        let filled = writer.join().expect("the writers do not panic");
        say(&format!("{victim} and {leader} killed while writing: {filled:?}"));
        assert!(filled.files > 0, "nothing was written while servers died");
    });
    cluster.revive();
}

/// The directory of a chunk server is gone, its process with it: it comes back under another id.
fn lose_a_server(cluster: &Cluster, say: &dyn Fn(&str)) {
    let lost = cluster.chunk_servers()[1].clone();
    cluster.signal(&lost.name, Signal::KILL);
    for directory in &lost.data {
        fs::remove_dir_all(directory).expect("the directory can be removed");
    }
    let said = cluster.revive();
    assert!(said.contains("under a new id"), "{said}");
    let old = number_after(&said, "--remove ");
    say(&format!("{} lost its directory: it was node {old}", lost.name));
    wait_for("the lost server is replaced", PATIENCE, || {
        let status = cluster.status();
        let servers = status["servers"].as_array()?;
        let alive = servers.iter().filter(|server| server["state"] == "alive").count();
        (alive >= 5).then_some(())
    });
    // What is deleted waits for the lost one as long as it counts as a server.
    wait_for("the lost server is removed", PATIENCE, || {
        let answer = cluster.cli(&["admin", "servers", "--remove", &old]);
        (answer.code == Some(0)).then_some(())
    });
}

/// The number that follows `words` in `text`.
fn number_after(text: &str, words: &str) -> String {
    let rest = text
        .split_once(words)
        .unwrap_or_else(|| panic!("{words} is not in: {text}"));
    rest.1.chars().take_while(char::is_ascii_digit).collect()
}

/// The metadata servers, learners too.
fn members(cluster: &Cluster) -> Vec<Value> {
    let status = cluster.cli(&["--json", "admin", "raft", "status"]).json();
    status["members"].as_array().expect("a list").clone()
}

/// The directory of a voter is gone, its process with it, the leader's in some cycles: it joins as a learner under
/// another id and gets the vote of what it was.
fn lose_a_voter(cluster: &Cluster, cycle: u64, say: &dyn Fn(&str)) {
    let nodes = cluster.nodes();
    let voters: Vec<_> = nodes.iter().filter(|node| node.role == "metadata").collect();
    let lost = voters[cycle as usize % voters.len()];
    let role = if cluster.leader() == lost.name {
        "leader"
    } else {
        "voter"
    };
    cluster.signal(&lost.name, Signal::KILL);
    for directory in &lost.data {
        fs::remove_dir_all(directory).expect("the directory can be removed");
    }
    let is_silent = |member: &Value| member["name"] == *lost.name && member["alive"] == false;
    wait_for("the status tells of the lost voter", PATIENCE, || {
        let voters = members(cluster)
            .into_iter()
            .filter(|member| member["voter"] == true);
        (voters.filter(is_silent).count() == 1).then_some(())
    });
    let said = cluster.revive();
    let old = number_after(&said, "raft replace ");
    let new = number_after(&said, &format!("raft replace {old} "));
    let id = |text: &str| text.parse::<u64>().expect("an id");
    let (old_id, new_id) = (id(&old), id(&new));
    wait_for("the learner has caught up and votes", PATIENCE, || {
        let answer = cluster.cli(&["admin", "raft", "replace", &old, &new]);
        (answer.code == Some(0)).then_some(())
    });
    wait_for("the status tells of three living voters", PATIENCE, || {
        let voters: Vec<Value> = (members(cluster).into_iter())
            .filter(|member| member["voter"] == true)
            .collect();
        let has = |id: u64| voters.iter().any(|member| member["node"] == id);
        let alive = voters.iter().all(|member| member["alive"] == true);
        (voters.len() == 3 && alive && has(new_id) && !has(old_id)).then_some(())
    });
    say(&format!(
        "{} ({role}) lost its directory: node {new} votes in the place of {old}",
        lost.name
    ));
}

/// What is left once caches and queues had a moment.
fn settle(volume: &Volume, watch: &Watch) -> Rest {
    // Arenas that nobody needs are removed meanwhile.
    std::thread::sleep(Duration::from_secs(40));
    Rest {
        usage: watch.usage(),
        disk: volume.used(),
    }
}

/// What an empty cluster uses must not grow from cycle to cycle. The first cycles fill caches and recycled files.
fn compare(rests: &[Rest], now: &Rest) {
    let Some(first) = rests.get(1) else { return };
    let bounds = [
        (
            "memory in KiB",
            first.usage.memory_kib,
            now.usage.memory_kib,
            256 << 10,
        ),
        ("threads", first.usage.threads, now.usage.threads, 32),
        ("descriptors", first.usage.descriptors, now.usage.descriptors, 200),
        ("bytes of disk", first.disk, now.disk, 256 << 20),
    ];
    for (what, then, now, margin) in bounds {
        let allowed = then + then / 4 + margin;
        assert!(
            now <= allowed,
            "{what} of an empty cluster grew from {then} to {now}, {allowed} allowed"
        );
    }
}
