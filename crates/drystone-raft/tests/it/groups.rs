//! Groups under faults.

use crate::sim::{MS, Plan, SECOND, Sim, run};
use drystone_raft::Input;
use std::collections::BTreeMap;

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let first = number("DRYSTONE_SEED").unwrap_or(0);
    first..first + number("DRYSTONE_SEEDS").unwrap_or(default)
}

fn run_all(count: u64, plan: impl Fn(u64) -> Plan) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    let (mut acknowledged, mut reads) = (0, 0);
    for seed in seeds(count) {
        let sim = run(plan(seed));
        acknowledged += sim.clients.acknowledged;
        reads += sim.clients.reads;
        for (what, times) in &sim.counts {
            *counts.entry(*what).or_default() += times;
        }
    }
    println!("{acknowledged} acknowledged, {reads} reads, {counts:#?}");
    counts
}

fn demand(counts: &BTreeMap<&'static str, u64>, all: &[&str]) {
    for what in all {
        assert!(counts.get(what).is_some_and(|times| *times > 0), "never: {what}");
    }
}

#[test]
fn three_members_under_faults_agree_and_lose_nothing() {
    let counts = run_all(300, |seed| Plan {
        seed,
        voters: 3,
        faults_until: 5 * SECOND,
        replace: false,
        trace: false,
    });
    let all = [
        "power lost",
        "power lost everywhere",
        "process killed",
        "one-way cut",
        "member cut off",
        "message lost",
        "message doubled",
        "torn tail cut",
        "log purged",
        "snapshot installed",
        "snapshot not installed",
        "snapshot ignored",
        "state lost",
        "opened without its state",
        "proposal overtaken",
        "proposal unknown",
        "proposal refused as busy",
        "leadership handed over",
        "read at a follower",
    ];
    if std::env::var("DRYSTONE_SEEDS").is_err() {
        demand(&counts, &all);
    }
}

#[test]
fn five_members_under_faults_agree_and_lose_nothing() {
    run_all(60, |seed| Plan {
        seed: seed + 10_000,
        voters: 5,
        faults_until: 5 * SECOND,
        replace: false,
        trace: false,
    });
}

#[test]
fn a_voter_is_replaced_under_faults() {
    let counts = run_all(80, |seed| Plan {
        seed: seed + 20_000,
        voters: 3,
        faults_until: 6 * SECOND,
        replace: true,
        trace: false,
    });
    demand(&counts, &["voter replaced"]);
}

#[test]
fn one_seed_twice_gives_equal_traces() {
    for seed in 0..5 {
        let plan = Plan {
            seed,
            voters: 3,
            faults_until: 3 * SECOND,
            replace: true,
            trace: true,
        };
        let (first, second) = (run(plan), run(plan));
        assert_eq!(
            (first.oracle.events, first.oracle.digest),
            (second.oracle.events, second.oracle.digest)
        );
    }
}

#[test]
fn a_leader_is_elected_within_two_seconds_and_again_when_it_dies() {
    for seed in 0..50 {
        let mut sim = Sim::new(Plan {
            seed: seed + 30_000,
            voters: 3,
            faults_until: 0,
            replace: false,
            trace: false,
        });
        sim.run_until(2 * SECOND);
        let leads = |sim: &Sim| {
            sim.members
                .iter()
                .find(|(_, member)| member.node.as_ref().is_some_and(|node| node.leads_surely()))
                .map(|(id, _)| *id)
        };
        let first = leads(&sim).expect("a leader");
        sim.stop(first, true);
        sim.run_until(2 * SECOND + 1500 * MS);
        let second = leads(&sim).expect("another leader");
        assert_ne!(first, second);
    }
}

#[test]
fn a_wiped_voter_does_not_open_under_its_id() {
    let sim = Sim::new(Plan {
        seed: 1,
        voters: 3,
        faults_until: 0,
        replace: false,
        trace: false,
    });
    let error = crate::sim::open_wiped(&sim, 2).expect_err("no log");
    assert!(error.to_string().contains("has no raft log"), "{error}");
}

