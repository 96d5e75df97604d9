//! The seeds of the fuzz targets `raft-log`, `raft-records` and `raft-messages`, and all that a fuzzer once found.

#[path = "../../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../../fuzz/scripts.rs"]
mod scripts;

use crate::fuzzed;

#[test]
fn every_log_of_the_corpus_opens_or_is_refused() {
    replay::replay("raft-log", 20, fuzzed::log);
}

#[test]
fn every_list_of_records_of_the_corpus_opens_or_is_refused() {
    replay::replay("raft-records", 12, fuzzed::records);
}

#[test]
fn every_message_of_the_corpus_is_taken_or_dropped() {
    replay::replay("raft-messages", 12, fuzzed::messages);
}

#[test]
fn every_log_of_random_changes_opens_or_is_refused() {
    scripts::random(200, 33, fuzzed::log);
}

#[test]
fn every_list_of_random_records_opens_or_is_refused() {
    scripts::random(200, 60, fuzzed::records);
}

#[test]
fn random_messages_are_taken_or_dropped() {
    scripts::random(300, 120, fuzzed::messages);
}

/// One seed for each kind of change, in each image, and some that combine them.
#[test]
fn the_corpus_of_logs_holds_the_seeds() {
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("lone", vec![0]),
        ("follower", vec![1]),
        ("restored", vec![2]),
        ("lone-unmarked", vec![3]),
        ("follower-unmarked", vec![4]),
        ("restored-unmarked", vec![5]),
        ("flip-header", vec![0, 0, 0, 1, 0, 24, 0, 3, 0]),
        ("flip-entry", vec![1, 0, 0, 2, 0, 0, 2, 3, 0]),
        ("flip-vote", vec![4, 0, 1, 4, 0, 100, 0, 1, 0]),
        ("zero-block", vec![1, 1, 1, 2, 0, 0, 0, 0, 0]),
        ("truncate", vec![2, 2, 0, 3, 0, 10, 1, 0, 0]),
        ("copy-block", vec![0, 3, 1, 3, 0, 0, 0, 2, 1]),
        ("remove-first", vec![1, 4, 0, 0, 0, 0, 0, 0, 0]),
        ("remove-second", vec![0, 4, 1, 0, 0, 0, 0, 0, 0]),
        ("remove-third", vec![0, 4, 2, 0, 0, 0, 0, 0, 0]),
        ("exchange", vec![1, 5, 0, 0, 0, 0, 0, 0, 1]),
        ("longer", vec![2, 6, 0, 0, 0, 0, 0, 0, 0]),
        ("forged-kind", vec![0, 135, 0, 0, 0, 100, 0, 0, 0, 9]),
        ("forged-term", vec![1, 136, 0, 0, 0, 104, 0, 2, 0]),
        ("forged-index", vec![1, 136, 0, 0, 0, 112, 0, 2, 0]),
        ("forged-lengths", vec![2, 136, 0, 0, 0, 120, 0, 2, 0]),
        ("forged-base", vec![2, 136, 1, 0, 0, 112, 0, 2, 0]),
    ];
    replay::seeds("raft-log", &seeds);
}

/// A record's head: kind, flags, three numbers.
fn head(kind: u8, flags: u8, numbers: [u64; 3]) -> Vec<u8> {
    let mut bytes = vec![kind, 1, flags, 0];
    bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    bytes
}

fn entry(flags: u8, term: u64, index: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = head(1, flags, [term, index, (data.len() as u64) << 32]);
    bytes.extend_from_slice(data);
    bytes
}

fn state(term: u64, vote: u64, commit: u64) -> Vec<u8> {
    head(2, 0, [term, vote, commit])
}

fn base(flags: u8, node: u64, index: u64, term: u64, voters: &[u8]) -> Vec<u8> {
    let mut bytes = head(3, flags, [node, index, term]);
    bytes.extend([&[0x0a, voters.len() as u8], voters].concat());
    bytes
}

fn list(applied: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let framed = records.iter().flat_map(|record| {
        let length = record.len() as u8;
        [&[length], record.as_slice()].concat()
    });
    [applied].into_iter().chain(framed).collect()
}

