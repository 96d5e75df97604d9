//! A seed that does not replay proves nothing: two fresh processes must tell the same story to the last line.

use std::process::Command;

/// What the simulator says about `seed`, and its trace to the last debug line.
fn told(seed: u64) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_drystone-sim"))
        .args(["--seed", &seed.to_string(), "--verbose", "--digest"])
        .output()
        .expect("the simulator starts");
    // The last lines say how fast it was.
    let text = String::from_utf8(output.stdout).expect("a trace is text");
    text.lines()
        .filter(|line| !line.contains("per CPU second "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_seed_is_the_same_in_two_processes() {
    for seed in [3, 11] {
        let (first, second) = (told(seed), told(seed));
        assert!(
            first.contains(&format!("seed {seed} digest ")),
            "no digest:\n{first}"
        );
        let differs = first.lines().zip(second.lines()).position(|(a, b)| a != b);
        if let Some(line) = differs {
            let at = |text: &str| {
                text.lines()
                    .skip(line.saturating_sub(3))
                    .take(5)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            panic!(
                "seed {seed} differs from line {line} on:\n{}\n---\n{}",
                at(&first),
                at(&second)
            );
        }
        assert_eq!(first.len(), second.len(), "one of them ends earlier");
    }
}

#[test]
fn two_seeds_are_two_runs() {
    assert_ne!(told(3), told(4));
}

#[test]
fn a_seed_is_the_same_after_another_one_in_the_same_process() {
    let digest = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_drystone-sim"))
            .args(arguments)
            .output();
        let text = String::from_utf8(output.expect("the simulator starts").stdout).expect("a trace is text");
        let line = text.lines().find(|line| line.starts_with("seed 4 digest "));
        line.expect("a digest of seed 4").to_owned()
    };
    assert_eq!(
        digest(&["--seed", "4", "--digest"]),
        digest(&["--seed", "3", "--seeds", "2", "--digest"])
    );
}
