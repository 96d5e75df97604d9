use crate::support::{DIRECTORY, Log, MARK_AFTER, open, record, small};
use bytes::Bytes;
use drystone_env::os::OsDisk;
use drystone_env::sim::SimDisk;
use drystone_env::{BufferPool, Disk, IoOp, IoToken, Monotonic};
use drystone_wal::format::{HEADER_BYTES, Header};
use drystone_wal::{AppendError, Lsn, Wal, WalConfig, WalError, tools};
use std::sync::Arc;

#[test]
fn records_come_back_in_order_and_whole() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    let lengths = [0, 1, 100, 4096, 9_000, small().max_record_bytes()];
    for (index, length) in lengths.iter().enumerate() {
        assert_eq!(log.put(&record(1, index as u64, *length)), Lsn(index as u64 + 1));
    }
    let parts = [
        Bytes::from_static(b"dry"),
        Bytes::new(),
        Bytes::from_static(b"stone"),
    ];
    assert_eq!(log.wal.append(&parts), Ok(Lsn(7)));
    tools::drain(&mut log.wal, Monotonic(0), &log.pool).unwrap();
    let (wal, recovered, records) = open(&disk, small()).unwrap();
    assert!(!recovered.fresh && recovered.torn.is_none() && recovered.segments > 1);
    for (index, length) in lengths.iter().enumerate() {
        assert_eq!(records[&(index as u64 + 1)], record(1, index as u64, *length));
    }
    assert_eq!(records[&7], b"drystone");
    assert_eq!((wal.next_lsn(), wal.durable()), (Lsn(8), Lsn(7)));
}

#[test]
fn large_records_and_batches_come_back() {
    let config = WalConfig {
        segment_bytes: 16 << 20,
        batch_bytes: 4 << 20,
        ..small()
    };
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, config.clone());
    let (large, longest) = (
        record(1, 1, (1 << 20) + 77),
        record(1, 2, config.max_record_bytes()),
    );
    for _ in 0..3 {
        log.append(&large);
    }
    assert!(log.wal.room() < 1 << 20);
    log.flush();
    let IoOp::Write { parts, .. } = &log.queue[0].op else {
        panic!("a write comes first")
    };
    assert!(
        parts
            .iter()
            .all(|part| part.as_ptr().align_offset(4096) == 0 && part.len() % 4096 == 0)
    );
    log.settle().unwrap();
    log.put(&longest);
    let (_, _, records) = open(&disk, config).unwrap();
    assert!((1..=3).all(|lsn| records[&lsn] == large) && records[&4] == longest);
}

#[test]
fn appended_while_a_batch_is_in_flight_goes_with_the_next_one() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    log.put(b"warm up, with the spare segment made");
    let before = disk.stats();
    log.append(b"a");
    log.flush();
    let (b, c) = (log.append(b"b"), log.append(b"c"));
    log.flush();
    assert_eq!(log.queue.len(), 1, "one batch in flight");
    assert_eq!(log.step(0).unwrap(), None, "written is not durable");
    assert_eq!(log.step(0).unwrap(), Some(Lsn(b.0 - 1)));
    assert_eq!(log.wal.durable(), Lsn(b.0 - 1));
    log.settle().unwrap();
    assert_eq!(log.wal.durable(), c);
    let after = disk.stats();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (2, 2));
    assert_eq!(after.written_bytes - before.written_bytes, 2 * 4096);
}

#[test]
fn memory_is_bounded_by_two_batches() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    let fill = |log: &mut Log| {
        while log.wal.room() >= 1000 {
            log.append(&[1; 1000]);
        }
        let room = log.wal.room();
        assert_eq!(
            log.wal.append(&[vec![1; 1000].into()]),
            Err(AppendError::Full { needed: 1000, room })
        );
    };
    fill(&mut log);
    log.flush();
    fill(&mut log);
    log.flush();
    let limit = small().max_record_bytes();
    let fault = AppendError::TooLarge {
        length: limit + 1,
        limit,
    };
    assert_eq!(log.wal.append(&[vec![1; limit + 1].into()]), Err(fault));
    log.settle().unwrap();
    assert_eq!(log.wal.room(), limit);
    let exact = log.append(&vec![1; limit]);
    assert_eq!(log.wal.room(), 0);
    assert!(matches!(
        log.wal.append(&[]),
        Err(AppendError::Full { needed: 0, room: 0 })
    ));
    log.flush();
    log.settle().unwrap();
    assert_eq!(log.wal.durable(), exact);
}

