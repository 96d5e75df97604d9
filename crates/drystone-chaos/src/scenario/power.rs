//! The power of every machine goes at one time, in the middle of writes.
//!
//! All disks lose what was not synced, all processes die. Afterwards a drawn part of the cluster comes back alone and
//! every file is read through it: one chunk server of three (so that each replica is looked at, not just any), or two
//! voters of three (so that each majority has what was acknowledged). Sometimes the power goes again during recovery.

use super::{Scenario, Stage, count_events, under_way};
use crate::cluster::Shape;
use crate::report::Round;
use drystone_system::files::Seed;
use std::time::Duration;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "power",
    about: "cut the power of all nodes while clients write",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io"],
    rounds_per_cluster: 40,
    shape,
    play,
};

fn shape(seed: u64) -> Shape {
    Shape {
        // Every other cluster sends snapshots and cuts its log all the time.
        log_segment: if seed & 1 == 0 { "64KiB" } else { "1MiB" },
        metadata_lines: if seed & 1 == 0 {
            "log-keep-entries = 50\n".to_owned()
        } else {
            String::new()
        },
        ..Shape::default()
    }
}

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let working = stage.writers.start();
    let wait = Duration::from_millis(50 + seed.draw() % 700);
    Stage::warm(&working, 1 + seed.draw() % 40, wait);
    let at = stage.cluster.cut_power()?;
    let (events, faults) = working.join(&mut stage.writers);
    round.faults.extend(faults);
    count_events(&events, &mut round);
    let hit = under_way(&events, at);
    round.count("cuts", 1);
    round.count("unacknowledged at the cut", hit);
    round.is_hit = hit > 0;
    restore(stage, &mut round)?;
    if seed.draw().is_multiple_of(5) {
        stage.cluster.start_all(&[])?;
        std::thread::sleep(Duration::from_millis(seed.draw() % 500));
        stage.cluster.cut_power()?;
        round.count("cuts", 1);
        round.count("cuts in recovery", 1);
        restore(stage, &mut round)?;
    }
    let absent = absent(seed);
    round.fault = match absent.first() {
        None => "power cut; all came back".to_owned(),
        Some(_) => format!("power cut; read without {}", absent.join(" and ")),
    };
    stage.cluster.start_all(&absent)?;
    stage.cluster.wait_all()?;
    stage.verify(&mut round);
    stage.cluster.start_all(&[])?;
    stage.cluster.wait_all()?;
    Ok(round)
}

fn restore(stage: &mut Stage, round: &mut Round) -> anyhow::Result<()> {
    let gone = stage.cluster.restore_power()?;
    round.count("disks that lost what was not synced", gone);
    Ok(())
}

/// Who stays dark while the files are read.
fn absent(seed: &mut Seed) -> Vec<String> {
    let mut absent = Vec::new();
    let one = seed.draw() % 4 + 1;
    if one <= 3 {
        absent.extend((1..=3).filter(|i| *i != one).map(|i| format!("chunk-{i}")));
    }
    let other = seed.draw() % 5 + 1;
    if other <= 3 {
        absent.push(format!("metadata-{other}"));
    }
    absent
}
