//! Breadth first: the first way that is found to a broken invariant is a shortest one.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// What happens, and a number that says more.
pub type Step = (&'static str, u8);

/// A set of states and the steps between them.
pub trait Model {
    /// One state.
    type State: Clone + Ord + fmt::Debug;

    /// Where everything begins.
    fn start(&self) -> Self::State;

    /// Every step that may be next, with where it leads.
    fn steps(&self, state: &Self::State, step: &mut dyn FnMut(Step, Self::State));

    /// The same for all states that differ in the names of replicas only, which do not matter.
    fn unnamed(&self, state: Self::State) -> Self::State {
        state
    }

    /// The invariant that does not hold in `state`.
    fn fault(&self, state: &Self::State) -> Option<&'static str>;
}

/// A way to a state that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// What does not hold.
    pub fault: &'static str,
    /// The steps that lead there.
    pub steps: Vec<String>,
    /// The state, in words.
    pub state: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} after {}: {}",
            self.fault,
            self.steps.join(", "),
            self.state
        )
    }
}

impl std::error::Error for Counterexample {}

/// Visits every state that can be reached; gives their number.
///
/// # Errors
/// The shortest way to a state with a fault.
pub fn explore<M: Model>(model: &M) -> Result<usize, Counterexample> {
    // How each state was reached first: from the state at that place, by that step.
    let mut ways: Vec<(usize, Step)> = vec![(0, ("start", 0))];
    let mut known = BTreeSet::from([model.start()]);
    let mut queue = VecDeque::from([model.start()]);
    let mut at = 0;
    while let Some(state) = queue.pop_front() {
        if let Some(fault) = model.fault(&state) {
            return Err(Counterexample {
                fault,
                steps: steps_to(&ways, at),
                state: format!("{state:?}"),
            });
        }
        model.steps(&state, &mut |step, next| {
            let next = model.unnamed(next);
            if known.insert(next.clone()) {
                queue.push_back(next);
                ways.push((at, step));
            }
        });
        at += 1;
    }
    Ok(known.len())
}

fn steps_to(ways: &[(usize, Step)], mut at: usize) -> Vec<String> {
    let mut steps = Vec::new();
    while at > 0 {
        let (before, (what, number)) = ways[at];
        steps.push(format!("{what} {number}"));
        at = before;
    }
    steps.reverse();
    steps
}
