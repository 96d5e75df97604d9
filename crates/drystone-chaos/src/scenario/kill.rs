//! Nodes are killed again and again while they send, take and install snapshots.

use super::{Scenario, Stage, under_way};
use crate::cluster::{Shape, metric};
use crate::report::Round;
use drystone_system::files::Seed;
use std::time::{Duration, Instant};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "kill",
    about: "kill -9 of voters around snapshots, and of chunk servers",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io"],
    rounds_per_cluster: 25,
    shape,
    play,
};

fn shape(seed: u64) -> Shape {
    Shape {
        log_segment: "64KiB",
        metadata_lines: "log-keep-entries = 10\n".to_owned(),
        ..super::roomy(seed)
    }
}

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let working = stage.writers.start();
    Stage::warm(&working, 10, Duration::from_millis(100));
    let mut moments = Vec::new();
    for _ in 0..2 + seed.draw() % 3 {
        let voter = if seed.draw().is_multiple_of(2) {
            stage.cluster.wait_leader()?
        } else {
            format!("metadata-{}", seed.draw() % 3 + 1)
        };
        moments.push(Instant::now());
        stage.cluster.kill(&voter);
        if seed.draw().is_multiple_of(3) {
            let server = format!("chunk-{}", seed.draw() % 5 + 1);
            stage.cluster.kill(&server);
            stage.cluster.start(&server)?;
        }
        // Far enough that the log does not reach back to where it is, and two checkpoints long.
        let goal = working.acknowledged() + 150;
        let start = Instant::now();
        while working.acknowledged() < goal && start.elapsed() < Duration::from_secs(4)
            || start.elapsed() < Duration::from_millis(1500)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        stage.cluster.start(&voter)?;
        if seed.draw().is_multiple_of(2) {
            // In the middle of what it does to catch up.
            std::thread::sleep(Duration::from_millis(seed.draw() % 400));
            stage.cluster.kill(&voter);
            stage.cluster.start(&voter)?;
            round.count("killed while catching up", 1);
        }
        stage.cluster.wait_ready(&voter)?;
        let installed = metric(&voter, "drystone_meta_snapshots_installed_total").unwrap_or_default();
        round.count("snapshots installed", installed as u64);
    }
    round.fault = format!("{} kills of voters", moments.len());
    stage.cluster.wait_all()?;
    let events = stage.settle(working, &mut round);
    let hit: u64 = moments.iter().map(|at| under_way(&events, *at)).sum();
    round.count("kills", moments.len() as u64);
    round.count("unacknowledged at the kills", hit);
    round.is_hit = hit > 0
        && round
            .counts
            .get("snapshots installed")
            .is_some_and(|number| *number > 0);
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}
