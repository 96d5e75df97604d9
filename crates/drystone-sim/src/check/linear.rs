//! Linearizability of the namespace: is there an order of the operations, true to their times, in which the model
//! gives every answer that was given?
//!
//! The search of Wing and Gong with Lowe's memory of visited states. Operations whose outcome is unknown may
//! take effect at any time after their beginning, or never. It ends after a number of steps without a verdict if
//! too many are open at once; that is counted, never passed as a proof.

use crate::content::Digests;
use crate::history::Call;
use crate::model::{Model, Seen};
use std::collections::BTreeSet;

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none: what could not be explained.
    Violation(String),
    /// Not decided within the steps allowed.
    Undecided,
}

struct Search<'a> {
    calls: &'a [Call],
    digests: Digests,
    visited: BTreeSet<(Vec<u64>, Model)>,
    steps: u64,
    /// The longest order found, and the state at its end.
    best: (Vec<usize>, Model),
    order: Vec<usize>,
}

enum Found {
    Yes,
    No,
    OutOfSteps,
}

/// Checks a history, looking at `steps` states at most.
pub fn check(calls: &[Call], steps: u64) -> Verdict {
    let mut search = Search {
        calls,
        digests: Digests::default(),
        visited: BTreeSet::new(),
        steps,
        best: (Vec::new(), Model::default()),
        order: Vec::new(),
    };
    let mut open = vec![0; calls.len().div_ceil(64)];
    for (at, call) in calls.iter().enumerate() {
        // A look that never ended says nothing.
        if call.seen.is_some() || call.op.is_change() {
            open[at / 64] |= 1 << (at % 64);
        }
    }
    match search.from(&open, &Model::default()) {
        Found::Yes => Verdict::Linearizable,
        Found::OutOfSteps => Verdict::Undecided,
        Found::No => Verdict::Violation(search.explain(&open)),
    }
}

fn is_open(open: &[u64], at: usize) -> bool {
    open[at / 64] >> (at % 64) & 1 == 1
}

