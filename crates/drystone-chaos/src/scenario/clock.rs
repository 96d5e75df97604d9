//! The wall clocks of the voters jump by hours and days, each its own way.

use super::{Scenario, Stage};
use crate::report::Round;
use drystone_system::files::Seed;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "clock",
    about: "wall clocks of voters jump by days (libfaketime)",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io", "faketime"],
    rounds_per_cluster: 10,
    shape: super::roomy,
    play,
};

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let voters = stage.cluster.role("metadata");
    let Some(library) = library() else {
        anyhow::bail!("libfaketime is not where the package faketime puts it");
    };
    let mut jumps = Vec::new();
    for voter in &voters {
        let file = stage.work.join(format!("{voter}.clock"));
        if stage.cluster.node(voter).environment.is_empty() {
            fs::write(&file, "+0\n")?;
            stage.cluster.node(voter).environment = vec![
                ("LD_PRELOAD".to_owned(), library.to_string_lossy().into_owned()),
                (
                    "FAKETIME_TIMESTAMP_FILE".to_owned(),
                    file.to_string_lossy().into_owned(),
                ),
                ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
            ];
            stage.cluster.kill(voter);
            stage.cluster.start(voter)?;
            stage.cluster.wait_ready(voter)?;
        }
        jumps.push((file, jump(seed)));
    }
    let working = stage.writers.start();
    Stage::warm(&working, 10, Duration::from_millis(200));
    for (file, jump) in &jumps {
        set(file, *jump)?;
        std::thread::sleep(Duration::from_millis(seed.draw() % 300));
    }
    Stage::warm(&working, 0, Duration::from_millis(300));
    let leader = stage.cluster.wait_leader()?;
    // The next leader has another time: below and above the last one.
    stage.cluster.kill(&leader);
    stage.cluster.start(&leader)?;
    Stage::warm(&working, 0, Duration::from_millis(1200));
    stage.cluster.wait_all()?;
    stage.settle(working, &mut round);
    round.fault = format!(
        "clocks jump by {:?} hours",
        jumps.iter().map(|(_, hours)| *hours).collect::<Vec<_>>()
    );
    let seen = offset(stage)?;
    round.count("hours that files are off", seen.unsigned_abs());
    let leader = stage.cluster.wait_leader()?;
    let expected = voters
        .iter()
        .position(|name| *name == leader)
        .map_or(0, |at| jumps[at].1);
    round.is_hit = expected == 0 || (seen - expected).abs() <= 1;
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}

fn jump(seed: &mut Seed) -> i64 {
    let hours = (seed.draw() % 72 + 2) as i64;
    if seed.draw().is_multiple_of(2) {
        hours
    } else {
        -hours
    }
}

/// Atomically: the library reads the file in the middle of anything.
fn set(file: &Path, hours: i64) -> anyhow::Result<()> {
    let temporary = file.with_extension("new");
    fs::write(&temporary, format!("{hours:+}h\n"))?;
    Ok(fs::rename(temporary, file)?)
}

/// How many hours a file that is written now seems to be off: files have the leader's time.
fn offset(stage: &Stage) -> anyhow::Result<i64> {
    let mut http = stage.cluster.http();
    let body = b"what time is it?";
    http.try_ask("PUT", "/files/clock", &[], body.len() as u64, &mut &body[..])?;
    let answer = http.try_ask("GET", "/files/clock", &[], 0, &mut &b""[..])?;
    let modified = answer.header("last-modified").unwrap_or_default();
    let then = crate::command::run("date", &["--date", modified, "+%s"])?;
    let now = crate::command::run("date", &["+%s"])?;
    let seconds = |text: String| text.trim().parse::<i64>();
    let off = seconds(then)? - seconds(now)?;
    Ok((off + off.signum() * 1800) / 3600)
}

fn library() -> Option<PathBuf> {
    let roots = fs::read_dir("/usr/lib").ok()?;
    let mut found = roots
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .filter(|path| path.is_file());
    found.next()
}
