use crate::harness::{How, K64, M1, ME, Sim, content, frame, open, tiny};
use bytes::Bytes;
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, Rng};
use drystone_store::{HeldState, IoClass, Sealed, StoreConfig, StoreError, StoreInput, StoreReply};
use drystone_types::{ChunkId, DiskId, DiskRef, Epoch, Incarnation, PlacementIndex};
use drystone_wal::Wal;
use std::time::Duration;

fn sealed(reply: &Result<StoreReply, StoreError>) -> Sealed {
    match reply {
        Ok(
            StoreReply::Appended {
                sealed: Some(sealed), ..
            }
            | StoreReply::Sealed(sealed),
        ) => *sealed,
        other => panic!("not sealed: {other:?}"),
    }
}

#[test]
fn a_small_chunk_takes_one_journal_write_and_one_sync() {
    let mut sim = Sim::new(1);
    let data = content(1, 1, 5000);
    sim.write(9, K64, &data).unwrap();
    sim.settle();
    let before = sim.disk.stats();
    let reply = sim.write(1, K64, &data);
    let after = sim.disk.stats();
    assert_eq!(sealed(&reply).checksum, crc32c::crc32c(&data));
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(sim.read_all(1, 5000).unwrap(), data);
    sim.settle();
    assert!(sim.store.unmoved().is_empty());
    assert_eq!(sim.read_all(1, 5000).unwrap(), data);
    let mut sim = sim.crash().unwrap();
    assert_eq!(sim.read_all(1, 5000).unwrap(), data);
}

#[test]
fn a_stream_goes_to_its_runs_and_survives() {
    let mut sim = Sim::new(2);
    let data = content(1, 1, 700_001);
    for (i, part) in data.chunks(100 * 4096).enumerate() {
        let end = (i * 100 * 4096 + part.len()) == data.len();
        let how = if end {
            How::Last(Some(crc32c::crc32c(&data)))
        } else {
            How::Received
        };
        sim.append(1, M1, (i * 100 * 4096) as u64, part, how);
    }
    sim.run();
    assert_eq!(sim.replies.len(), 2);
    let mut sim = sim.crash().unwrap();
    assert_eq!(sim.read_all(1, 700_001).unwrap(), data);
    assert_eq!(sim.read(1, 4095, 2).unwrap(), data[4095..4097]);
    assert!(matches!(
        sim.read(1, 700_000, 2),
        Err(StoreError::Range { length: 700_001, .. })
    ));
}

#[test]
fn synced_bytes_of_an_open_chunk_survive_and_it_goes_on() {
    for step in [100, 4096, 5000, 40_000] {
        let mut sim = Sim::new(3);
        let data = content(1, 1, 120_000);
        let mut at = 0;
        for part in data[..80_000].chunks(step) {
            let request = sim.append(1, M1, at, part, How::Sync);
            sim.run();
            at += part.len() as u64;
            assert!(
                matches!(&sim.replies[&request], Ok(StoreReply::Appended { durable, .. }) if *durable == at)
            );
        }
        let mut sim = sim.crash().unwrap();
        assert_eq!(sim.read_all(1, 80_000).unwrap(), data[..80_000], "{step}");
        let request = sim.append(
            1,
            M1,
            80_000,
            &data[80_000..],
            How::Last(Some(crc32c::crc32c(&data))),
        );
        sim.run();
        sealed(&sim.replies[&request]);
        let mut sim = sim.crash().unwrap();
        assert_eq!(sim.read_all(1, 120_000).unwrap(), data);
    }
}

#[test]
fn a_store_whose_disk_is_slow_does_not_ask_to_be_woken_at_once() {
    let mut sim = Sim::new(4);
    let late = Duration::from_millis(30);
    let small = |sim: &mut Sim, chunk| sim.write(chunk, K64, &content(chunk, 1, 5000));
    small(&mut sim, 1).unwrap();
    sim.tick(late);
    // The move of the first is under way, and does not end before the second is due.
    let (journal, moving): (Vec<_>, Vec<_>) = sim.pending.drain(..).partition(|r| Wal::owns(r.token));
    assert!(!moving.is_empty());
    sim.pending = journal;
    small(&mut sim, 2).unwrap();
    sim.tick(late);
    sim.run();
    sim.tick(late);
    sim.pending.extend(moving);
    sim.run();
    sim.tick(late);
    sim.run();
    assert!(sim.store.unmoved().is_empty());
}

