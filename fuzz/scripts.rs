//! Random scripts of damage, for the tests of the crates whose images are damaged so.

use drystone_env::{Rng, SeededRng};

/// Calls `body` with scripts of `SimDisk::damage` of one to four changes, for machines without a fuzzer. How many:
/// `DRYSTONE_SCRIPTS`, or `usual`.
pub fn random(usual: u64, longest: usize, body: fn(&[u8])) {
    let told = std::env::var("DRYSTONE_SCRIPTS").ok();
    for seed in 0..told.and_then(|told| told.parse().ok()).unwrap_or(usual) {
        let mut rng = SeededRng::new(seed).split("script");
        let mut script = vec![0; 1 + rng.below(longest as u64) as usize];
        rng.fill(&mut script);
        // Most bytes of a format are small, and what is at the start of a block counts most.
        for byte in &mut script {
            if rng.chance(1, 2) {
                *byte %= 8;
            }
        }
        // Shown if the test fails.
        println!("seed {seed}: {script:?}");
        body(&script);
    }
}
