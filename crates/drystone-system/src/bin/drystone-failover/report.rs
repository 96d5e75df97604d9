//! The table at the end.

use crate::round::Round;
use std::fmt::Write as _;
use std::time::Duration;

/// Within what 99 of 100 failovers shall serve reads, small and large writes.
pub const GOALS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
const NAMES: [&str; 3] = ["read", "small write", "large write"];

/// What a run found.
pub fn table(rounds: &[Round]) -> String {
    let mut out = format!(
        "\nfrom the kill of the leader to the first success, {} failovers\n\
         kind         within goal      p50      p90      p99    worst\n",
        rounds.len()
    );
    for (kind, (name, goal)) in NAMES.iter().zip(GOALS).enumerate() {
        let mut times: Vec<Duration> = rounds.iter().map(|round| round.recovered[kind]).collect();
        times.sort();
        let within = times.iter().filter(|time| **time <= goal).count();
        let at = |part: f64| {
            let rank = (times.len() as f64 * part).ceil() as usize;
            times[rank.clamp(1, times.len()) - 1].as_secs_f64()
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{name:<12} {within:>4} of {:<4} {:>6.2} s {:>6.2} s {:>6.2} s {:>6.2} s   (goal: 99 % within {} s)",
            times.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            goal.as_secs()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_counts_what_is_within_the_goal() {
        let round = |millis| Round {
            recovered: [Duration::from_millis(millis); 3],
        };
        let rounds: Vec<Round> = [400, 500, 1_500].into_iter().map(round).collect();
        let text = table(&rounds);
        assert!(
            text.contains("read            2 of 3      0.50 s   1.50 s   1.50 s   1.50 s"),
            "{text}"
        );
        assert!(text.contains("large write     3 of 3 "), "{text}");
    }
}