#[test]
fn a_retry_is_acknowledged_other_bytes_and_gaps_are_not() {
    let mut sim = Sim::new(4);
    let data = content(1, 1, 30_000);
    sim.append(1, K64, 0, &data[..20_480], How::Received);
    let again = sim.append(1, K64, 0, &data[..20_480], How::Sync);
    let other = sim.append(1, K64, 4096, &data[..4096], How::Received);
    let gap = sim.append(1, K64, 24_576, &data[..4096], How::Received);
    sim.run();
    assert!(matches!(
        sim.replies[&again],
        Ok(StoreReply::Appended { durable: 20_480, .. })
    ));
    assert!(matches!(
        sim.replies[&other],
        Err(StoreError::Conflict { expected: 20_480, .. })
    ));
    assert!(matches!(
        sim.replies[&gap],
        Err(StoreError::Conflict { expected: 20_480, .. })
    ));
    for settle in [false, true] {
        let last = sim.append(1, K64, 20_480, &data[20_480..], How::Last(None));
        sim.run();
        assert_eq!(sealed(&sim.replies[&last]).length, 30_000);
        if settle {
            sim.settle();
        }
    }
    sim = sim.crash().unwrap();
    let last = sim.append(1, K64, 20_480, &data[20_480..], How::Last(None));
    let wrong = sim.append(1, K64, 20_480, &data[..9520], How::Last(None));
    sim.run();
    assert_eq!(sealed(&sim.replies[&last]).length, 30_000);
    assert!(matches!(sim.replies[&wrong], Err(StoreError::Conflict { .. })));
}

#[test]
fn final_happens_once() {
    let mut sim = Sim::new(5);
    let data = content(1, 1, 200_000);
    sim.append(1, M1, 0, &data, How::Received);
    let finish = |length| {
        move |request| StoreInput::Finish {
            request,
            chunk: ChunkId(1),
            epoch: Epoch::FIRST,
            placement: PlacementIndex(1),
            length,
        }
    };
    assert!(matches!(
        sim.ask(finish(200_001)),
        Err(StoreError::Conflict {
            expected: 200_000,
            ..
        })
    ));
    let first = sim.ask(finish(150_001));
    assert_eq!(sealed(&first).checksum, crc32c::crc32c(&data[..150_001]));
    assert_eq!(sim.ask(finish(150_001)), first);
    assert!(
        matches!(sim.ask(finish(150_000)), Err(StoreError::Conflict { sealed: Some(s), .. }) if s == sealed(&first))
    );
    let mut sim = sim.crash().unwrap();
    assert_eq!(sim.ask(finish(150_001)), first);
    assert_eq!(sim.read_all(1, 150_001).unwrap(), data[..150_001]);
}

#[test]
fn a_wrong_whole_checksum_does_not_seal() {
    let mut sim = Sim::new(6);
    let data = content(1, 1, 9000);
    let last = sim.append(1, K64, 0, &data, How::Last(Some(1)));
    sim.run();
    assert!(matches!(
        sim.replies[&last],
        Err(StoreError::Checksum { expected: 1, .. })
    ));
    let status = sim.ask(|request| StoreInput::Status {
        request,
        chunk: ChunkId(1),
    });
    assert!(matches!(status, Ok(StoreReply::Status(r)) if r.state == HeldState::Open && r.received == 9000));
}

#[test]
fn a_fence_stops_appends_and_a_seal_cuts() {
    let mut sim = Sim::new(7);
    let data = content(1, 1, 100_000);
    sim.append(1, M1, 0, &data[..90_000], How::Sync);
    sim.run();
    sim.append(1, M1, 90_000, &data[90_000..], How::Received);
    let fence = |epoch| {
        move |request| StoreInput::Fence {
            request,
            chunk: ChunkId(1),
            epoch: Epoch(epoch),
        }
    };
    assert_eq!(
        sim.ask(fence(3)),
        Ok(StoreReply::Fenced {
            epoch: Epoch(3),
            length: Some(90_000)
        })
    );
    assert!(matches!(
        sim.ask(fence(2)),
        Err(StoreError::Fenced {
            current: Epoch(3),
            ..
        })
    ));
    let mut sim = sim.crash().unwrap();
    let late = sim.append(1, M1, 90_000, &data[90_000..], How::Sync);
    sim.run();
    assert!(matches!(
        sim.replies[&late],
        Err(StoreError::Fenced {
            current: Epoch(3),
            ..
        })
    ));
    let seal = |epoch, length: usize| {
        let checksum = crc32c::crc32c(&data[..length]);
        move |request| StoreInput::Seal {
            request,
            chunk: ChunkId(1),
            epoch: Epoch(epoch),
            length: length as u64,
            checksum,
        }
    };
    assert!(matches!(sim.ask(seal(2, 80_001)), Err(StoreError::Fenced { .. })));
    assert!(matches!(
        sim.ask(seal(3, 90_001)),
        Err(StoreError::Conflict { expected: 90_000, .. })
    ));
    assert_eq!(sealed(&sim.ask(seal(3, 80_001))).length, 80_001);
    let mut sim = sim.crash().unwrap();
    assert_eq!(sealed(&sim.ask(seal(3, 80_001))).epoch, Epoch(3));
    assert_eq!(sim.read_all(1, 80_001).unwrap(), data[..80_001]);
    assert_eq!(
        sim.ask(fence(4)),
        Ok(StoreReply::Fenced {
            epoch: Epoch(4),
            length: Some(80_001)
        })
    );
}

