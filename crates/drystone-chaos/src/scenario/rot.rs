//! Stored bytes change by themselves on one disk. Read from there alone they must be refused, never given out; with
//! the others back everything is there.

use super::{Scenario, Stage};
use crate::cluster::Shape;
use crate::content::{BLOCK, MAGIC};
use crate::report::Round;
use drystone_system::files::{Seed, files_below};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "rot",
    about: "flip stored bytes of one chunk server, read from it alone",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io"],
    rounds_per_cluster: 10,
    shape: |_| Shape::default(),
    play,
};

const PIECE: usize = 64 << 10;
/// How long it is read from alone. What it refuses is asked of the others for a while, which are not there.
const ALONE: Duration = Duration::from_secs(6);
/// Always the same, so that two good replicas are left of everything.
const VICTIM: &str = "chunk-1";

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round {
        fault: format!("bytes rot on {VICTIM}"),
        ..Round::default()
    };
    let working = stage.writers.start();
    Stage::warm(&working, 60, Duration::from_millis(500));
    stage.settle(working, &mut round);
    // Until what lies in the journal only is in its place.
    std::thread::sleep(Duration::from_millis(1500));
    let path = match &stage.cluster.node(VICTIM).volume {
        Some(volume) => volume.path().join("data"),
        None => anyhow::bail!("{VICTIM} has no disk"),
    };
    let others: Vec<String> = stage
        .cluster
        .role("chunk")
        .into_iter()
        .filter(|name| name != VICTIM)
        .collect();
    round.count("bytes flipped", flip(&path, seed)?);
    others.iter().for_each(|name| stage.cluster.kill(name));
    let glance = stage.writers.glance(ALONE, || stage.cluster.kill("gateway"));
    round.count("files read from it alone", glance.good);
    round.count("files that it refused", glance.refused);
    round.is_hit = glance.refused > 0;
    round.faults.extend(glance.faults);
    stage.cluster.start_all(&[])?;
    stage.cluster.wait_all()?;
    stage.verify(&mut round);
    Ok(round)
}

/// Flips a byte in one of 16 blocks of clients' content that lies in an arena.
fn flip(data: &Path, seed: &mut Seed) -> anyhow::Result<u64> {
    let mut flipped = 0;
    for name in files_below(data) {
        let path = data.join(&name);
        // Rot in a log is another matter: the start refuses it.
        if !name.to_string_lossy().contains("arena") {
            continue;
        }
        let file = File::options().read(true).write(true).open(&path)?;
        let length = file.metadata()?.len();
        let mut piece = vec![0; PIECE];
        for at in (0..length).step_by(PIECE) {
            let count = file.read_at(&mut piece, at)?;
            for (number, block) in (0..).zip(piece[..count].chunks(BLOCK)) {
                if block.starts_with(MAGIC) && seed.draw().is_multiple_of(16) {
                    let place = (seed.draw() % block.len() as u64) as usize;
                    let flipped_byte = block[place] ^ (1 << (seed.draw() % 8));
                    file.write_all_at(&[flipped_byte], at + number * BLOCK as u64 + place as u64)?;
                    flipped += 1;
                }
            }
        }
        file.sync_all()?;
    }
    Ok(flipped)
}
