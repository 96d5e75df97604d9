//! One member alone: opening, committing, failing.

use crate::sim::config;
use bytes::Bytes;
use drystone_env::sim::SimDisk;
use drystone_env::{BufferPool, Monotonic, SeededRng};
use drystone_proto::raft::{ConfChange, ConfChangeStep, RaftEntry, RaftMessage};
use drystone_raft::{
    DropReason, EntryKind, FatalError, Input, OpenError, Opened, Output, RaftNode, Start, rescue,
};
use drystone_types::{LogIndex, NodeId};
use std::sync::Arc;

struct Lone {
    disk: SimDisk,
    node: RaftNode,
    now: u64,
    /// Everything but disk work.
    seen: Vec<Output>,
}

fn open(disk: &SimDisk, start: Start, applied: u64) -> Result<(RaftNode, Opened), OpenError> {
    let config = config(1, 1, start, applied);
    RaftNode::open(
        Arc::new(disk.clone()),
        config,
        SeededRng::new(3),
        BufferPool::new(1 << 20),
    )
}

/// As [`open`], with the indexes of what the state machine is given on the way.
fn open_applying(
    disk: &SimDisk,
    applied: u64,
    given: &mut Vec<u64>,
) -> Result<(RaftNode, Opened), OpenError> {
    let config = config(1, 1, Start::Existing, applied);
    let disk = Arc::new(disk.clone());
    let pool = BufferPool::new(1 << 20);
    RaftNode::open_applying(disk, config, SeededRng::new(3), pool, &mut |entry| {
        given.push(entry.index.0);
        Ok(())
    })
}

fn alone() -> Start {
    Start::FirstBoot {
        voters: vec![NodeId(1)],
    }
}

impl Lone {
    fn of(disk: SimDisk, node: RaftNode) -> Self {
        Self {
            disk,
            node,
            now: 0,
            seen: Vec::new(),
        }
    }

    fn new() -> Self {
        let disk = SimDisk::new(5);
        let (node, opened) = open(&disk, alone(), 0).expect("opens");
        assert!(opened.fresh);
        let mut lone = Lone::of(disk, node);
        lone.give(Input::Campaign);
        assert!(lone.node.leads_surely());
        lone
    }

    fn give(&mut self, input: Input) {
        let pool = BufferPool::new(1 << 20);
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            self.now += 10;
            let mut out = Vec::new();
            self.node
                .on_batch(Monotonic(self.now), std::mem::take(&mut inputs), &mut out);
            for output in out {
                match output {
                    Output::Io(request) => inputs.push(Input::Io(request.execute(&pool))),
                    output => self.seen.push(output),
                }
            }
        }
    }

    fn propose(&mut self, token: u64, data: &'static str) {
        self.give(Input::Propose {
            token,
            data: data.into(),
        });
    }

    fn committed(&self) -> Vec<(u64, Option<u64>, String)> {
        let entries = self.seen.iter().filter_map(|output| match output {
            Output::Committed(entries) => Some(entries.clone()),
            _ => None,
        });
        let command = |kind| match kind {
            EntryKind::Command(data) => String::from_utf8(data.to_vec()).expect("text"),
            _ => String::new(),
        };
        entries
            .flatten()
            .map(|entry| (entry.index.0, entry.token, command(entry.kind)))
            .collect()
    }
}

#[test]
fn a_lone_voter_commits_after_its_sync_and_finds_it_again() {
    let mut lone = Lone::new();
    lone.propose(7, "one");
    lone.propose(8, "two");
    let want = [
        (2, None, String::new()),
        (3, Some(7), "one".to_owned()),
        (4, Some(8), "two".to_owned()),
    ];
    assert_eq!(lone.committed(), want);
    assert_eq!(lone.node.voters_synced(LogIndex(4)), 1);
    assert_eq!(lone.node.voters_synced(LogIndex(5)), 0);
    lone.disk.crash();
    let (node, opened) = open(&lone.disk, Start::Existing, 3).unwrap();
    assert_eq!((opened.fresh, opened.last), (false, LogIndex(4)));
    let disk = lone.disk.clone();
    let mut lone = Lone::of(disk, node);
    lone.give(Input::Campaign);
    assert_eq!(
        lone.committed(),
        [(4, None, "two".to_owned()), (5, None, String::new())]
    );
}

#[test]
fn nothing_is_committed_before_the_sync_completes() {
    let mut lone = Lone::new();
    let pool = BufferPool::new(1 << 20);
    let mut out = Vec::new();
    lone.node.on(
        Monotonic(900),
        Input::Propose {
            token: 1,
            data: "x".into(),
        },
        &mut out,
    );
    let mut steps = 0;
    loop {
        let committed = out.iter().any(|output| matches!(output, Output::Committed(_)));
        let work: Vec<_> = out
            .drain(..)
            .filter_map(|output| match output {
                Output::Io(request) => Some(request),
                _ => None,
            })
            .collect();
        if committed {
            break;
        }
        steps += 1;
        assert!(!work.is_empty(), "neither committed nor under way");
        for request in work {
            lone.node
                .on(Monotonic(900), Input::Io(request.execute(&pool)), &mut out);
        }
    }
    assert!(steps >= 2, "a write and a sync");
}

