//! A sync fails, and nothing that it covered is on the disk: then the power of that node goes.
//!
//! strace takes the place of the kernel for one call, so what was to be synced stays in memory. An acknowledgement
//! that counted on it would be wrong after the cut, and seen: the files are read through this node alone.

use super::{Scenario, Stage, under_way};
use crate::cluster::Shape;
use crate::report::Round;
use drystone_system::files::Seed;
use drystone_system::process::{Signal, is_alive, signal};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "sync",
    about: "a sync of one node fails, then its power is cut",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io", "strace"],
    rounds_per_cluster: 20,
    shape: |_| Shape::default(),
    play,
};

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let victim = super::draw_node(seed, 3);
    let number = 1 + seed.draw() % 30;
    round.fault = format!("sync {number} of {victim} fails, then its power");
    let log = stage.work.join("logs").join("strace");
    let pid = stage.cluster.node(&victim).pid().unwrap_or_default();
    let working = stage.writers.start();
    Stage::warm(&working, 5, Duration::from_millis(100));
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fdatasync,fsync", "-e"])
        .arg(format!("inject=fdatasync,fsync:error=EIO:when={number}"))
        .arg("-o")
        .arg(&log)
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let start = Instant::now();
    let injected = || fs::read_to_string(&log).is_ok_and(|text| text.contains("INJECTED"));
    while !injected() && start.elapsed() < Duration::from_secs(4) && is_alive(pid) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let is_injected = injected();
    let at = Instant::now();
    std::thread::sleep(Duration::from_millis(seed.draw() % 300));
    // Detaches and ends.
    signal(strace.id(), Signal::TERM);
    strace.wait()?;
    let _ = fs::remove_file(&log);
    if !stage.cluster.node(&victim).is_alive() {
        round.count("ended by itself", 1);
    }
    stage.cluster.cut_power_of(&victim)?;
    working.stop();
    stage.cluster.restore_power_of(&victim)?;
    stage.cluster.start(&victim)?;
    stage.cluster.wait_all()?;
    let events = stage.settle(working, &mut round);
    round.count("syncs that failed", u64::from(is_injected));
    round.count("unacknowledged at the failure", under_way(&events, at));
    round.is_hit = is_injected;
    // Its replicas alone, or a majority in which it counts.
    let role = victim.split('-').next().unwrap_or_default().to_owned();
    let mut others: Vec<String> = stage.cluster.role(&role);
    others.retain(|name| *name != victim);
    if role == "metadata" {
        others.truncate(1);
    }
    others.iter().for_each(|name| stage.cluster.kill(name));
    stage.end_calls()?;
    stage.verify(&mut round);
    stage.cluster.start_all(&[])?;
    stage.cluster.wait_all()?;
    Ok(round)
}
