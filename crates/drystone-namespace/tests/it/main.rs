//! The namespace as its users see it.

mod cluster;
mod commands;
mod driver;
mod invariants;
mod model;
mod sessions;
mod stores;

use driver::{Driver, fate, replay, step};
use proptest::prelude::*;

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
    #![proptest_config(cases(200))]

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
        let hash = driver.cluster.ns.state_hash().unwrap();
        replay(&driver.cluster.log, &fates, hash);
    }
}
