//! The namespace as its users see it.
#![allow(clippy::unwrap_used, reason = "a test crate: its helpers are tests too")]

mod cluster;
mod commands;
mod convert_inline;
mod corpus;
mod driver;
mod failing;
mod fuzzed;
mod invariants;
mod model;
mod sessions;
mod stores;

use driver::{Driver, Fate, NewBody, Step, fate, replay, step};
use drystone_types::Code;
use model::Condition;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

/// Longer runs by `PROPTEST_CASES`.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(default);
    ProptestConfig {
        cases,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn random_commands_do_what_the_model_says(steps in prop::collection::vec(step(), 1..150)) {
        let mut driver = Driver::new();
        for (n, (user, step)) in steps.iter().enumerate() {
            driver.step(*user, step);
            if n % 16 == 0 {
                driver.check();
                driver.cluster.flush();
            }
        }
        driver.check();
        driver.check_reclaimed();
    }

    #[test]
    fn replicas_agree_whatever_they_flush(
        steps in prop::collection::vec(step(), 1..100),
        fates in prop::collection::vec(fate(), 1..60),
    ) {
        let mut driver = Driver::new();
        for (user, step) in &steps {
            driver.step(*user, step);
        }
        driver.check();
        replay(&driver.cluster, &fates);
    }
}

/// The newest layer is read: the name is in the batch written last, and its deletion in the one on its way.
#[test]
fn a_replica_does_not_read_a_deleted_name_from_the_batch_written_last() {
    let mut driver = Driver::new();
    let publish = |path: &[u8]| {
        let body = NewBody::Empty;
        Step::Publish(path.to_vec(), 0, 0, body, false, Condition::None, None)
    };
    let steps = [
        publish(&[2]),
        Step::Delete(vec![2], false, 0),
        publish(&[3]),
        publish(&[3]),
        publish(&[2, 3]),
    ];
    for step in &steps {
        driver.step(0, step);
    }
    driver.check();
    // Entries are the cluster's own setup, then the steps.
    let mut fates = vec![Fate::Go; driver.cluster.log.len() - steps.len()];
    fates.extend([Fate::Freeze, Fate::Flush, Fate::Freeze, Fate::Go, Fate::Go]);
    replay(&driver.cluster, &fates);
}

/// The random runs are worth something only if they reach what they are meant to check.
#[test]
fn random_commands_reach_every_answer() {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 100);
    let mut tally = BTreeMap::new();
    for _ in 0..100 {
        let mut driver = Driver::new();
        for (user, step) in steps.new_tree(&mut runner).unwrap().current() {
            driver.step(user, &step);
        }
        for (answer, count) in driver.tally {
            *tally.entry(answer).or_insert(0) += count;
        }
    }
    let reached = |kind: &'static str, code: u32| tally.get(&(kind, code)).copied().unwrap_or(0);
    let kinds = [
        "replace",
        "append",
        "range",
        "publish staged",
        "make directory",
        "make link",
        "rename",
        "delete",
        "delete tree",
        "set attributes",
        "stage",
        "stage extend",
        "stage abandon",
        "convert inline",
    ];
    for kind in kinds {
        assert!(
            reached(kind, 0) >= 20,
            "{kind} succeeded {} times: {tally:?}",
            reached(kind, 0)
        );
    }
    use Code::*;
    let refusals = [
        NotFound,
        Exists,
        NotEmpty,
        IsADirectory,
        NotADirectory,
        IsALink,
        PreconditionFailed,
        Invalid,
        Range,
        Denied,
        InlineRefused,
    ];
    for code in refusals {
        let met: u64 = kinds.iter().map(|kind| reached(kind, code.number())).sum();
        assert!(met >= 20, "{code} was met {met} times: {tally:?}");
    }
}