#[test]
fn a_fence_of_an_absent_chunk_leaves_a_marker() {
    let mut sim = Sim::new(8);
    let fence = |request| StoreInput::Fence {
        request,
        chunk: ChunkId(5),
        epoch: Epoch(2),
    };
    assert_eq!(
        sim.ask(fence),
        Ok(StoreReply::Fenced {
            epoch: Epoch(2),
            length: None
        })
    );
    let mut sim = sim.crash().unwrap();
    let late = sim.write(5, K64, b"late");
    assert!(matches!(
        late,
        Err(StoreError::Fenced {
            current: Epoch(2),
            ..
        })
    ));
    assert_eq!(
        sim.ask(fence),
        Ok(StoreReply::Fenced {
            epoch: Epoch(2),
            length: None
        })
    );
}

#[test]
fn a_delete_names_placement_and_incarnation() {
    let mut sim = Sim::new(9);
    sim.write(1, K64, b"abc").unwrap();
    let delete = |placement, incarnation| {
        move |request| StoreInput::Delete {
            request,
            chunk: ChunkId(1),
            placement: PlacementIndex(placement),
            incarnation: Incarnation(incarnation),
        }
    };
    assert!(matches!(
        sim.ask(delete(0, 77)),
        Err(StoreError::Placement { .. })
    ));
    assert!(matches!(
        sim.ask(delete(1, 78)),
        Err(StoreError::OtherIncarnation { .. })
    ));
    assert_eq!(sim.ask(delete(1, 77)), Ok(StoreReply::Deleted));
    assert!(matches!(sim.read(1, 0, 1), Err(StoreError::NotFound { .. })));
    let mut sim = sim.crash().unwrap();
    assert!(matches!(sim.read(1, 0, 1), Err(StoreError::NotFound { .. })));
    let data = Bytes::from_static(b"again");
    let sums = vec![crc32c::crc32c(&data)];
    let again = sim.ask(|request| frame(request, 1, 2, K64, 0, data, sums, How::Last(None)));
    assert_eq!(sealed(&again).placement, PlacementIndex(2));
    assert!(matches!(
        sim.ask(delete(1, 77)),
        Err(StoreError::Placement { .. })
    ));
    assert_eq!(sim.read(1, 0, 5).unwrap(), "again");
}