#[test]
fn a_mark_is_written_alone_after_ten_milliseconds_and_once() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    log.now = Monotonic(500);
    log.put(b"a");
    let due = Monotonic(500 + MARK_AFTER.0);
    assert_eq!(log.wal.next_wakeup(), Some(due));
    log.wal.tick(Monotonic(due.0 - 1), &mut log.queue);
    assert!(log.queue.is_empty());
    let before = disk.stats();
    log.wal.tick(due, &mut log.queue);
    assert!(!log.wal.is_idle());
    log.settle().unwrap();
    assert_eq!(disk.stats().written_bytes - before.written_bytes, 4096);
    assert_eq!(
        (log.wal.next_wakeup(), log.wal.is_idle(), log.wal.durable()),
        (None, true, Lsn(1))
    );
    // Records that follow in time carry the mark themselves.
    log.put(b"b");
    log.append(b"c");
    log.wal.tick(Monotonic(due.0 + 2 * MARK_AFTER.0), &mut log.queue);
    log.settle().unwrap();
    assert_eq!(log.wal.durable(), Lsn(3));
}

#[test]
fn the_next_segment_is_ready_before_it_is_needed() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    assert_eq!(
        (log.wal.next_wakeup(), disk.files().len()),
        (None, 2),
        "the opening has made it"
    );
    log.put(&record(2, 0, 8000));
    log.put(&record(2, 1, 8000));
    log.append(&record(2, 2, 8000));
    log.flush();
    assert!(matches!(&log.queue[1].op, IoOp::Create { prewrite: true, .. }));
    log.settle().unwrap();
    for round in 0..40 {
        log.append(&record(1, round, 3000));
        log.flush();
        assert!(
            matches!(&log.queue[0].op, IoOp::Write { .. }),
            "no batch waits for a segment"
        );
        log.settle().unwrap();
    }
    assert_eq!(open(&disk, small()).unwrap().2.len(), 43);
}

#[test]
fn released_segments_are_used_again_and_their_records_do_not_come_back() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    let mut most = 0;
    for round in 0..500 {
        let lsn = log.put(&record(1, round, (round * 37 % 9000) as usize));
        log.wal.release(Lsn(lsn.0.saturating_sub(5)));
        most = most.max(disk.files().len());
        assert!(log.wal.held_bytes() <= 5 * small().segment_bytes);
    }
    assert!(most <= 8, "{most} files");
    log.mark();
    let (wal, recovered, records) = open(&disk, small()).unwrap();
    assert_eq!((recovered.first, wal.released()), (Lsn(495), Lsn(495)));
    for (lsn, bytes) in records {
        assert_eq!(bytes, record(1, lsn - 1, ((lsn - 1) * 37 % 9000) as usize));
    }
}

#[test]
fn release_frees_nothing_that_is_not_durable() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    log.put(b"a");
    log.append(b"b");
    log.wal.release(Lsn(100));
    assert_eq!(log.wal.released(), Lsn(2));
    log.wal.release(Lsn(1));
    assert_eq!(log.wal.released(), Lsn(2));
}

#[test]
fn a_full_disk_stops_the_log_until_segments_are_released() {
    let disk = SimDisk::with_capacity(1, 3 * small().segment_bytes);
    let mut log = Log::open(&disk, small());
    let mut last = Lsn(0);
    while log.wal.starved().is_none() {
        assert!(last.0 < 100);
        last = log.append(&[7; 4000]);
        log.flush();
        log.settle().unwrap();
    }
    assert!(log.wal.durable() < last && log.wal.room() < 8200);
    assert!(log.wal.starved().unwrap().contains("No space"));
    for round in 0..20 {
        log.wal.release(log.wal.durable());
        log.flush();
        log.settle().unwrap();
        assert_eq!(
            (log.wal.durable(), log.wal.starved()),
            (last, None),
            "round {round}"
        );
        while log.wal.starved().is_none() && log.wal.room() >= 4000 {
            last = log.append(&[7; 4000]);
            log.flush();
            log.settle().unwrap();
        }
    }
    let (_, _, records) = open(&disk, small()).unwrap();
    assert_eq!(records.keys().last(), Some(&log.wal.durable().0));
}

