//! The harness itself is tested: with syncs that say yes and do nothing, a power cut must be seen to lose what was
//! acknowledged. If it never is, the other scenarios prove nothing.

use super::{Scenario, Stage, count_events, under_way};
use crate::cluster::Shape;
use crate::report::Round;
use drystone_system::files::Seed;
use std::process::{Command, Stdio};
use std::time::Duration;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "liar",
    about: "syncs that do nothing, then a power cut: the loss must be noticed (tests the harness)",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io", "strace"],
    rounds_per_cluster: 1,
    shape: |_| Shape::default(),
    play,
};

/// How long files are looked at.
const LOOK: Duration = Duration::from_secs(10);

fn play(stage: &mut Stage, _seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round {
        fault: "syncs lie, then the power goes".to_owned(),
        ..Round::default()
    };
    let mut liars = Vec::new();
    for node in &stage.cluster.nodes {
        let Some(pid) = node.pid().filter(|_| node.volume.is_some()) else {
            continue;
        };
        let strace = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"])
            .args(["-e", "inject=fdatasync,fsync:retval=0", "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        liars.push(strace);
    }
    std::thread::sleep(Duration::from_millis(500));
    let working = stage.writers.start();
    Stage::warm(&working, 60, Duration::from_millis(500));
    let at = stage.cluster.cut_power()?;
    let (events, _) = working.join(&mut stage.writers);
    for mut liar in liars {
        // It ends with the process that it watched.
        liar.wait()?;
    }
    count_events(&events, &mut round);
    round.count("unacknowledged at the cut", under_way(&events, at));
    stage.cluster.restore_power()?;
    stage.cluster.start_all(&[])?;
    if let Err(error) = stage.cluster.wait_all() {
        round.notes.push(format!("noticed at the start: {error:#}"));
        round.is_hit = true;
        return Ok(round);
    }
    let glance = stage.writers.glance(LOOK, || stage.cluster.kill("gateway"));
    round.count("losses noticed", glance.faults.len() as u64 + glance.refused);
    round.is_hit = !glance.faults.is_empty() || glance.refused > 0;
    Ok(round)
}
