//! One failover after another.

use crate::probe::{Kind, Probe, Writers};
use crate::report::GOALS;
use drystone_system::process::Signal;
use drystone_system::{Cluster, load, wait_for};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Until everything is back, and until a kind of operation works again.
const PATIENCE: Duration = Duration::from_secs(120);
/// A round in so many stops a follower for a while first.
const STOP_EVERY: u64 = 5;
/// For how long.
const STOPPED: Duration = Duration::from_secs(15);
/// Of a tree that counts as reclaimed.
const LEFT: u64 = 50_000;

/// What a failover cost.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// From the kill to the first success, for each of [`Kind::ALL`].
    pub recovered: [Duration; 3],
}

/// Kills the leader again and again.
///
/// # Panics
/// If something does not come back.
pub fn run(cluster: &Cluster, rounds: u64, files: u64, writers: u64) -> Vec<Round> {
    let begun = Instant::now();
    let say = |what: &str| println!("[{:>5.0} s] {what}", begun.elapsed().as_secs_f64());
    let address = cluster.rest();
    cluster.cli(&["--user", "drystone", "mkdir", "/failover"]).ok();
    cluster
        .cli_with(&["--user", "drystone", "put", "-", "/failover/read"], b"here")
        .ok();
    let writers = Writers::start(&address, writers);
    let probes = Kind::ALL.map(|kind| Probe::start(&address, kind));
    let mut done: Vec<Round> = Vec::new();
    for number in 1..=rounds {
        if is_reclaimed(cluster, &writers) {
            say("a tree is made and deleted");
            let path = format!("/tree-{number}");
            load::make_tree(cluster, &path, files);
            cluster.cli(&["--user", "drystone", "rm", "-r", &path]).ok();
        }
        let dead = format!("chunk-{}", number % 3 + 1);
        cluster.signal(&dead, Signal::KILL);
        let mut stopped = String::new();
        if number % STOP_EVERY == 0 {
            let leader = cluster.leader();
            let follower = (1..=3)
                .map(|id| format!("metadata-{id}"))
                .find(|name| *name != leader);
            stopped = follower.expect("one of three is no leader");
            cluster.signal(&stopped, Signal::STOP);
            std::thread::sleep(STOPPED);
            cluster.signal(&stopped, Signal::CONT);
            stopped = format!(", {stopped} continued");
        } else {
            // From "just dead" to "known to be dead".
            std::thread::sleep(Duration::from_millis(500 * (number % 9)));
        }
        let before = Instant::now();
        wait_for("large writes work with a chunk server away", PATIENCE, || {
            let works = |probe: &Probe| probe.has_worked_since(before);
            probes.iter().all(works).then_some(())
        });
        probes.iter().for_each(Probe::forget);
        let leader = cluster.leader();
        let pid = cluster.node(&leader).pid;
        let kill = Instant::now();
        drystone_system::process::signal(pid, Signal::KILL);
        let recovered = wait_for("everything works again", PATIENCE, || {
            let times = [0, 1, 2].map(|kind: usize| probes[kind].recovered(kill));
            Some([times[0]?, times[1]?, times[2]?])
        });
        let late = recovered.iter().zip(GOALS).any(|(time, goal)| *time > goal);
        say(&format!(
            "{number:>3}: {leader} killed, {dead} away{stopped}: read {:.2} s, small {:.2} s, large {:.2} s{} ({} files created)",
            recovered[0].as_secs_f64(),
            recovered[1].as_secs_f64(),
            recovered[2].as_secs_f64(),
            if late { "  LATE" } else { "" },
            writers.created()
        ));
        done.push(Round { recovered });
        cluster.revive();
        wait_for("all servers are back", PATIENCE, || {
            all_alive(cluster).then_some(())
        });
    }
    done
}

fn all_alive(cluster: &Cluster) -> bool {
    let alive = |list: &Value, is_alive: fn(&Value) -> bool| {
        let list = list.as_array();
        list.is_some_and(|members| members.iter().all(is_alive))
    };
    let raft = cluster.cli(&["--json", "admin", "raft", "status"]).json();
    alive(&cluster.status()["servers"], |server| server["state"] == "alive")
        && alive(&raft["members"], |member| member["alive"] == true)
}

/// True if little is left of the tree that was deleted; what the writers made stays.
fn is_reclaimed(cluster: &Cluster, writers: &Writers) -> bool {
    load::files(cluster) < writers.created() + LEFT
}
