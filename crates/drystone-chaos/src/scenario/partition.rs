//! Frames get lost: between some nodes, in one direction or both, all of them or a share.

use super::{Scenario, Stage, under_way};
use crate::network::{self, Cut};
use crate::report::Round;
use drystone_system::files::Seed;
use std::time::{Duration, Instant};

/// See the module.
pub const SCENARIO: Scenario = Scenario {
    name: "partition",
    about: "one-way, two-way, partial and random loss of frames between nodes",
    programs: &["ip", "nsenter", "losetup", "mkfs.ext4", "xfs_io", "nft"],
    rounds_per_cluster: 30,
    shape: super::roomy,
    play,
};

/// Who does not hear whom.
struct Plan {
    what: String,
    cuts: Vec<Cut>,
    percent: u32,
}

fn play(stage: &mut Stage, seed: &mut Seed) -> anyhow::Result<Round> {
    let mut round = Round::default();
    let leader = stage.cluster.wait_leader()?;
    let plan = plan(stage, &leader, seed);
    round.fault = plan.what;
    let working = stage.writers.start();
    Stage::warm(&working, 10, Duration::from_millis(200));
    let before = working.acknowledged();
    let at = Instant::now();
    network::cut(&plan.cuts, plan.percent)?;
    std::thread::sleep(Duration::from_millis(800 + seed.draw() % 2500));
    let during = working.acknowledged() - before;
    let dropped = network::heal()?;
    round.count("frames dropped", dropped);
    round.count("acknowledged while cut", during);
    round.is_hit = dropped > 0;
    if stage.cluster.wait_leader()? != leader {
        round.count("leader changed", 1);
    }
    Stage::warm(&working, 0, Duration::from_millis(500));
    let events = stage.settle(working, &mut round);
    round.count("unacknowledged at the cut", under_way(&events, at));
    stage.end_calls()?;
    stage.verify(&mut round);
    Ok(round)
}

fn plan(stage: &Stage, leader: &str, seed: &mut Seed) -> Plan {
    let voters = stage.cluster.role("metadata");
    let servers = stage.cluster.role("chunk");
    let followers: Vec<String> = voters.iter().filter(|name| *name != leader).cloned().collect();
    let everyone: Vec<String> = voters
        .iter()
        .chain(&servers)
        .cloned()
        .chain(["gateway".to_owned()])
        .collect();
    let one = servers[(seed.draw() % servers.len() as u64) as usize].clone();
    let other = servers[(seed.draw() % servers.len() as u64) as usize].clone();
    let me = [leader.to_owned()];
    let (what, cuts, percent) = match seed.draw() % 10 {
        0 => ("the leader is alone", both(&me, &everyone), 100),
        1 => ("the leader hears nobody", cuts(&everyone, &me), 100),
        2 => ("nobody hears the leader", cuts(&me, &everyone), 100),
        3 => (
            "the leader and the other voters are cut",
            both(&me, &followers),
            100,
        ),
        4 => (
            "the leader does not hear the other voters",
            cuts(&followers, &me),
            100,
        ),
        5 => (
            "the followers are cut from each other",
            both(&followers[..1], &followers[1..]),
            100,
        ),
        6 => ("a chunk server is alone", both(&[one], &everyone), 100),
        7 => ("two chunk servers are cut", both(&[one], &[other]), 100),
        8 => (
            "the leader and the gateway are cut",
            both(&me, &["gateway".to_owned()]),
            100,
        ),
        _ => ("a fifth of all frames is lost", cuts(&everyone, &everyone), 20),
    };
    Plan {
        what: what.to_owned(),
        cuts,
        percent,
    }
}

fn cuts(from: &[String], to: &[String]) -> Vec<Cut> {
    let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to)));
    let different = pairs.filter(|(from, to)| from != to);
    different
        .map(|(from, to)| Cut {
            from: from.clone(),
            to: to.clone(),
        })
        .collect()
}

fn both(a: &[String], b: &[String]) -> Vec<Cut> {
    cuts(a, b).into_iter().chain(cuts(b, a)).collect()
}
