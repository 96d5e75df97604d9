//! A disk breaks: most of it answers reads with errors, for good.

use super::{Scenario, Stage, under_way};
use crate::report::Round;
use drystone_system::files::Seed;
use std::time::{Duration, Instant};

/// See the module. What was on the disk is lost: each round has a cluster of its own.
pub const SCENARIO: Scenario = Scenario {
    name: "broken",
    about: "the disk of one node answers with errors, for good",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io"],
    rounds_per_cluster: 1,
    shape: super::roomy,
    play,
};

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let victim = super::draw_node(seed, 5);
    let working = stage.writers.start();
    Stage::warm(&working, 40, Duration::from_millis(700));
    let keep = seed.draw() % (1 << 20);
    round.fault = format!("{keep} bytes of the disk of {victim} are left");
    let at = Instant::now();
    let acknowledged = working.acknowledged();
    match &stage.cluster.node(&victim).volume {
        Some(volume) => volume.shrink(keep)?,
        None => anyhow::bail!("{victim} has no disk"),
    }
    std::thread::sleep(Duration::from_millis(1500 + seed.draw() % 1000));
    round.count("acknowledged while broken", working.acknowledged() - acknowledged);
    let has_ended = !stage.cluster.node(&victim).is_alive();
    round.count("ended by itself", u64::from(has_ended));
    let events = stage.settle(working, &mut round);
    round.count("unacknowledged when it broke", under_way(&events, at));
    let told = stage.cluster.node(&victim).told("os error 5");
    round.count("errors of the disk that it told", told);
    round.is_hit = told > 0 || has_ended;
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}