/// Earlier versions left one block at the end of a segment, not two.
#[test]
fn a_full_log_of_an_earlier_version_goes_on_once_it_is_released() {
    let disk = SimDisk::with_capacity(1, 3 * small().segment_bytes);
    let mut log = Log::open(&disk, small());
    while log.wal.starved().is_none() {
        log.append(&[7; 3000]);
        log.flush();
        log.settle().unwrap();
    }
    drop(log);
    let headers = |name: &String| {
        let bytes = disk.contents(name).unwrap();
        let blocks = bytes.chunks(4096).map_while(|block| Header::decode(block).ok());
        blocks.filter(|(header, _)| !header.is_turn).last()
    };
    let last = disk
        .files()
        .into_iter()
        .filter_map(|name| Some((headers(&name)?, name)));
    let ((last, crc), name) = last.max_by_key(|((header, _), _)| header.number).unwrap();
    assert_eq!((last.place_blocks, last.records), (5, 1));
    let mut bytes = disk.contents(&name).unwrap();
    let block = &mut bytes[6 * 4096..7 * 4096];
    block[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(&4_u32.to_le_bytes());
    block[HEADER_BYTES + 4..HEADER_BYTES + 8].fill(9);
    let header = Header {
        number: last.number + 1,
        synced: last.number,
        first: last.first + 1,
        place_blocks: 6,
        body_bytes: 8,
        body_crc: crc32c::crc32c(&block[HEADER_BYTES..]),
        previous_crc: crc,
        ..last
    };
    block[..HEADER_BYTES].copy_from_slice(&header.encode().0);
    disk.set_contents(&name, &bytes);
    let (wal, _, records) = open(&disk, small()).unwrap();
    assert_eq!(records.last_key_value().unwrap().1, &[9; 4]);
    let mut log = Log::new(wal);
    log.wal.release(log.wal.durable());
    for _ in 0..20 {
        log.put(&[7; 3000]);
        log.wal.release(log.wal.durable());
    }
}

#[test]
fn a_failed_sync_or_write_is_final() {
    for sync in [true, false] {
        let disk = SimDisk::new(1);
        let mut log = Log::open(&disk, small());
        log.put(b"a");
        log.append(b"b");
        if sync {
            disk.fail_sync(1)
        } else {
            disk.fail_write(1)
        }
        log.flush();
        assert!(matches!(log.settle(), Err(WalError::Failed { .. })));
        assert_eq!(log.wal.append(&[]), Err(AppendError::Failed));
        log.flush();
        log.wal.tick(Monotonic(1 << 40), &mut log.queue);
        assert!(log.queue.is_empty());
        assert_eq!(
            (log.wal.room(), log.wal.next_wakeup(), log.wal.durable()),
            (0, None, Lsn(1))
        );
    }
}

/// A file system that copies what it overwrites may find no space for it.
#[test]
fn a_write_without_space_is_made_again_a_second_later_and_loses_nothing() {
    // Of batches in the first segment and the second one, and of the turn for that.
    let mut turns = 0;
    // Between the two another segment is made.
    for (records, nth) in (1..9).flat_map(|records| [(records, 1), (records, 3)]) {
        let disk = SimDisk::new(nth);
        let mut log = Log::open(&disk, small());
        for _ in 0..records {
            log.put(&[7; 4000]);
        }
        disk.fill_at_write(nth);
        let last = log.append(&[8; 4000]);
        log.flush();
        log.settle().unwrap();
        if nth == 3 && log.wal.starved().is_none() {
            // No segment was begun.
            continue;
        }
        turns += nth - 1;
        assert!(log.wal.starved().unwrap().contains("No space"), "{records} {nth}");
        assert_eq!(log.wal.durable() < last, nth == 1);
        // What comes meanwhile waits behind it.
        let last = log.append(b"b");
        log.flush();
        log.wal.tick(Monotonic(log.now.0 + 900_000), &mut log.queue);
        log.settle().unwrap();
        assert!(log.wal.starved().is_some());
        assert!(log.wal.next_wakeup() <= Some(Monotonic(1_000_000)));
        log.now = Monotonic(1_000_000);
        log.wal.tick(log.now, &mut log.queue);
        log.settle().unwrap();
        assert_eq!(
            (log.wal.durable(), log.wal.starved()),
            (last, None),
            "{records} {nth}"
        );
        disk.crash();
        let (_, _, found) = open(&disk, small()).unwrap();
        assert_eq!(found.keys().last(), Some(&last.0));
    }
    assert!(turns > 0);
}

#[test]
fn a_segment_that_cannot_be_made_is_asked_for_again_a_second_later() {
    let disk = SimDisk::new(1);
    // The first file and the mark in it take one write each.
    disk.fail_write(3);
    let mut log = Log::open(&disk, small());
    assert_eq!(disk.stats().faults, 1);
    assert_eq!(log.wal.next_wakeup(), Some(Monotonic(1_000_000)));
    log.wal.tick(Monotonic(999_999), &mut log.queue);
    assert!(log.queue.is_empty());
    log.wal.tick(Monotonic(1_000_000), &mut log.queue);
    log.settle().unwrap();
    assert_eq!(
        (log.wal.next_wakeup(), disk.list(DIRECTORY).unwrap().len()),
        (None, 2)
    );
}

#[test]
fn another_logs_segments_are_refused() {
    let disk = SimDisk::new(1);
    Log::open(&disk, small()).put(b"a");
    let other = WalConfig {
        identity: 5,
        ..small()
    };
    assert!(matches!(
        open(&disk, other),
        Err(WalError::OtherLog { expected: 5, .. })
    ));
    assert_eq!(open(&disk, small()).unwrap().2.len(), 1);
}

#[test]
fn the_visitor_may_refuse() {
    let disk = SimDisk::new(1);
    Log::open(&disk, small()).put(b"a");
    let refuse = &mut |_, _| Err("no such kind".to_owned());
    let fault = Wal::open(Arc::new(disk), small(), BufferPool::new(0), refuse)
        .err()
        .unwrap();
    let text = "log record 1 (log/00000001.seg, batch at 4096) was refused: no such kind";
    assert_eq!(fault.to_string(), text);
}

#[test]
fn segments_of_another_length_are_read_and_replaced() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    for round in 0..20 {
        log.put(&record(1, round, 3000));
    }
    let larger = WalConfig {
        segment_bytes: 16 * 4096,
        batch_bytes: 8 * 4096,
        ..small()
    };
    let mut log = Log::open(&disk, larger.clone());
    for round in 20..60 {
        log.put(&record(1, round, 3000));
    }
    let (mut wal, _, records) = open(&disk, larger.clone()).unwrap();
    assert!((0..60).all(|round| records[&(round + 1)] == record(1, round, 3000)));
    wal.release(Lsn(61));
    let mut log = Log::new(wal);
    log.mark();
    let (_, recovered, _) = open(&disk, larger.clone()).unwrap();
    assert_eq!(recovered.segments, 1);
    let lengths: Vec<_> = disk
        .files()
        .iter()
        .map(|name| disk.contents(name).unwrap().len() as u64)
        .collect();
    assert!(
        lengths.iter().all(|length| *length == larger.segment_bytes),
        "{lengths:?}"
    );
}

#[test]
fn tokens_are_told_apart_by_their_top_bit() {
    assert!(Wal::owns(IoToken(1 << 63)) && !Wal::owns(IoToken((1 << 63) - 1)));
}

#[test]
fn it_works_on_a_real_directory() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let pool = BufferPool::new(4 << 20);
    let mut next = 1;
    for _ in 0..4 {
        let disk = Arc::new(OsDisk::new(directory.path()).unwrap());
        let mut visited = 0;
        let (mut wal, recovered) = Wal::open(disk, small(), pool.clone(), &mut |lsn, bytes| {
            assert_eq!(&bytes[..], record(1, lsn.0, 5000));
            visited += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((visited, recovered.last.next()), (recovered.records, Lsn(next)));
        for _ in 0..10 {
            assert_eq!(wal.append(&[record(1, next, 5000).into()]), Ok(Lsn(next)));
            tools::drain(&mut wal, Monotonic(0), &pool).unwrap();
            wal.release(Lsn(next.saturating_sub(15)));
            next += 1;
        }
    }
    let files = std::fs::read_dir(directory.path().join(DIRECTORY))
        .unwrap()
        .count();
    assert!(files < 20, "{files} files");
}
