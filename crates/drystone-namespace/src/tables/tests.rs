//! Every short sequence of changes, flushes and views reads as a plain map does, whichever layers hold the keys.

use super::{LayerMerge, Tables};
use crate::key::Key;
use crate::memory::MemoryStore;
use crate::records::{MarkRecord, encode};
use crate::store::{Batch, Order, OrderedStore, ReadOnly};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What happens to the tables; every change is a command of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Put,
    PutNew,
    Delete,
    /// A command that deletes, sets and deletes again, and is refused.
    Refused,
    /// Apply reads, so the cache may remember.
    Load,
    Freeze,
    /// The frozen batch is written, then the tables are told.
    Flush,
    /// A view is made: it shows what is there now, whatever comes.
    Seal,
    /// A merge of sealed layers begins, or the one under way ends.
    Merge,
}

use Act::*;

const ACTS: [Act; 9] = [Put, PutNew, Delete, Refused, Load, Freeze, Flush, Seal, Merge];

type Model = BTreeMap<Vec<u8>, Bytes>;

struct Case {
    tables: Tables<MemoryStore>,
    model: Model,
    frozen: Option<Batch>,
    merging: Option<LayerMerge>,
    changes: u64,
    /// Views, with what they must show.
    views: Vec<(Tables<ReadOnly>, Model)>,
}

fn key() -> Key {
    Key::from_slice(&[1, 5])
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            tables: Tables::new(Arc::new(MemoryStore::new())),
            model: Model::new(),
            frozen: None,
            merging: None,
            changes: 0,
            views: Vec::new(),
        };
        // A neighbour on each side, so that scans have something to join.
        for beside in [[1, 4], [1, 6]] {
            case.set(Key::from_slice(&beside), true);
        }
        case
    }

    fn set(&mut self, key: Key, free: bool) {
        self.changes += 1;
        let record = MarkRecord { since: self.changes };
        self.model.insert(key.as_slice().to_vec(), encode(&record));
        if free {
            self.tables.put_new(key, &record);
        } else {
            self.tables.put(key, &record);
        }
        self.tables.commit();
    }

    fn can(&self, act: Act) -> bool {
        match act {
            PutNew => !self.model.contains_key(key().as_slice()),
            Freeze => self.frozen.is_none(),
            Flush => self.frozen.is_some(),
            Merge => self.merging.is_some() || self.tables.sealed.len() > 1,
            _ => true,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Put => self.set(key(), false),
            PutNew => self.set(key(), true),
            Delete => {
                self.model.remove(key().as_slice());
                self.tables.delete(key());
                self.tables.commit();
            }
            Refused => {
                self.tables.delete(key());
                self.tables.put(key(), &MarkRecord { since: u64::MAX });
                self.tables.delete(key());
                self.tables.rollback();
            }
            Load => {
                let expected = self.model.get(key().as_slice());
                assert_eq!(self.tables.load(&key()).unwrap().as_ref(), expected);
            }
            Freeze => self.frozen = self.tables.freeze().map(Batch::of_layers),
            Flush => {
                let batch = self.frozen.take().unwrap();
                self.tables.store().write(&batch).unwrap();
                self.check("written, and the tables do not know");
                drop(self.tables.thaw(Arc::clone(batch.layer())));
            }
            Seal => {
                let store = ReadOnly::new(self.tables.store().view().unwrap());
                let view = Tables::over(Arc::new(store), self.tables.seal());
                self.views.push((view, self.model.clone()));
            }
            Merge => match self.merging.take() {
                Some(merge) => drop(self.tables.end_merge(merge.run())),
                None => self.merging = self.tables.begin_merge(),
            },
        }
    }

    fn check(&self, when: &str) {
        check(&self.tables, &self.model, when);
        for (view, model) in &self.views {
            check(view, model, &format!("in a view, {when}"));
        }
    }
}

