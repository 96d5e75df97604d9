//! Small models of protocols, of which every order of steps is tried.
//!
//! The simulation runs the code on some orders; here a model of the rules runs on all, within bounds. Of a chunk: three
//! replicas, two appends, two recoveries that overlap, one lost disk. Of a voter that moves: three terms, logs of six
//! entries. Of a disk: its units, and checkpoints of its index that write what has changed. What is not built yet (the
//! leader's half of a seal) is checked before it is. Each rule can be left out: then the search must find the harm, or the
//! model shows nothing.

mod checkpoint;
mod floor;
mod seal;
mod search;
mod space;
mod voter;

pub use checkpoint::{Checkpoint, CheckpointRule};
pub use floor::{Floor, FloorRule};
pub use seal::{Seal, SealRule};
pub use search::{Counterexample, Model, Step, explore};
pub use space::{Space, SpaceRule};
pub use voter::{Voter, VoterRule};

/// Tries every order of steps of each model; gives what was tried and the number of states.
///
/// # Errors
/// The shortest way to a broken invariant.
pub fn run() -> Result<Vec<(String, usize)>, Counterexample> {
    let mut found = Vec::new();
    for quorum in [2, 3] {
        let states = explore(&Seal::new(quorum))?;
        found.push((format!("append, seal, delete; {quorum} of 3 acknowledge"), states));
    }
    found.push((
        "commit, floor, repair, delete".to_owned(),
        explore(&Floor::new())?,
    ));
    found.push(("a voter moves".to_owned(), explore(&Voter::new())?));
    found.push(("units of a disk".to_owned(), explore(&Space::new())?));
    found.push(("checkpoints of a disk".to_owned(), explore(&Checkpoint::new())?));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_order_of_steps_breaks_an_invariant() {
        let found = run().unwrap_or_else(|fault| panic!("{fault}"));
        for (what, states) in found {
            assert!(states > 10_000, "{what}: {states} states");
        }
    }

    /// Leaves out each rule: the search must find the harm.
    fn each_is_needed<R: Copy + std::fmt::Debug, M: Model>(rules: &[R], without: impl Fn(R) -> M) {
        for rule in rules {
            let fault = explore(&without(*rule)).err();
            let fault = fault.unwrap_or_else(|| panic!("{rule:?} is not needed"));
            assert!(!fault.steps.is_empty(), "{rule:?}: {fault}");
        }
    }

    #[test]
    fn a_seal_without_any_of_its_rules_does_harm() {
        each_is_needed(&SealRule::ALL, |rule| Seal::new(2).without(rule));
    }

    #[test]
    fn a_voter_that_moves_without_any_of_the_rules_does_harm() {
        each_is_needed(&VoterRule::ALL, |rule| Voter::new().without(rule));
    }

    #[test]
    fn units_without_any_of_their_rules_do_harm() {
        each_is_needed(&SpaceRule::ALL, |rule| Space::new().without(rule));
    }

    #[test]
    fn checkpoints_without_any_of_their_rules_do_harm() {
        each_is_needed(&CheckpointRule::ALL, |rule| Checkpoint::new().without(rule));
    }

    #[test]
    fn deletion_without_any_of_its_rules_does_harm() {
        each_is_needed(&FloorRule::ALL, |rule| Floor::new().without(rule));
    }
}