/// The one that leads, and its term.
fn leader(sim: &Sim) -> (u64, u64) {
    let mut nodes = sim
        .members
        .iter()
        .filter_map(|(id, member)| Some((*id, member.node.as_ref()?)));
    let (id, node) = nodes.find(|(_, node)| node.leads_surely()).expect("a leader");
    (id, node.status().term.0)
}

#[test]
fn a_follower_whose_store_stalls_has_a_bound_and_disturbs_nobody() {
    let mut filled = 0;
    for seed in 0..30 {
        let mut sim = Sim::new(Plan {
            seed: seed + 40_000,
            voters: 3,
            faults_until: 0,
            replace: false,
            trace: false,
        });
        sim.clients.keep_leader = true;
        sim.run_until(2 * SECOND);
        let before = leader(&sim);
        let stalled = before.0 % 3 + 1;
        sim.member(stalled).stalled = true;
        let status = |sim: &Sim, id: u64| sim.members[&id].node.as_ref().map(|node| node.status());
        let (mut most, mut reached) = (0, 0);
        for step in 1..=100 {
            sim.run_until(2 * SECOND + step * 100 * MS);
            most = most.max(status(&sim, stalled).map_or(0, |status| status.log_bytes));
            let led = status(&sim, before.0).expect("it is up");
            assert_eq!(leader(&sim), before, "seed {seed}: disturbed");
            if step % 10 == 0 {
                assert!(led.commit.0 > reached, "seed {seed}: the others do not go on");
                reached = led.commit.0;
            }
        }
        // What may wait, what may be below it in the log, and one message.
        assert!(most <= (16 + 16 + 6) << 10, "seed {seed}: {most} bytes");
        filled += u64::from(most >= 16 << 10);
        sim.member(stalled).stalled = false;
        sim.heal_and_check();
    }
    assert!(filled > 10, "the bound was met in {filled} runs");
}

#[test]
fn a_member_whose_disk_fails_stops_and_nothing_that_it_said_is_lost() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds(120) {
        let mut sim = Sim::new(Plan {
            seed: seed + 50_000,
            voters: 3,
            faults_until: 5 * SECOND,
            replace: false,
            trace: false,
        });
        sim.disk_faults = true;
        sim.run_until(5 * SECOND);
        sim.heal_and_check();
        for (what, times) in &sim.counts {
            *counts.entry(*what).or_default() += times;
        }
    }
    println!("{counts:#?}");
    if std::env::var("DRYSTONE_SEEDS").is_err() {
        demand(
            &counts,
            &["no room for a segment", "stopped by a disk error", "power lost"],
        );
    }
}

#[test]
fn a_member_that_was_away_needs_one_snapshot_however_slowly_it_is_made_and_installed() {
    for seed in 0..10 {
        let plan = Plan {
            seed: seed + 60_000,
            voters: 3,
            faults_until: 0,
            replace: false,
            trace: false,
        };
        let mut sim = Sim::keeping(plan, (512 << 10, 20));
        sim.clients.keep_leader = true;
        sim.run_until(2 * SECOND);
        let away = leader(&sim).0 % 3 + 1;
        sim.stop(away, true);
        sim.run_until(10 * SECOND);
        let installed = |sim: &Sim| sim.counts.get("snapshot installed").copied().unwrap_or(0);
        let before = installed(&sim);
        // The commands of each of these times are more than the log keeps by itself.
        sim.slow_snapshots = 2 * SECOND;
        sim.start(away);
        sim.run_until(25 * SECOND);
        assert_eq!(installed(&sim) - before, 1, "seed {seed}");
        let last = |sim: &Sim, id: u64| {
            sim.members[&id]
                .node
                .as_ref()
                .map_or(0, |node| node.status().last.0)
        };
        let (led, caught_up) = (last(&sim, leader(&sim).0), last(&sim, away));
        assert!(led - caught_up < 64, "seed {seed}: at {caught_up} of {led}");
        // Nobody lags any more: the log is cut as before.
        let bytes = sim
            .members
            .values()
            .map(|member| member.node.as_ref().map_or(0, |node| node.status().log_bytes));
        assert!(bytes.max() < Some(64 << 10), "seed {seed}: the log is not cut");
        sim.heal_and_check();
    }
}