#[test]
fn a_failed_sync_stops_the_member_for_good() {
    let mut lone = Lone::new();
    lone.disk.fail_sync(1);
    lone.propose(1, "x");
    assert!(
        matches!(lone.seen.last(), Some(Output::Fatal(FatalError::Log(_)))),
        "{:?}",
        lone.seen.last()
    );
    assert!(lone.node.has_failed());
    let before = lone.seen.len();
    lone.propose(2, "y");
    assert_eq!(lone.seen.len(), before);
    assert!(lone.committed().iter().all(|(_, token, _)| token.is_none()));
}

#[test]
fn an_absent_log_needs_permission() {
    let disk = SimDisk::new(1);
    assert!(matches!(
        open(&disk, Start::Existing, 0),
        Err(OpenError::NoLog { id: NodeId(1) })
    ));
    let (_, opened) = open(&disk, alone(), 0).unwrap();
    assert!(opened.fresh);
    disk.kill();
    let (_, opened) = open(&disk, Start::Existing, 0).unwrap();
    assert!(!opened.fresh);
}

#[test]
fn a_log_behind_its_state_is_refused() {
    let lone = Lone::new();
    lone.disk.kill();
    assert!(matches!(
        open(&lone.disk, Start::Existing, 9),
        Err(OpenError::LogBehindState { .. })
    ));
}

#[test]
fn the_log_of_another_member_is_refused() {
    let lone = Lone::new();
    lone.disk.kill();
    let mut other = config(2, 1, Start::Existing, 0);
    other.log.identity = config(1, 1, Start::Existing, 0).log.identity;
    let opened = RaftNode::open(
        Arc::new(lone.disk.clone()),
        other,
        SeededRng::new(3),
        BufferPool::new(1 << 20),
    );
    assert!(matches!(opened, Err(OpenError::OfAnother { .. })));
}

#[test]
fn damage_is_refused_with_its_place() {
    let mut lone = Lone::new();
    for token in 0..20 {
        lone.propose(token, "some command");
    }
    lone.disk.kill();
    let file = lone
        .disk
        .files()
        .into_iter()
        .find(|name| name.starts_with("raft/"))
        .unwrap();
    lone.disk.flip(&file, 4096 * 2 + 100, 3);
    let error = open(&lone.disk, Start::Existing, 0).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("damaged: raft/"), "{error}");
}

#[test]
fn a_purge_goes_no_further_than_what_is_applied_and_survives_a_restart() {
    let mut lone = Lone::new();
    for token in 0..10 {
        lone.propose(token, "some command");
    }
    lone.give(Input::Applied { index: LogIndex(6) });
    lone.give(Input::Purge { below: LogIndex(100) });
    assert_eq!(lone.node.status().purged, LogIndex(6));
    lone.disk.crash();
    let (_, opened) = open(&lone.disk, Start::Existing, 6).unwrap();
    assert_eq!((opened.purged, opened.last), (LogIndex(6), LogIndex(12)));
    lone.disk.kill();
    assert!(matches!(
        open(&lone.disk, Start::Existing, 5),
        Err(OpenError::StateBehindLog { .. })
    ));
}

#[test]
fn what_is_not_applied_bounds_proposals_and_delivery_and_what_is_resumes_both() {
    let mut lone = Lone::new();
    let big: &'static str = Box::leak("x".repeat(900).into_boxed_str());
    for token in 0..200 {
        lone.propose(token, big);
    }
    let busy = |lone: &Lone| {
        let busy = |output: &&Output| {
            matches!(
                output,
                Output::ProposalDropped {
                    reason: DropReason::Busy,
                    ..
                }
            )
        };
        lone.seen.iter().filter(busy).count()
    };
    // 8 KiB may be committed and not applied, and half of it is in the shell's hands.
    let (refused, given) = (busy(&lone), lone.committed().len());
    assert!((190..=195).contains(&refused), "{refused}");
    assert!((3..=6).contains(&given), "{given}");
    let mut applied = 0;
    loop {
        let delivered = lone.committed();
        let last = delivered.last().map_or(0, |entry| entry.0);
        if last == applied {
            break;
        }
        // One at a time: delivery goes on with the first.
        applied += 1;
        lone.give(Input::Applied {
            index: LogIndex(applied),
        });
    }
    let tokens = lone
        .committed()
        .into_iter()
        .filter_map(|(_, token, _)| token)
        .count();
    assert_eq!(tokens + refused, 200, "every token is answered once");
    lone.propose(200, big);
    assert_eq!(lone.committed().last().map(|entry| entry.1), Some(Some(200)));
}