impl Search<'_> {
    fn from(&mut self, open: &[u64], model: &Model) -> Found {
        if self.steps == 0 {
            return Found::OutOfSteps;
        }
        self.steps -= 1;
        if self.order.len() > self.best.0.len() {
            self.best = (self.order.clone(), model.clone());
        }
        let (mut horizon, mut left) = (u64::MAX, false);
        for (at, call) in self.calls.iter().enumerate() {
            if is_open(open, at) && call.seen.is_some() {
                left = true;
                horizon = horizon.min(call.returned.unwrap_or(u64::MAX));
            }
        }
        if !left {
            return Found::Yes;
        }
        if !self.visited.insert((open.to_vec(), model.clone())) {
            return Found::No;
        }
        // Those with an answer first: the unknown ones are needed only where these do not get on.
        for known in [true, false] {
            for at in 0..self.calls.len() {
                let call = &self.calls[at];
                if !is_open(open, at) || call.seen.is_some() != known || call.invoked > horizon {
                    continue;
                }
                let (next, told) = model.apply(&call.op, &mut self.digests);
                let fits = match &call.seen {
                    Some(Seen::Refused(kind)) if matches!(told, Seen::Refused(_)) => {
                        told == Seen::Refused(*kind) || model.may_refuse(&call.op, *kind)
                    }
                    Some(seen) => *seen == told,
                    None => !matches!(told, Seen::Refused(_)),
                };
                if !fits {
                    continue;
                }
                let mut rest = open.to_vec();
                rest[at / 64] &= !(1 << (at % 64));
                self.order.push(at);
                match self.from(&rest, &next) {
                    Found::No => {
                        self.order.pop();
                    }
                    found => return found,
                }
            }
        }
        Found::No
    }

    fn explain(&mut self, all: &[u64]) -> String {
        let (order, model) = self.best.clone();
        let mut text =
            String::from("no order of the operations explains the answers\nlongest order found:\n");
        for at in order.iter().rev().take(12).rev() {
            text += &format!("  {}\n", self.calls[*at]);
        }
        text += "then none of these fits:\n";
        let left = |at: usize| is_open(all, at) && !order.contains(&at);
        let horizon = (0..self.calls.len()).filter(|at| left(*at) && self.calls[*at].seen.is_some());
        let horizon = horizon
            .filter_map(|at| self.calls[at].returned)
            .min()
            .unwrap_or(u64::MAX);
        for at in 0..self.calls.len() {
            let call = &self.calls[at];
            if left(at) && call.invoked <= horizon {
                let (_, told) = model.apply(&call.op, &mut self.digests);
                text += &format!("  {call}, but would be {told:?}\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Piece, digest};
    use crate::model::Op;
    use drystone_client::ErrorKind;

    fn call(client: u32, times: (u64, u64), op: Op, seen: Seen) -> Call {
        Call {
            client,
            op,
            invoked: times.0,
            returned: Some(times.1),
            seen: Some(seen),
        }
    }

    fn put(client: u32, times: (u64, u64), path: &str, write: u32) -> Call {
        let op = Op::Put {
            path: path.to_owned(),
            piece: Piece::whole(write, 10),
            absent: false,
        };
        call(client, times, op, Seen::Done)
    }

    fn get(client: u32, times: (u64, u64), path: &str, write: Option<u32>) -> Call {
        let seen = match write {
            Some(write) => Seen::Content(digest(&Piece::whole(write, 10).bytes())),
            None => Seen::Refused(ErrorKind::NotFound),
        };
        call(
            client,
            times,
            Op::Get {
                path: path.to_owned(),
            },
            seen,
        )
    }

    fn unknown(mut call: Call) -> Call {
        (call.returned, call.seen) = (None, None);
        call
    }

    fn violates(calls: &[Call]) -> bool {
        match check(calls, 100_000) {
            Verdict::Linearizable => false,
            Verdict::Violation(_) => true,
            Verdict::Undecided => panic!("undecided"),
        }
    }

    #[test]
    fn concurrent_writes_may_be_seen_in_one_order_only() {
        let writes = [put(1, (0, 10), "a", 1), put(2, (0, 10), "a", 2)];
        let with = |reads: &[Call]| [&writes[..], reads].concat();
        assert!(!violates(&with(&[
            get(3, (11, 12), "a", Some(1)),
            get(3, (13, 14), "a", Some(1))
        ])));
        assert!(!violates(&with(&[
            get(3, (5, 6), "a", Some(1)),
            get(3, (13, 14), "a", Some(2))
        ])));
        assert!(violates(&with(&[
            get(3, (11, 12), "a", Some(1)),
            get(3, (13, 14), "a", Some(2))
        ])));
    }

    #[test]
    fn an_acknowledged_write_is_never_lost_and_a_stale_read_is_seen() {
        assert!(violates(&[put(1, (0, 10), "a", 1), get(2, (11, 12), "a", None)]));
        assert!(!violates(&[put(1, (0, 10), "a", 1), get(2, (9, 12), "a", None)]));
        let stale = [
            put(1, (0, 1), "a", 1),
            put(1, (2, 3), "a", 2),
            get(2, (4, 5), "a", Some(1)),
        ];
        assert!(violates(&stale));
    }

    #[test]
    fn an_unknown_write_may_come_late_but_only_once() {
        let write = unknown(put(1, (0, 0), "a", 1));
        let late = |second| {
            vec![
                write.clone(),
                get(2, (5, 6), "a", None),
                get(2, (50, 60), "a", Some(1)),
                put(2, (70, 71), "a", 2),
                get(2, (80, 81), "a", second),
            ]
        };
        assert!(!violates(&late(Some(2))));
        assert!(violates(&late(Some(1))), "applied twice");
    }

    #[test]
    fn a_refused_change_must_not_have_happened() {
        let op = Op::Put {
            path: "a".into(),
            piece: Piece::whole(7, 10),
            absent: true,
        };
        let refused = call(1, (0, 1), op, Seen::Refused(ErrorKind::Exists));
        assert!(
            violates(&[refused.clone(), get(1, (2, 3), "a", None)]),
            "nothing was there"
        );
        assert!(violates(&[
            put(2, (0, 1), "a", 1),
            refused,
            get(1, (2, 3), "a", Some(7))
        ]));
    }

    #[test]
    fn a_rename_is_one_step_on_two_names() {
        let rename = |times| {
            let op = Op::Rename {
                from: "a".into(),
                to: "b".into(),
                overwrite: false,
            };
            call(1, times, op, Seen::Done)
        };
        let base = |a, b| {
            vec![
                put(1, (0, 1), "a", 1),
                rename((2, 9)),
                get(2, (3, 4), "b", b),
                get(2, (5, 6), "a", a),
            ]
        };
        assert!(!violates(&base(Some(1), None)));
        assert!(!violates(&base(None, Some(1))));
        assert!(!violates(&base(None, None)));
        assert!(violates(&base(Some(1), Some(1))), "in both places");
    }

    #[test]
    fn too_many_steps_are_no_proof() {
        let calls: Vec<Call> = (0..12).map(|n| put(n, (0, 100), "a", n)).collect();
        assert_eq!(check(&calls, 5), Verdict::Undecided);
    }
}
