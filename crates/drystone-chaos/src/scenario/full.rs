//! The disk of one node is full for a while.

use super::{Scenario, Stage, under_way};
use crate::command::run;
use crate::report::Round;
use drystone_system::files::Seed;
use std::fs;
use std::time::{Duration, Instant};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "full",
    about: "fill the disk of one node, free it again",
    programs: &[
        "ip",
        "nsenter",
        "losetup",
        "mkfs.ext4",
        "xfs_io",
        "fallocate",
        "df",
    ],
    rounds_per_cluster: 10,
    shape: super::roomy,
    play,
};

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let victim = super::draw_node(seed, 5);
    let left = seed.draw() % (2 << 20);
    round.fault = format!("{left} bytes are left to {victim}");
    let mount = match &stage.cluster.node(&victim).volume {
        Some(volume) => volume.path().to_owned(),
        None => anyhow::bail!("{victim} has no disk"),
    };
    let working = stage.writers.start();
    Stage::warm(&working, 10, Duration::from_millis(200));
    let ballast = mount.join("ballast");
    let free = run(
        "df",
        &["--block-size=1", "--output=avail", &mount.to_string_lossy()],
    )?;
    let free: u64 = free
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok())
        .unwrap_or_default();
    let length = free.saturating_sub(left).max(4096).to_string();
    // It may become too full for the last of it meanwhile.
    let filled = run("fallocate", &["--length", &length, &ballast.to_string_lossy()]);
    let at = Instant::now();
    let before = working.acknowledged();
    std::thread::sleep(Duration::from_millis(1500 + seed.draw() % 1500));
    round.count("acknowledged while full", working.acknowledged() - before);
    let proof = fs::write(mount.join("proof"), vec![1; 4 << 20]);
    round.is_hit = filled.is_ok() && proof.is_err();
    round.count("found full", u64::from(proof.is_err()));
    for name in ["proof", "ballast"] {
        // One of them may not have been made.
        let _ = fs::remove_file(mount.join(name));
    }
    if !stage.cluster.node(&victim).is_alive() {
        round.count("ended by itself", 1);
        stage.cluster.kill(&victim);
        stage.cluster.start(&victim)?;
    } else if seed.draw().is_multiple_of(2) {
        stage.cluster.kill(&victim);
        stage.cluster.start(&victim)?;
    }
    Stage::warm(&working, 0, Duration::from_millis(500));
    let events = stage.settle(working, &mut round);
    round.count("unacknowledged when it filled", under_way(&events, at));
    stage.cluster.wait_all()?;
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}