#[test]
fn what_fits_no_record_is_refused() {
    let mut lone = Lone::new();
    lone.give(Input::Propose {
        token: 1,
        data: vec![0; 1 << 20].into(),
    });
    lone.give(Input::Propose {
        token: 2,
        data: Vec::new().into(),
    });
    let dropped = lone.seen.iter().filter(|output| {
        matches!(
            output,
            Output::ProposalDropped {
                reason: DropReason::Refused,
                ..
            }
        )
    });
    assert_eq!(dropped.count(), 2);
}

#[test]
fn a_leader_that_knows_more_of_this_log_than_this_log_stops_the_member() {
    let disk = SimDisk::new(1);
    let start = Start::FirstBoot {
        voters: (1..4).map(NodeId).collect(),
    };
    let (node, _) = open(&disk, start, 0).unwrap();
    let mut member = Lone::of(disk, node);
    let heartbeat = RaftMessage {
        kind: 8,
        to: 1,
        from: 2,
        term: 3,
        commit: 9,
        ..Default::default()
    };
    member.give(Input::Messages(vec![heartbeat]));
    assert!(matches!(
        member.seen.last(),
        Some(Output::Fatal(FatalError::LogLost { .. }))
    ));
}

#[test]
fn a_member_may_live_on_any_thread() {
    fn check<T: Send>() {}
    check::<RaftNode>();
}

#[test]
fn what_is_intact_of_a_damaged_log_is_rescued_and_a_restored_state_goes_on_in_a_new_log() {
    let mut lone = Lone::new();
    for token in 0..20 {
        lone.propose(token, "some command");
    }
    lone.disk.kill();
    let files = lone.disk.files();
    let file = files.iter().find(|name| name.starts_with("raft/")).unwrap();
    // The batch of the eleventh entry or so; the marks are batches too.
    lone.disk.flip(file, 4096 * 10 + 100, 3);
    assert!(open(&lone.disk, Start::Existing, 0).is_err());
    let log = config(1, 1, Start::Existing, 0).log;
    let rescued = rescue(&lone.disk, &log, &BufferPool::new(1 << 20)).unwrap();
    assert_eq!(rescued.voters, [NodeId(1)]);
    assert_eq!(rescued.log.gaps.len(), 1, "{:?}", rescued.log);
    assert_eq!(rescued.log.gaps[0].offset, 4096 * 10);
    let reached = rescued.reaches(LogIndex(1));
    assert!(reached > LogIndex(4) && reached < LogIndex(22), "{reached}");
    assert_eq!(rescued.reaches(LogIndex(reached.0 + 1)), LogIndex(22));
    let start = Start::Restored {
        index: LogIndex(1000),
        term: drystone_types::Term(rescued.term.0 + 1),
    };
    let disk = SimDisk::new(6);
    let (node, opened) = open(&disk, start, 1000).unwrap();
    assert_eq!((opened.purged, opened.last), (LogIndex(1000), LogIndex(1000)));
    let mut lone = Lone::of(disk, node);
    lone.give(Input::Campaign);
    lone.propose(1, "new");
    assert_eq!(lone.committed().last().unwrap().0, 1002);
}

#[test]
fn who_is_no_voter_does_not_campaign() {
    let disk = SimDisk::new(5);
    let (node, _) = open(&disk, Start::Join, 0).expect("opens");
    let mut member = Lone::of(disk, node);
    member.give(Input::Campaign);
    assert!(!member.node.leads_surely());
}

#[test]
fn a_lone_voter_keeps_on_disk_what_it_forgets() {
    let mut lone = Lone::new();
    let (mut last, mut most) = (2, 0);
    for token in 0..400 {
        lone.propose(token, "a command of some bytes, of which there are many");
        last += 1;
        let index = LogIndex(last);
        lone.give(Input::Applied { index });
        most = most.max(lone.node.status().log_bytes);
    }
    assert!(most <= 17 << 10, "{most} bytes of log in memory");
    assert!(lone.node.status().purged.0 > 200, "nothing was forgotten");
    let asked = lone
        .seen
        .iter()
        .any(|output| matches!(output, Output::PurgeWanted { .. }));
    assert!(!asked, "the disk must be cut to bound memory");
    // A state machine that has lost everything is given all of it, without that all is in memory.
    lone.disk.crash();
    let mut given = Vec::new();
    let (node, opened) = open_applying(&lone.disk, 0, &mut given).unwrap();
    assert_eq!((opened.purged, opened.last), (LogIndex(1), LogIndex(last)));
    assert_eq!(opened.applied.0, *given.last().expect("most of it"));
    let bytes = node.status().log_bytes;
    assert!(bytes <= 17 << 10, "{bytes} bytes of log in memory");
    let mut again = Lone::of(lone.disk.clone(), node);
    again.give(Input::Campaign);
    while let Some((delivered, ..)) = again.committed().last()
        && *delivered > again.node.status().applied.0
    {
        let index = LogIndex(*delivered);
        again.give(Input::Applied { index });
    }
    given.extend(again.committed().iter().map(|(index, ..)| *index));
    assert_eq!(given, (2..=last + 1).collect::<Vec<_>>());
    // What is purged goes up to a place that is known.
    let forgotten = again.node.status().purged;
    again.give(Input::Purge {
        below: LogIndex(forgotten.0),
    });
    again.give(Input::Purge {
        below: LogIndex(forgotten.0 + 1),
    });
    again.disk.crash();
    let (_, opened) = open(&again.disk, Start::Existing, last).unwrap();
    assert_eq!(opened.purged, forgotten);
}

