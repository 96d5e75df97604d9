//! What one file may look like: the journal of what was asked and what was acknowledged.
//!
//! A slot is a file with two possible names, so that renames are covered. One writer uses it, one operation at a time;
//! after an operation whose outcome is unknown it rests until it was looked at. So at most two states are possible.

use crate::content::{BLOCK, Content, describe, write};
use drystone_system::Http;
use drystone_system::files::Seed;
use std::collections::VecDeque;
use std::fmt::Write as _;

/// Operations of a slot that are kept for a report.
const HISTORY: usize = 16;
/// Files do not grow beyond so many blocks by appends.
const MOST_BLOCKS: u32 = 1024;

/// What lies under the two names.
pub type Pair = [Content; 2];

/// One thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Create or replace.
    Put { name: usize, blocks: u32 },
    /// Add at the end.
    Append { name: usize, blocks: u32 },
    /// Overwrite a part.
    Range { name: usize, first: u32, blocks: u32 },
    /// Delete.
    Delete { name: usize },
    /// Move to the other name, in the place of what is there.
    Rename { name: usize },
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was done and will last.
    Acknowledged,
    /// The product says that nothing was done.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// How large files are.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Most blocks of the common small file.
    pub small: u32,
    /// Most blocks of a large one.
    pub large: u32,
}

/// A file and what is known of it.
#[derive(Debug)]
pub struct Slot {
    /// In every block of it.
    pub id: u32,
    /// Its two paths.
    pub names: [String; 2],
    /// The last acknowledged state, or what was seen since.
    pub known: Pair,
    /// The state after an operation whose outcome is unknown.
    pub maybe: Option<Pair>,
    /// The state after an operation that was refused, and the refusal.
    pub refused: Option<(Pair, String)>,
    next: u32,
    history: VecDeque<String>,
}

/// What a look at a slot found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// What was known.
    Old,
    /// What an unknown operation would have made.
    New,
}

impl Slot {
    /// A slot that nothing was written to.
    pub fn new(id: u32, directory: &str) -> Self {
        Self {
            id,
            names: [format!("{directory}/f{id}-a"), format!("{directory}/f{id}-b")],
            known: [None, None],
            maybe: None,
            refused: None,
            next: 1,
            history: VecDeque::new(),
        }
    }

    /// Draws something to do.
    pub fn plan(&self, seed: &mut Seed, sizes: Sizes) -> Operation {
        let mut below = |limit: u32| (seed.draw() % u64::from(limit.max(1))) as u32;
        let there: Vec<usize> = (0..2).filter(|name| self.known[*name].is_some()).collect();
        let blocks = if below(5) == 0 {
            1 + below(sizes.large)
        } else {
            1 + below(sizes.small)
        };
        let Some(name) = there.get(below(there.len() as u32) as usize).copied() else {
            return Operation::Put {
                name: below(2) as usize,
                blocks,
            };
        };
        let length = self.known[name]
            .as_ref()
            .map_or(0, |content| content.len() as u32);
        match below(20) {
            0..=2 if length + blocks <= MOST_BLOCKS => Operation::Append { name, blocks },
            3..=5 if length > 0 => {
                let first = below(length);
                Operation::Range {
                    name,
                    first,
                    blocks: 1 + below((length - first).min(sizes.large)),
                }
            }
            6..=8 => Operation::Rename { name },
            9 | 10 => Operation::Delete { name },
            _ => Operation::Put { name, blocks },
        }
    }

    /// The state after `operation`.
    fn after(&self, operation: Operation, sequence: u32) -> Pair {
        let mut pair = self.known.clone();
        let run = |blocks: u32| vec![sequence; blocks as usize];
        match operation {
            Operation::Put { name, blocks } => pair[name] = Some(run(blocks)),
            Operation::Append { name, blocks } => {
                pair[name].get_or_insert_default().extend(run(blocks));
            }
            Operation::Range { name, first, blocks } => {
                let content = pair[name].get_or_insert_default();
                content[first as usize..(first + blocks) as usize].fill(sequence);
            }
            Operation::Delete { name } => pair[name] = None,
            Operation::Rename { name } => pair[1 - name] = pair[name].take(),
        }
        pair
    }

    /// Does it, and writes down how it ended.
    pub fn run(&mut self, http: &mut Http, operation: Operation) -> Outcome {
        let sequence = self.next;
        self.next += 1;
        let outcome = self.send(http, operation, sequence);
        let state = self.after(operation, sequence);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history
            .push_back(format!("{sequence} {operation:?}: {outcome:?}"));
        match &outcome {
            Outcome::Acknowledged => (self.known, self.refused) = (state, None),
            Outcome::Refused(why) => self.refused = Some((state, why.clone())),
            Outcome::Unknown(_) => self.maybe = Some(state),
        }
        outcome
    }