#[test]
fn the_corpus_of_records_holds_the_seeds() {
    let (alone, begun) = (base(1, 1, 1, 1, &[1]), state(1, 0, 1));
    let grown = |more: &[Vec<u8>]| list(1, &[&[alone.clone(), begun.clone()], more].concat());
    let max = u64::MAX;
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("none", vec![]),
        ("begun", grown(&[])),
        (
            "of-three",
            list(1, &[base(1, 1, 1, 1, &[1, 2, 3]), begun.clone()]),
        ),
        (
            "entries",
            grown(&[
                state(2, 1, 1),
                entry(0, 2, 2, b""),
                entry(0, 2, 3, b"data"),
                state(2, 1, 3),
            ]),
        ),
        (
            "overwritten",
            grown(&[
                state(2, 0, 1),
                entry(0, 2, 2, b"a"),
                entry(0, 2, 3, b"b"),
                state(3, 0, 1),
                entry(0, 3, 2, b"c"),
            ]),
        ),
        (
            "membership",
            grown(&[state(2, 1, 2), entry(1, 2, 2, &[0x12, 4, 8, 2, 0x10, 4])]),
        ),
        (
            "leave-joint",
            grown(&[
                state(2, 1, 3),
                entry(1, 2, 2, &[0x12, 2, 0x10, 4, 0x12, 4, 8, 2, 0x10, 5]),
                entry(1, 2, 3, &[]),
            ]),
        ),
        (
            "purged",
            list(
                4,
                &[
                    alone.clone(),
                    state(2, 1, 3),
                    entry(0, 2, 2, b"a"),
                    entry(0, 2, 3, b"b"),
                    base(0, 1, 2, 2, &[1]),
                    state(2, 1, 3),
                ],
            ),
        ),
        (
            "reset",
            list(
                100,
                &[
                    alone.clone(),
                    state(2, 1, 1),
                    base(1, 1, 100, 2, &[1, 2]),
                    state(2, 0, 100),
                ],
            ),
        ),
        ("of-another", list(1, &[base(1, 2, 1, 1, &[2]), begun.clone()])),
        ("gap", grown(&[state(2, 1, 1), entry(0, 2, 4, b"a")])),
        ("no-base", list(0, std::slice::from_ref(&begun))),
        (
            "last-index",
            list(255, &[base(1, 1, max, 1, &[1]), state(1, 0, max)]),
        ),
        (
            "entry-behind-the-last-index",
            list(
                255,
                &[
                    base(1, 1, max - 1, 1, &[1]),
                    state(1, 0, max),
                    entry(0, 1, max, b"a"),
                ],
            ),
        ),
        ("last-term", grown(&[state(max, 1, 1), entry(0, max, 2, b"a")])),
        (
            "node-zero-votes",
            list(1, &[base(1, 1, 1, 1, &[0, 1]), begun.clone()]),
        ),
        (
            "voter-and-learner",
            list(
                1,
                &[[base(1, 1, 1, 1, &[1]), vec![0x12, 1, 1]].concat(), begun.clone()],
            ),
        ),
        ("cut", grown(&[entry(0, 2, 2, b"data")[..20].to_vec()])),
        (
            "wrong-lengths",
            grown(&[head(1, 0, [2, 2, 0xffff_ffff_ffff_ffff])]),
        ),
    ];
    replay::seeds("raft-records", &seeds);
}

/// Messages by their fields: kind, sender, term, index, term before, commit (as distances), flags, entries.
#[test]
fn the_corpus_of_messages_holds_the_seeds() {
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("append", vec![0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]),
        ("append-and-commit", vec![0, 0, 0, 0, 1, 0, 0, 2, 2, 0, 0]),
        (
            "append-over-another",
            vec![0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 254, 0, 0, 1, 0],
        ),
        ("heartbeat", vec![0, 0, 4, 0, 1, 0, 0, 0, 0]),
        ("vote", vec![0, 8, 29, 0, 2, 0, 1, 1, 0, 0, 0]),
        (
            "votes-of-two",
            vec![0, 8, 29, 0, 2, 0, 1, 1, 0, 0, 0, 0, 2, 1, 0, 1, 0, 0, 0],
        ),
        ("pre-vote", vec![0, 8, 29, 0, 9, 0, 1, 1, 0, 0, 0]),
        ("timeout-now", vec![0, 0, 6, 0, 0, 0, 0, 0, 0]),
        ("leader-proposes", vec![1, 9, 4, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("leader-is-refused", vec![1, 9, 4, 0, 1, 0, 0, 0, 0, 0, 40, 0]),
        ("leader-reads", vec![1, 12, 1, 0, 5, 0, 0, 0, 0, 0, 64]),
        ("leader-changes", vec![1, 10, 2, 2, 14, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("leader-transfers", vec![1, 12, 2, 2, 8, 3]),
        ("leader-deposed", vec![1, 0, 0, 0, 1, 0, 0, 0, 1, 0]),
        ("leader-restarts", vec![1, 9, 4, 13, 8, 29]),
        ("read-of-another", vec![1, 0, 7, 0, 252, 0, 0, 0, 65, 0]),
        ("snapshot", vec![0, 11, 14, 0, 0, 0, 20, 1, 2, 2]),
        (
            "snapshot-and-append",
            vec![0, 11, 14, 0, 0, 0, 20, 1, 2, 2, 0, 0, 0, 0, 0, 0, 1, 1, 0],
        ),
        ("raw", vec![0, 7, 10, 8, 3, 0x10, 1, 0x18, 2, 0x20, 5, 0x30, 1]),
        ("purge-and-restart", vec![1, 9, 1, 12, 4, 0, 13, 14]),
    ];
    replay::seeds("raft-messages", &seeds);
}
