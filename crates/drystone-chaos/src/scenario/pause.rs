//! A process stands still beyond every lease, and goes on as if nothing had happened.

use super::{Scenario, Stage, under_way};
use crate::report::Round;
use drystone_system::files::Seed;
use drystone_system::process::Signal;
use std::time::{Duration, Instant};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "pause",
    about: "SIGSTOP of the leader or of chunk servers past their leases, then SIGCONT",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io"],
    rounds_per_cluster: 30,
    shape: super::roomy,
    play,
};

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let leader = stage.cluster.wait_leader()?;
    let servers = stage.cluster.role("chunk");
    let server = servers[(seed.draw() % servers.len() as u64) as usize].clone();
    let victims = match seed.draw() % 4 {
        0 | 1 => vec![leader.clone()],
        2 => vec![server],
        _ => vec![leader.clone(), server],
    };
    round.fault = format!("{} stand still", victims.join(" and "));
    let working = stage.writers.start();
    Stage::warm(&working, 10, Duration::from_millis(200));
    let before = working.acknowledged();
    let at = Instant::now();
    victims
        .iter()
        .for_each(|name| stage.cluster.signal(name, Signal::STOP));
    std::thread::sleep(Duration::from_millis(800 + seed.draw() % 3000));
    round.count("acknowledged while stopped", working.acknowledged() - before);
    victims
        .iter()
        .for_each(|name| stage.cluster.signal(name, Signal::CONT));
    // What the one that slept still believes is most dangerous now.
    Stage::warm(&working, 0, Duration::from_millis(500));
    if stage.cluster.wait_leader()? != leader {
        round.count("leader changed", 1);
    }
    let events = stage.settle(working, &mut round);
    let hit = under_way(&events, at);
    round.count("unacknowledged at the stop", hit);
    round.is_hit = hit > 0;
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}