#[test]
fn a_full_disk_refuses_new_chunks_reads_and_deletes() {
    let disk = SimDisk::with_capacity(10, 3 << 20);
    let mut sim = Sim::on(disk, 10, tiny()).unwrap();
    let data = content(1, 1, 60_000);
    let mut held = Vec::new();
    for chunk in 1..1000 {
        match sim.write(chunk, K64, &data) {
            Ok(_) => held.push(chunk),
            Err(StoreError::NoSpace { .. }) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(held.len() > 10 && held.len() < 900);
    sim.settle();
    assert_eq!(sim.store.status().read_only, None);
    assert_eq!(sim.read_all(held[0], 60_000).unwrap(), data);
    let chunk = ChunkId(held[0]);
    let delete = |request| StoreInput::Delete {
        request,
        chunk,
        placement: PlacementIndex(1),
        incarnation: ME.incarnation,
    };
    assert_eq!(sim.ask(delete), Ok(StoreReply::Deleted));
    assert!(sim.write(5000, K64, &data).is_ok());
    let mut sim = sim.crash().unwrap();
    assert_eq!(sim.read_all(5000, 60_000).unwrap(), data);
}

#[test]
fn a_failed_sync_makes_the_disk_read_only_and_reads_go_on() {
    for nth in 1..6 {
        let mut sim = Sim::new(11);
        let data = content(1, 1, 50_000);
        sim.write(1, K64, &data).unwrap();
        sim.settle();
        sim.disk.fail_sync(nth);
        let mut failed = false;
        for chunk in 2..6 {
            failed |= matches!(sim.write(chunk, K64, &data), Err(StoreError::ReadOnly { .. }));
        }
        assert!(failed && sim.store.status().read_only.is_some());
        assert_eq!(sim.read_all(1, 50_000).unwrap(), data);
    }
}

#[test]
fn a_read_that_waits_for_a_cut_is_answered_when_the_disk_fails() {
    let mut answered = 0;
    for seed in 0..40 {
        let mut sim = Sim::new(seed);
        let data = content(1, 1, 90_000);
        sim.append(1, M1, 0, &data, How::Sync);
        sim.run();
        let epoch = Epoch(3);
        let fenced = sim.ask(|request| StoreInput::Fence {
            request,
            chunk: ChunkId(1),
            epoch,
        });
        assert!(matches!(
            fenced,
            Ok(StoreReply::Fenced {
                length: Some(90_000),
                ..
            })
        ));
        sim.disk.fail_sync(1);
        let (length, checksum) = (80_001, crc32c::crc32c(&data[..80_001]));
        sim.request(|request| StoreInput::Seal {
            request,
            chunk: ChunkId(1),
            epoch,
            length,
            checksum,
        });
        let mut reads = Vec::new();
        loop {
            reads.push(sim.request(|request| StoreInput::Read {
                request,
                chunk: ChunkId(1),
                placement: None,
                offset: 80_000,
                length: 10_000,
                io_class: IoClass::default(),
            }));
            if !sim.step() {
                break;
            }
            if sim.store.status().read_only.is_some() {
                break;
            }
        }
        sim.run();
        assert!(sim.store.status().read_only.is_some());
        for read in &reads {
            assert!(
                sim.replies.contains_key(read),
                "seed {seed}: a read waits for ever"
            );
            answered += u64::from(matches!(sim.replies[read], Err(StoreError::Io { .. })));
        }
        // Nor does one wait that comes later.
        let late = sim.read(1, 80_000, 10_000);
        assert!(late.is_err() || late.unwrap() == data[80_000..]);
    }
    assert!(answered > 0, "no read met a cut");
}

#[test]
fn floors_only_rise() {
    let mut sim = Sim::new(12);
    let raise = |floor| {
        move |request| StoreInput::RaiseFloor {
            request,
            floor: ChunkId(floor),
        }
    };
    assert_eq!(sim.ask(raise(9)), Ok(StoreReply::Floor(ChunkId(9))));
    assert_eq!(sim.ask(raise(4)), Ok(StoreReply::Floor(ChunkId(9))));
    sim.store.begin_checkpoint();
    sim.settle();
    assert_eq!(sim.crash().unwrap().store.floor(), ChunkId(9));
}

#[test]
fn pages_list_what_is_held() {
    let mut sim = Sim::new(13);
    for chunk in [5, 1, 3] {
        sim.write(chunk, K64, b"x").unwrap();
    }
    sim.append(4, K64, 0, b"y", How::Received);
    let page = sim.ask(|request| StoreInput::List {
        request,
        after: ChunkId(1),
        limit: 2,
    });
    let Ok(StoreReply::Chunks { chunks, more: true }) = page else {
        panic!("{page:?}")
    };
    let ids: Vec<_> = chunks.iter().map(|r| (r.chunk.0, r.state, r.durable)).collect();
    assert_eq!(ids, [(3, HeldState::Sealed, 1), (4, HeldState::Open, 0)]);
}

#[test]
fn a_page_goes_on_behind_chunks_that_are_being_deleted() {
    let mut sim = Sim::new(15);
    for chunk in 1..=9 {
        sim.write(chunk, K64, b"x").unwrap();
    }
    for chunk in 1..=5 {
        sim.request(|request| StoreInput::Delete {
            request,
            chunk: ChunkId(chunk),
            placement: PlacementIndex(1),
            incarnation: ME.incarnation,
        });
    }
    // The delete records are on their way.
    let mut after = ChunkId(0);
    let mut found = Vec::new();
    loop {
        let request = sim.request(|request| StoreInput::List {
            request,
            after,
            limit: 3,
        });
        let Some(Ok(StoreReply::Chunks { chunks, more })) = sim.replies.remove(&request) else {
            panic!("a listing is answered at once")
        };
        found.extend(chunks.iter().map(|replica| replica.chunk.0));
        match chunks.last() {
            Some(last) if more => after = last.chunk,
            _ => break,
        }
    }
    assert_eq!(found, [6, 7, 8, 9]);
    assert_eq!(
        sim.store.status().chunks,
        9,
        "nothing is deleted before it is durable"
    );
    sim.run();
    assert_eq!(sim.store.status().chunks, 4);
}

#[test]
fn an_append_whose_arena_is_gone_is_answered() {
    let mut sim = Sim::new(16);
    let data = content(1, 1, 40_000);
    sim.append(1, M1, 0, &data[..10_000], How::Sync);
    sim.run();
    drop(sim.store);
    for file in sim.disk.list("arenas").unwrap() {
        sim.disk.unlink(&format!("arenas/{file}")).unwrap();
    }
    let mut sim = Sim::on(sim.disk, 16, tiny()).unwrap();
    let request = sim.append(1, M1, 10_000, &data[10_000..], How::Sync);
    sim.run();
    let answer = sim.replies.remove(&request);
    assert!(
        matches!(answer, Some(Err(StoreError::ReadOnly { .. }))),
        "{answer:?}"
    );
}

#[test]
fn disk_work_is_of_the_class_of_who_asked_for_it() {
    let mut sim = Sim::new(17);
    let data = content(1, 1, 200_000);
    let sums = drystone_proto::checksum::block_checksums(&data);
    let bytes = Bytes::copy_from_slice(&data);
    sim.request(|request| {
        let mut input = frame(request, 1, 1, M1, 0, bytes, sums, How::Received);
        if let StoreInput::Append { frame, .. } = &mut input {
            frame.io_class = IoClass::Repair;
        }
        input
    });
    let memory = |sim: &Sim| IoClass::ALL.map(|class| sim.store.memory_bytes(class));
    assert_eq!(memory(&sim), [0, 200_000, 0]);
    // Frames that come later are of the chunk's class, its journal records and syncs are everybody's.
    sim.append(1, M1, 200_000, b"", How::Last(None));
    sim.run();
    let writes = sim.classes.iter().filter(|class| **class == IoClass::Repair);
    assert!(writes.count() >= 1, "data with the tail: {:?}", sim.classes);
    assert!(sim.classes.contains(&IoClass::Foreground));
    assert_eq!(memory(&sim), [0; 3]);
    let before = sim.classes.len();
    let read = sim.ask(|request| StoreInput::Read {
        request,
        chunk: ChunkId(1),
        placement: None,
        offset: 0,
        length: 100_000,
        io_class: IoClass::Scrub,
    });
    assert!(read.is_ok(), "{read:?}");
    assert_eq!(sim.classes[before..], [IoClass::Scrub]);
}

#[test]
fn another_disks_store_is_refused() {
    let sim = Sim::new(14);
    let other = DiskRef {
        disk: DiskId(8),
        incarnation: Incarnation(77),
    };
    let pool = drystone_env::BufferPool::new(0);
    let result = drystone_store::Store::open(std::sync::Arc::new(sim.disk.clone()), tiny(), other, pool);
    assert!(matches!(
        result.err(),
        Some(drystone_store::OpenError::OtherDisk { .. })
    ));
    assert!(open(&sim.disk, tiny()).is_ok());
}

/// The process ends before a copy of the checkpoint is synced, and the next one believes it: then the power goes while the other
/// copy is written over.
#[test]
fn a_copy_of_the_checkpoint_that_was_not_synced_is_not_relied_on() {
    for seed in 0..400 {
        let mut sim = Sim::new(seed);
        for chunk in 1..40 {
            sim.write(chunk, K64, &content(chunk, 1, 3000)).unwrap();
        }
        sim.settle();
        for life in 0..3 {
            // So that the copies differ.
            sim.write(50 + life, K64, &content(50 + life, 1, 3000)).unwrap();
            sim.settle();
            sim.store.begin_checkpoint();
            sim.tick(Duration::from_millis(1));
            for _ in 0..sim.rng.below(6) {
                sim.step();
            }
            let opened = if life < 2 { sim.restart() } else { sim.crash() };
            sim = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert_eq!(
            sim.read_all(39, 3000).unwrap(),
            content(39, 1, 3000),
            "seed {seed}"
        );
    }
}

/// They once went one batch at a time with the usual pause between, however many waited.
#[test]
fn all_that_is_due_is_moved_without_a_pause() {
    let config = StoreConfig {
        checkpoint_bytes: 64 << 20,
        move_bytes: 4 << 20,
        ..tiny()
    };
    let mut sim = Sim::on(SimDisk::new(31), 31, config).unwrap();
    for chunk in 1..=1000 {
        sim.write(chunk, K64, &content(chunk, 1, 10)).unwrap();
    }
    assert!(sim.store.unmoved().len() > 600);
    sim.tick(Duration::from_millis(30));
    sim.run();
    assert_eq!(sim.store.unmoved().len(), 0);
}