#[test]
fn a_membership_that_was_made_before_what_is_in_memory_is_found_again() {
    let mut lone = Lone::new();
    let change = ConfChange {
        steps: vec![ConfChangeStep { kind: 2, node: 9 }],
        ..ConfChange::default()
    };
    lone.give(Input::ProposeConf { token: 1, change });
    assert_eq!(lone.node.status().conf.learners, [9]);
    for token in 2..400 {
        lone.propose(token, "a command of some bytes, of which there are many");
        let index = LogIndex(token + 2);
        lone.give(Input::Applied { index });
    }
    lone.disk.crash();
    let mut given = Vec::new();
    let (node, opened) = open_applying(&lone.disk, 0, &mut given).unwrap();
    assert!(given.contains(&3), "the change was left in memory: {given:?}");
    assert_eq!(
        (opened.purged, node.status().conf.learners),
        (LogIndex(1), vec![9])
    );
}

#[test]
fn an_entry_that_the_state_machine_does_not_apply_ends_the_opening() {
    let mut lone = Lone::new();
    for token in 0..400 {
        lone.propose(token, "a command of some bytes, of which there are many");
        let index = LogIndex(token + 3);
        lone.give(Input::Applied { index });
    }
    lone.disk.crash();
    let config = config(1, 1, Start::Existing, 0);
    let (disk, pool) = (Arc::new(lone.disk.clone()), BufferPool::new(1 << 20));
    let opened = RaftNode::open_applying(disk, config, SeededRng::new(3), pool, &mut |entry| match entry
        .index
        .0
    {
        7 => Err("it is newer".to_owned()),
        _ => Ok(()),
    });
    let error = opened.map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "entry 7 of the log was not applied: it is newer");
}

#[test]
fn what_is_committed_is_not_on_the_disk_before_the_entries_that_it_is_said_of() {
    let disk = SimDisk::new(1);
    let start = Start::FirstBoot {
        voters: (1..4).map(NodeId).collect(),
    };
    let (node, _) = open(&disk, start, 0).unwrap();
    let mut member = Lone::of(disk, node);
    let append = |from, term, data: &[u8], commit| RaftMessage {
        kind: 3,
        to: 1,
        from,
        term,
        log_term: 1,
        index: 1,
        entries: vec![RaftEntry {
            term,
            index: 2,
            data: Bytes::copy_from_slice(data),
            ..RaftEntry::default()
        }],
        commit,
        ..RaftMessage::default()
    };
    // An entry that only this member has.
    member.give(Input::Messages(vec![append(2, 2, b"deposed", 0)]));
    // Another leader's takes its place, and is committed already; it fills a batch alone.
    let most = config(1, 1, Start::Existing, 0).log.max_record_bytes();
    let large = vec![7; most - 30];
    let inputs = [
        Input::Messages(vec![RaftMessage {
            kind: 8,
            to: 1,
            from: 3,
            term: 3,
            ..RaftMessage::default()
        }]),
        Input::Messages(vec![append(3, 3, &large, 2)]),
    ];
    let (pool, mut out) = (BufferPool::new(1 << 20), Vec::new());
    member.node.on_batch(Monotonic(member.now), inputs, &mut out);
    // The first batch is written and synced; then the power goes.
    for _ in 0..2 {
        let work = out.drain(..).find_map(|output| match output {
            Output::Io(request) => Some(request),
            _ => None,
        });
        let done = Input::Io(work.expect("a write, then a sync").execute(&pool));
        out.clear();
        member.node.on(Monotonic(member.now), done, &mut out);
    }
    member.disk.crash();
    let (_, opened) = open(&member.disk, Start::Existing, 0).unwrap();
    assert_eq!((opened.commit, opened.last), (LogIndex(1), LogIndex(2)));
}