    fn send(&self, http: &mut Http, operation: Operation, sequence: u32) -> Outcome {
        let file = |name: usize| format!("/files{}", self.names[name]);
        let length = |name: usize| {
            self.known[name]
                .as_ref()
                .map_or(0, |content| content.len() as u32)
        };
        match operation {
            Operation::Put { name, blocks } => {
                let body = write(self.id, sequence, 0, blocks);
                ask(http, "PUT", &(file(name) + "?parents=true"), &[], &body)
            }
            Operation::Append { name, blocks } => {
                let body = write(self.id, sequence, length(name), blocks);
                ask(http, "POST", &(file(name) + "?append=true"), &[], &body)
            }
            Operation::Range { name, first, blocks } => {
                let body = write(self.id, sequence, first, blocks);
                let (from, to) = (first as usize * BLOCK, (first + blocks) as usize * BLOCK - 1);
                let range = format!("bytes {from}-{to}/*");
                ask(http, "PUT", &file(name), &[("content-range", &range)], &body)
            }
            Operation::Delete { name } => ask(http, "DELETE", &file(name), &[], b""),
            Operation::Rename { name } => {
                let body = serde_json::json!({ "rename_to": self.names[1 - name], "overwrite": true });
                let path = format!("/metadata{}", self.names[name]);
                let json = [("content-type", "application/json")];
                ask(http, "PUT", &path, &json, body.to_string().as_bytes())
            }
        }
    }

    /// Compares what was found with what may be there. What was found is what is known from now on.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn judge(&mut self, found: Pair) -> Result<Verdict, String> {
        let maybe = self.maybe.take();
        let verdict = if found == self.known {
            Ok(Verdict::Old)
        } else if maybe.as_ref() == Some(&found) {
            Ok(Verdict::New)
        } else if let Some((_, why)) = self.refused.as_ref().filter(|(state, _)| *state == found) {
            Err(format!(
                "an operation was done that was refused: {why}; {}",
                self.story(&found, None)
            ))
        } else {
            Err(self.story(&found, maybe.as_ref()))
        };
        (self.known, self.refused) = (found, None);
        verdict
    }

    /// Both names, what may be there, what is there, and what was done last.
    pub fn story(&self, found: &Pair, maybe: Option<&Pair>) -> String {
        let both = |pair: &Pair| format!("{} | {}", describe(&pair[0]), describe(&pair[1]));
        let mut text = format!(
            "{} and {}: found {}, acknowledged {}",
            self.names[0],
            self.names[1],
            both(found),
            both(&self.known)
        );
        if let Some(maybe) = maybe {
            let _ = write!(text, ", possible {}", both(maybe));
        }
        for line in &self.history {
            let _ = write!(text, "\n      {line}");
        }
        text
    }

    /// Bytes that were acknowledged and are to be there.
    pub fn bytes(&self) -> u64 {
        self.known
            .iter()
            .flatten()
            .map(|content| (content.len() * BLOCK) as u64)
            .sum()
    }
}

fn ask(http: &mut Http, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Outcome {
    let answer = match http.try_ask(method, path, headers, body.len() as u64, &mut &body[..]) {
        Ok(answer) => answer,
        Err(fault) => return Outcome::Unknown(format!("no answer: {fault}")),
    };
    let text = || {
        let text = String::from_utf8_lossy(&answer.body);
        format!("{} {}", answer.status, text.chars().take(300).collect::<String>())
    };
    match answer.status {
        200..=299 => Outcome::Acknowledged,
        // The documented codes under which nothing was done.
        404 | 409 | 412 | 413 | 429 | 503 | 507 => Outcome::Refused(text()),
        _ => Outcome::Unknown(text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> Slot {
        let mut slot = Slot::new(1, "/d");
        slot.known = [Some(vec![1, 1]), None];
        slot
    }

    #[test]
    fn operations_change_the_state_as_they_say() {
        let slot = slot();
        let after = |operation| slot.after(operation, 2);
        assert_eq!(after(Operation::Rename { name: 0 }), [None, Some(vec![1, 1])]);
        assert_eq!(after(Operation::Delete { name: 0 }), [None, None]);
        let range = Operation::Range {
            name: 0,
            first: 1,
            blocks: 1,
        };
        assert_eq!(after(range), [Some(vec![1, 2]), None]);
        let append = Operation::Append { name: 0, blocks: 1 };
        assert_eq!(after(append), [Some(vec![1, 1, 2]), None]);
    }

    #[test]
    fn only_old_and_possible_states_are_accepted() {
        let mut one = slot();
        one.maybe = Some([Some(vec![1, 2]), None]);
        assert_eq!(one.judge([Some(vec![1, 2]), None]), Ok(Verdict::New));
        assert_eq!(one.judge([Some(vec![1, 2]), None]), Ok(Verdict::Old));
        assert!(one.judge([Some(vec![1, 1]), None]).is_err(), "it was seen as new");
        let mut two = slot();
        two.maybe = Some([Some(vec![2, 2]), None]);
        assert!(two.judge([Some(vec![2, 1]), None]).is_err(), "a mixture");
        let mut three = slot();
        three.refused = Some(([None, None], "503".to_owned()));
        assert!(three.judge([None, None]).is_err(), "nothing was to be done");
    }
}