#[test]
fn a_member_that_has_taken_a_snapshot_needs_no_other_when_the_leader_changes() {
    for seed in 0..10 {
        let plan = Plan {
            seed: seed + 80_000,
            voters: 3,
            faults_until: 0,
            replace: false,
            trace: false,
        };
        let mut sim = Sim::keeping(plan, (512 << 10, 400));
        sim.clients.keep_leader = true;
        sim.run_until(2 * SECOND);
        let first = leader(&sim).0;
        let away = first % 3 + 1;
        sim.stop(away, true);
        // Longer than anything is kept for it.
        sim.run_until(20 * SECOND);
        sim.slow_snapshots = 3 * SECOND;
        sim.start(away);
        let mut end = 20 * SECOND;
        while sim.members[&away].received.is_empty() {
            end += 10 * MS;
            assert!(end < 60 * SECOND, "seed {seed}: no snapshot comes");
            sim.run_until(end);
        }
        // It has all of it, and begins to install it. The others go on without a leader that knows.
        let count = |sim: &Sim, what: &str| sim.counts.get(what).copied().unwrap_or(0);
        let (installed, sent) = (count(&sim, "snapshot installed"), count(&sim, "snapshot sent"));
        sim.member(away).stalled = true;
        sim.stop(first, false);
        sim.run_until(end + 1500 * MS);
        sim.start(first);
        sim.run_until(end + 5 * SECOND);
        assert_eq!(
            leader(&sim).0,
            6 - first - away,
            "seed {seed}: one lacks a state, one was away"
        );
        sim.member(away).stalled = false;
        sim.run_until(end + 20 * SECOND);
        assert_eq!(count(&sim, "snapshot installed") - installed, 1, "seed {seed}");
        assert_eq!(count(&sim, "snapshot sent"), sent, "seed {seed}");
        sim.heal_and_check();
    }
}

#[test]
fn a_disk_that_is_nearly_full_keeps_nothing_for_a_member_that_lags() {
    for seed in 0..5 {
        let plan = Plan {
            seed: seed + 90_000,
            voters: 3,
            faults_until: 0,
            replace: false,
            trace: false,
        };
        let mut sim = Sim::keeping(plan, (512 << 10, 2_000));
        sim.clients.keep_leader = true;
        sim.run_until(2 * SECOND);
        let first = leader(&sim).0;
        let away = first % 3 + 1;
        sim.stop(away, true);
        sim.run_until(10 * SECOND);
        let bytes = |sim: &Sim| {
            sim.members[&first]
                .node
                .as_ref()
                .map_or(0, |node| node.status().log_bytes)
        };
        assert!(bytes(&sim) > 32 << 10, "seed {seed}: nothing is kept for it");
        sim.clients.stopped = true;
        sim.run_until(11 * SECOND);
        assert!(!sim.counts.contains_key("kept entries released"), "seed {seed}");
        // Nothing is written any more.
        sim.input(first, Input::DiskFull(true));
        sim.run_until(13 * SECOND);
        assert!(sim.counts.contains_key("kept entries released"), "seed {seed}");
        assert!(bytes(&sim) < 32 << 10, "seed {seed}: {}", bytes(&sim));
        sim.input(first, Input::DiskFull(false));
        sim.start(away);
        sim.run_until(17 * SECOND);
        assert!(sim.counts.contains_key("snapshot installed"), "seed {seed}");
        sim.heal_and_check();
    }
}

#[test]
fn a_voter_that_has_much_to_apply_leaves_the_election_to_another() {
    for seed in 0..20 {
        let mut sim = Sim::new(Plan {
            seed: seed + 70_000,
            voters: 3,
            faults_until: 0,
            replace: false,
            trace: false,
        });
        sim.clients.keep_leader = true;
        sim.run_until(2 * SECOND);
        let first = leader(&sim).0;
        let behind = first % 3 + 1;
        // It takes entries and applies none, but not for so long that its log is the shorter one.
        sim.member(behind).stalled = true;
        sim.run_until(2 * SECOND + 300 * MS);
        sim.clients.stopped = true;
        sim.run_until(2 * SECOND + 500 * MS);
        sim.stop(first, true);
        sim.run_until(4 * SECOND);
        assert_eq!(leader(&sim).0, 6 - first - behind, "seed {seed}");
        sim.member(behind).stalled = false;
        sim.heal_and_check();
    }
}
