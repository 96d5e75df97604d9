//! Sessions and idempotency keys.

use crate::cluster::{CLIENT, Cluster, code, inline};
use crate::invariants;
use bytes::Bytes;
use drystone_namespace::limits::*;
use drystone_proto::command::*;
use drystone_types::{Code, InodeId};

const OTHER: [u8; 16] = [8; 16];

fn from(cluster: &mut Cluster, client: [u8; 16], sequence: u64, acknowledged_below: u64, op: Op) -> Outcome {
    let mut entry = cluster.entry("ann", sequence, op);
    let origin = entry.origin.as_mut().unwrap();
    origin.client = Bytes::copy_from_slice(&client);
    origin.acknowledged_below = acknowledged_below;
    cluster.apply(entry)
}

fn open(cluster: &mut Cluster, client: [u8; 16], ttl: u64) -> Option<Code> {
    let seen = cluster.index;
    open_late(cluster, client, ttl, seen)
}

/// The frame was sent when only `seen` was applied.
fn open_late(cluster: &mut Cluster, client: [u8; 16], ttl: u64, seen: u64) -> Option<Code> {
    code(&from(
        cluster,
        client,
        0,
        0,
        Op::OpenSession(OpenSession { ttl, seen }),
    ))
}

fn keyed(cluster: &mut Cluster, user: &str, key: &str, hash: u8, op: Op) -> Outcome {
    cluster.sequence += 1;
    let mut entry = cluster.entry(user, cluster.sequence, op);
    let origin = entry.origin.as_mut().unwrap();
    origin.key = key.to_owned();
    origin.key_hash = Bytes::from(vec![hash; 16]);
    cluster.apply(entry)
}

#[test]
fn a_command_of_an_unknown_session_is_refused_and_not_applied() {
    let mut cluster = Cluster::new();
    let refused = from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a"));
    assert_eq!(code(&refused), Some(Code::SessionUnknown));
    assert_eq!(cluster.ns.counters().directories, 1);
}