/// Looks the key up and scans its neighbourhood.
fn check<S: OrderedStore>(tables: &Tables<S>, model: &Model, when: &str) {
    let expected = model.get(key().as_slice());
    assert_eq!(
        tables.get(&key()).unwrap().as_ref(),
        expected,
        "looked up, {when}"
    );
    for order in [Order::Up, Order::Down] {
        let mut scanned = Vec::new();
        let visited = tables.scan(&[1], &[2], order, &mut |key, value| {
            scanned.push((key.to_vec(), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        });
        visited.unwrap();
        if order == Order::Down {
            scanned.reverse();
        }
        let expected: Vec<_> = model.clone().into_iter().collect();
        assert_eq!(scanned, expected, "scanned {order:?}, {when}");
    }
}

/// Runs `acts`, then everything that can follow them, up to `depth` in all.
fn explore(acts: &mut Vec<Act>, depth: usize, count: &mut u64) {
    let mut case = Case::new();
    for act in &*acts {
        case.act(*act);
    }
    case.check(&format!("after {acts:?}"));
    *count += 1;
    if acts.len() == depth {
        return;
    }
    for act in ACTS.into_iter().filter(|act| case.can(*act)) {
        acts.push(act);
        explore(acts, depth, count);
        acts.pop();
    }
}

#[test]
fn every_short_sequence_of_changes_and_flushes_reads_as_a_map() {
    let mut count = 0;
    explore(&mut Vec::new(), 6, &mut count);
    assert!(count > 20_000, "only {count} sequences");
}

/// Layers are merged while commands, views and batches go on.
#[test]
fn every_short_sequence_around_a_merge_reads_as_a_map() {
    let mut count = 0;
    let mut acts = vec![Seal, Put, Seal, Delete, Seal, Merge];
    let depth = acts.len() + 4;
    explore(&mut acts, depth, &mut count);
    assert!(count > 1_000, "only {count} sequences");
}

#[test]
fn a_view_of_large_layers_copies_none_of_them_and_they_are_merged_apart() {
    let mut case = Case::new();
    let fill = |case: &mut Case, from: u64| {
        for n in from..from + 10_000 {
            case.set(crate::key::numbers(1, [n]), true);
        }
    };
    fill(&mut case, 0);
    let first = case.tables.seal();
    fill(&mut case, 5_000_000);
    let second = case.tables.seal();
    assert_eq!((first.len(), second.len()), (1, 2), "a layer for each view");
    assert!(Arc::ptr_eq(&first[0], &second[1]), "what was sealed is shared");
    // While they are merged, a command and a view come between.
    let merge = case.tables.begin_merge().unwrap();
    assert!(case.tables.begin_merge().is_none(), "once");
    case.act(Put);
    let third = case.tables.seal();
    drop(case.tables.end_merge(merge.run()));
    let fourth = case.tables.seal();
    assert_eq!((third.len(), fourth.len()), (3, 2));
    assert!(
        Arc::ptr_eq(&third[0], &fourth[0]),
        "what came meanwhile stays above"
    );
    assert_eq!(fourth[1].len(), 20_002);
    assert!(
        case.tables.begin_merge().is_none(),
        "a small layer over a large one is left"
    );
    // A batch takes the layers while they are merged.
    fill(&mut case, 9_000_000);
    case.tables.seal();
    let merge = case.tables.begin_merge().unwrap();
    case.act(Freeze);
    drop(case.tables.end_merge(merge.run()));
    case.check("merged layers are on their way to the store");
    assert!(case.tables.sealed.is_empty());
    case.act(Flush);
    case.check("and are written");
}

#[test]
fn layers_that_are_not_needed_any_more_are_given_to_the_caller_to_drop() {
    let mut case = Case::new();
    let seal = |case: &mut Case, numbers: std::ops::Range<u64>| {
        for n in numbers {
            case.set(crate::key::numbers(1, [n]), true);
        }
        Arc::downgrade(&case.tables.seal()[0])
    };
    let (first, second) = (seal(&mut case, 0..10), seal(&mut case, 10..20));
    let merge = case.tables.begin_merge().unwrap();
    let old = case.tables.end_merge(merge.run());
    assert_eq!(
        (first.strong_count(), second.strong_count()),
        (1, 1),
        "in no table"
    );
    drop(old);
    assert_eq!((first.strong_count(), second.strong_count()), (0, 0));
    // A batch takes the layers while they are merged: then it is the merged one that nobody needs.
    let third = seal(&mut case, 20..40);
    let merge = case.tables.begin_merge().unwrap().run();
    let merged = Arc::downgrade(&merge.layer);
    let mut batch = Batch::of_layers(case.tables.freeze().unwrap());
    let old = case.tables.end_merge(merge);
    assert_eq!(merged.strong_count(), 1);
    drop(old);
    assert_eq!(merged.strong_count(), 0);
    // What is written takes the place of the batch before.
    let mut before = None;
    for n in 40..42 {
        let written = Arc::clone(batch.layer());
        let now = Arc::downgrade(&written);
        drop(batch);
        let old = case.tables.thaw(written);
        if let Some(before) = before.replace(now) {
            let before: std::sync::Weak<super::Layer> = before;
            assert_eq!(before.strong_count(), 1, "the caller drops it");
            drop(old);
            assert_eq!(before.strong_count(), 0);
        }
        case.set(crate::key::numbers(1, [n]), true);
        batch = Batch::of_layers(case.tables.freeze().unwrap());
    }
    assert_eq!(third.strong_count(), 0);
}

/// All layers hold the key at once, each with another answer; the newest counts.
#[test]
fn the_newest_of_all_layers_is_read() {
    let mut case = Case::new();
    for (n, act) in [
        PutNew, Freeze, Flush, Delete, Freeze, Flush, Put, Freeze, Delete, Refused,
    ]
    .into_iter()
    .enumerate()
    {
        case.act(act);
        case.check(&format!("{act:?}, act {n}"));
    }
    assert_eq!(case.tables.get(&key()).unwrap(), None);
    for (n, act) in [Load, Flush, Load, Freeze, Load, Flush, Load]
        .into_iter()
        .enumerate()
    {
        case.act(act);
        case.check(&format!("{act:?}, act {n} of the end"));
    }
}

/// The batch after the next one pushes a key out of the batch written last, so that the cache and the store answer.
#[test]
fn a_change_ends_what_the_cache_remembers() {
    let out = [Freeze, Flush, Freeze, Flush];
    for change in [Put, Delete] {
        let mut case = Case::new();
        case.act(PutNew);
        out.iter().for_each(|act| case.act(*act));
        case.act(Load);
        case.act(change);
        out.iter().for_each(|act| case.act(*act));
        case.act(Load);
        case.check(&format!("{change:?} after it was loaded"));
    }
}