#[test]
fn a_repeated_number_gets_the_first_answer_refusals_too() {
    let mut cluster = Cluster::new();
    assert_eq!(open(&mut cluster, OTHER, 1 << 40), None);
    let made = from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a"));
    let refused = from(&mut cluster, OTHER, 2, 0, Cluster::mkdir("a"));
    assert_eq!((made.code, code(&refused)), (0, Some(Code::Exists)));
    for (client, sequence, kept) in [
        (OTHER, 1, true),
        (OTHER, 2, true),
        (OTHER, 3, false),
        (CLIENT, 1, false),
    ] {
        assert_eq!(
            cluster.ns.has_answer(&client, sequence).unwrap(),
            kept,
            "{sequence}"
        );
    }
    cluster.ok(Cluster::remove("a", false));
    assert_eq!(from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a")), made);
    assert_eq!(from(&mut cluster, OTHER, 2, 0, Cluster::mkdir("a")), refused);
    assert_eq!(cluster.ns.counters().directories, 1, "neither was done again");
}

#[test]
fn numbers_may_come_in_any_order_within_the_window() {
    let mut cluster = Cluster::new();
    assert_eq!(open(&mut cluster, OTHER, 1 << 40), None);
    assert_eq!(from(&mut cluster, OTHER, 7, 0, Cluster::mkdir("g")).code, 0);
    assert_eq!(from(&mut cluster, OTHER, 3, 0, Cluster::mkdir("c")).code, 0);
    let beyond = from(
        &mut cluster,
        OTHER,
        1 + MAX_UNACKNOWLEDGED,
        0,
        Cluster::mkdir("z"),
    );
    assert_eq!(code(&beyond), Some(Code::Busy));
    let acknowledged = from(
        &mut cluster,
        OTHER,
        1 + MAX_UNACKNOWLEDGED,
        2,
        Cluster::mkdir("z"),
    );
    assert_eq!(acknowledged.code, 0, "what was busy is done once there is room");
}

/// A command whose answer does not come once stopped its session after 1,024 others.
#[test]
fn a_slow_command_stops_no_other_and_is_still_applied_once() {
    let mut cluster = Cluster::new();
    assert_eq!(open(&mut cluster, OTHER, 1 << 40), None);
    let send = |cluster: &mut Cluster, sequence: u64, below: u64, outstanding: &[u64]| {
        let mut entry = cluster.entry("ann", sequence, Cluster::mkdir(&format!("d{sequence}")));
        let origin = entry.origin.as_mut().unwrap();
        origin.client = Bytes::copy_from_slice(&OTHER);
        (origin.acknowledged_below, origin.outstanding) = (below, outstanding.to_vec());
        cluster.apply(entry)
    };
    // 1 is on its way for ever, 2 was applied and its answer is lost.
    let second = send(&mut cluster, 2, 1, &[]);
    for sequence in 3..=3 * MAX_UNACKNOWLEDGED {
        assert_eq!(
            send(&mut cluster, sequence, sequence, &[1, 2]).code,
            0,
            "{sequence}"
        );
    }
    assert_eq!(send(&mut cluster, 2, 1, &[]), second, "its answer is kept");
    let three = send(&mut cluster, 3, 1, &[]);
    assert_eq!(code(&three), Some(Code::Unknown), "its answer was acknowledged");
    assert_eq!(send(&mut cluster, 1, 1, &[]).code, 0);
    let last = 3 * MAX_UNACKNOWLEDGED + 1;
    assert_eq!(send(&mut cluster, last, last, &[]).code, 0);
    for late in [1, 2, last - 1] {
        assert_eq!(
            code(&send(&mut cluster, late, 1, &[])),
            Some(Code::Unknown),
            "{late}"
        );
    }
    assert_eq!(cluster.ns.counters().directories, 1 + last);
    // What says less, or nonsense, forgets nothing and is not applied.
    let many: Vec<u64> = (1..=MAX_OVERTAKEN as u64 + 1).collect();
    for (below, outstanding) in [
        (last, &[last][..]),
        (last, &[9, 8]),
        (last, &[8, 8]),
        (last, &many),
    ] {
        let refused = send(&mut cluster, last + 1, below, outstanding);
        assert_eq!(code(&refused), Some(Code::Invalid), "{outstanding:?}");
    }
    assert_eq!(send(&mut cluster, last + 1, 1, &[]).code, 0);
}

#[test]
fn acknowledged_answers_are_forgotten_and_never_applied_again() {
    let mut cluster = Cluster::new();
    assert_eq!(open(&mut cluster, OTHER, 1 << 40), None);
    let answers = |cluster: &Cluster| {
        let mut count = 0;
        cluster
            .ns
            .visit(&mut |key, _| count += usize::from(key[0] == 0x0a && key[1..17] == OTHER))
            .unwrap();
        count
    };
    for sequence in 1..=20 {
        from(
            &mut cluster,
            OTHER,
            sequence,
            0,
            Cluster::mkdir(&format!("d{sequence}")),
        );
    }
    cluster.flush();
    assert_eq!(answers(&cluster), 20);
    from(&mut cluster, OTHER, 21, 21, Cluster::mkdir("last"));
    assert_eq!(answers(&cluster), 1);
    cluster.ok(Cluster::remove("d5", false));
    let late = from(&mut cluster, OTHER, 5, 0, Cluster::mkdir("d5"));
    assert_eq!(code(&late), Some(Code::Unknown));
    assert_eq!(cluster.ns.counters().directories, 1 + 20);
}

#[test]
fn a_session_ends_with_its_time_and_its_id_is_not_taken_again() {
    let mut cluster = Cluster::new();
    assert_eq!(open(&mut cluster, OTHER, 1_000), None);
    from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a"));
    cluster.time += 500;
    assert_eq!(from(&mut cluster, OTHER, 2, 0, Cluster::mkdir("b")).code, 0);
    cluster.time += 900;
    cluster.housekeep();
    assert_eq!(
        from(&mut cluster, OTHER, 3, 0, Cluster::mkdir("c")).code,
        0,
        "a used session lives on"
    );
    cluster.time += 2_000;
    assert_eq!(
        code(&from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a"))),
        Some(Code::SessionUnknown)
    );
    cluster.housekeep();
    assert_eq!(cluster.ns.counters().sessions, 1, "the other one");
    assert_eq!(open(&mut cluster, OTHER, 1_000), Some(Code::SessionUnknown));
    cluster.time += CLOSED_SESSION_KEPT + 1;
    // The other session ran out as well by now.
    cluster.housekeep();
    assert_eq!(cluster.ns.counters().closed_sessions, 1, "the other one");
    assert_eq!(
        open(&mut cluster, OTHER, 1_000),
        None,
        "drawn anew, it is another one"
    );
    invariants::check(&cluster.ns);
}

#[test]
fn late_frames_of_a_forgotten_session_open_nothing_and_do_nothing() {
    let mut cluster = Cluster::new();
    let seen = cluster.index;
    assert_eq!(open_late(&mut cluster, OTHER, 1_000, seen), None);
    assert_eq!(from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a")).code, 0);
    from(&mut cluster, OTHER, 0, 0, Op::CloseSession(CloseSession {}));
    assert_eq!(cluster.ns.counters().closed_sessions, 1);
    invariants::check(&cluster.ns);
    cluster.ok(Cluster::remove("a", false));
    cluster.time += CLOSED_SESSION_KEPT + 1;
    cluster.housekeep();
    let counters = cluster.ns.counters();
    assert_eq!(
        counters.closed_sessions, 1,
        "its id is not kept any more; the cluster's own session ended just now"
    );
    // Both frames come once more, however late.
    let again = open_late(&mut cluster, OTHER, 1_000, seen);
    assert_eq!(again, Some(Code::SessionUnknown));
    let again = from(&mut cluster, OTHER, 1, 0, Cluster::mkdir("a"));
    assert_eq!(code(&again), Some(Code::SessionUnknown));
    assert_eq!(cluster.ns.counters().directories, counters.directories);
    // A session that was opened before, and is open, goes on; a new one says what it has seen.
    assert_eq!(
        open_late(&mut cluster, [3; 16], 1_000, 0),
        Some(Code::SessionUnknown)
    );
    assert_eq!(open(&mut cluster, [3; 16], 1_000), None);
    invariants::check(&cluster.ns);
}

#[test]
fn a_closed_session_is_unknown() {
    let mut cluster = Cluster::new();
    let close = cluster.entry("ann", 0, Op::CloseSession(CloseSession {}));
    assert_eq!(cluster.apply(close).code, 0);
    assert_eq!(cluster.refused(Cluster::mkdir("a")), Some(Code::SessionUnknown));
    assert_eq!(open(&mut cluster, CLIENT, 10), Some(Code::SessionUnknown));
}

#[test]
fn a_key_gives_the_first_answer_through_every_door() {
    let mut cluster = Cluster::new();
    let put = |content: &[u8]| Cluster::publish("f", PublishMode::Append, 0, inline(content));
    let first = keyed(&mut cluster, "ann", "k", 1, put(b"abc"));
    assert_eq!(first.code, 0);
    assert_eq!(keyed(&mut cluster, "ann", "k", 1, put(b"abc")), first);
    assert_eq!(
        code(&keyed(&mut cluster, "ann", "k", 2, put(b"x"))),
        Some(Code::IdempotencyKeyReused)
    );
    let other = Op::MakeDirectory(MakeDirectory {
        target: crate::cluster::at("d"),
        parents: false,
        mode: None,
        attributes: None,
    });
    assert_eq!(
        keyed(&mut cluster, "bob", "k", 2, other).code,
        0,
        "keys are the caller's own"
    );
    assert_eq!(cluster.ns.counters().bytes, 3);
    for day in 0..2 {
        cluster.time += KEY_KEPT / 2;
        // A session lives for a day at most, a used one longer.
        cluster.ok(Cluster::mkdir(&format!("day{day}")));
    }
    assert_eq!(
        keyed(&mut cluster, "ann", "k", 2, put(b"de")).size,
        5,
        "after a day it is free, swept or not"
    );
    cluster.time += KEY_KEPT + 1;
    cluster.housekeep();
    let mut left = 0;
    cluster
        .ns
        .visit(&mut |key, _| left += usize::from((0x0c..=0x0e).contains(&key[0])))
        .unwrap();
    assert_eq!(left, 0, "keys, expiry and counts are gone");
}

#[test]
fn a_refusal_that_asks_for_another_way_leaves_the_key_free() {
    let mut cluster = Cluster::new();
    let big = Cluster::publish(
        "f",
        PublishMode::Replace,
        0,
        inline(&vec![0; MAX_INLINE_BYTES + 1]),
    );
    assert_eq!(
        code(&keyed(&mut cluster, "ann", "k", 1, big)),
        Some(Code::InlineRefused)
    );
    let content = cluster.chunked(10, 1);
    let chunked = Cluster::publish("f", PublishMode::Replace, 0, content);
    assert_eq!(keyed(&mut cluster, "ann", "k", 1, chunked).code, 0);
    let missing = Cluster::remove("nothing", false);
    let refused = keyed(&mut cluster, "ann", "m", 1, missing.clone());
    assert_eq!(code(&refused), Some(Code::NotFound));
    cluster.ok(Cluster::mkdir("nothing"));
    assert_eq!(
        keyed(&mut cluster, "ann", "m", 1, missing),
        refused,
        "how things were is an answer"
    );
}

#[test]
fn times_of_files_follow_the_wall_clock_and_expiry_follows_log_time() {
    const DAY: u64 = 86_400_000_000;
    let mut cluster = Cluster::new();
    assert_eq!(open(&mut cluster, OTHER, 1_000), None);
    let at_wall = |cluster: &mut Cluster, wall: u64, sequence: u64, op: Op| {
        let mut entry = cluster.entry("drystone", sequence, op);
        entry.origin.as_mut().unwrap().client = Bytes::copy_from_slice(&OTHER);
        entry.wall = wall;
        cluster.apply(entry)
    };
    // The cluster stood still for a day: its log time did too, and the session is open.
    let made = at_wall(&mut cluster, DAY, 1, Cluster::mkdir("a"));
    assert_eq!(made.code, 0, "{made:?}");
    let publish = Cluster::publish("a/f", PublishMode::Replace, 0, inline(b"x"));
    let file = at_wall(&mut cluster, 2 * DAY, 2, publish);
    let record = cluster.ns.inode(InodeId(file.inode)).unwrap().unwrap();
    let times = [record.created, record.modified, record.accessed, record.changed];
    assert_eq!(times, [2 * DAY; 4]);
    let directory = cluster.ns.inode(InodeId(made.inode)).unwrap().unwrap();
    let times = [directory.created, directory.modified, directory.changed];
    assert_eq!(times, [DAY, 2 * DAY, 2 * DAY]);
    assert!(cluster.ns.log_time() < DAY, "log time does not follow");
    // A wall clock that is set back takes the times with it; an entry without one has log time.
    let publish = Cluster::publish("a/f", PublishMode::Replace, 0, inline(b"y"));
    assert_eq!(at_wall(&mut cluster, DAY, 3, publish).code, 0);
    let record = cluster.ns.inode(InodeId(file.inode)).unwrap().unwrap();
    assert_eq!((record.created, record.modified), (2 * DAY, DAY));
    let publish = Cluster::publish("a/f", PublishMode::Replace, 0, inline(b"z"));
    assert_eq!(at_wall(&mut cluster, 0, 4, publish).code, 0);
    let record = cluster.ns.inode(InodeId(file.inode)).unwrap().unwrap();
    assert_eq!(record.modified, cluster.ns.log_time());
    // Log time alone ends the session.
    cluster.time += 1_001;
    let late = at_wall(&mut cluster, DAY, 5, Cluster::mkdir("b"));
    assert_eq!(code(&late), Some(Code::SessionUnknown));
}
