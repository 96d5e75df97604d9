use crate::support::{Log, Records, open, record, small};
use drystone_env::sim::SimDisk;
use drystone_env::{Disk, IoOp, IoRequest, Rng, SeededRng};
use drystone_wal::{Lsn, WalError, format::Header};

/// A log of several segments, some recycled, everything marked.
fn marked_log(seed: u64) -> (SimDisk, Records) {
    let disk = SimDisk::new(seed);
    let mut log = Log::open(&disk, small());
    for round in 0..40 {
        let lsn = log.put(&record(seed, round, (round * 977 % 9000) as usize));
        if round < 20 {
            log.wal.release(lsn);
        }
    }
    log.mark();
    drop(log);
    let (_, recovered, records) = open(&disk.fork(seed), small()).unwrap();
    assert!(recovered.segments >= 3 && records.len() >= 20, "{recovered:?}");
    (disk, records)
}

/// Where the batch that covers `offset` begins, if one does that is part of the log.
fn batch_at(bytes: &[u8], generation: u64, offset: u64) -> Option<u64> {
    let mut at = 0;
    while let Some(block) = bytes.get(at as usize..)
        && let Ok((header, _)) = Header::decode(block)
        && header.generation == generation
    {
        if offset < at + header.batch_bytes() {
            return Some(at);
        }
        at += header.batch_bytes();
    }
    None
}

#[test]
fn a_changed_byte_anywhere_is_named_or_is_in_no_use() {
    let (disk, expected) = marked_log(7);
    let newest = |name: &String| {
        Header::decode(&disk.contents(name).unwrap()).map_or(0, |(header, _)| header.generation)
    };
    let last = disk.files().iter().map(newest).max().unwrap();
    let oldest = disk.files().iter().find(|name| newest(name) == last).map(|name| {
        let bytes = disk.contents(name).unwrap();
        let mut oldest = 0;
        let mut at = 0;
        while let Some(block) = bytes.get(at..)
            && let Ok((header, _)) = Header::decode(block)
            && header.generation == last
        {
            oldest = header.oldest;
            at += header.batch_bytes() as usize;
        }
        oldest
    });
    let (mut named, mut unused) = (0, 0);
    for name in disk.files() {
        let bytes = disk.contents(&name).unwrap();
        let generation = newest(&name);
        for offset in (0..bytes.len() as u64).filter(|offset| offset % 4096 < 128 || offset % 29 == 0) {
            let copy = disk.fork(offset);
            copy.flip(&name, offset, (offset % 8) as u8);
            let batch = batch_at(&bytes, generation, offset).filter(|_| Some(generation) >= oldest);
            match (open(&copy, small()), batch) {
                (
                    Err(WalError::Damaged {
                        file, offset: found, ..
                    }),
                    Some(batch),
                ) => {
                    named += 1;
                    if batch > 0 {
                        assert_eq!((file, found), (name.clone(), batch), "byte {offset} of {name}");
                    }
                }
                (Ok((_, _, records)), None) => {
                    unused += 1;
                    assert!(records == expected, "byte {offset} of {name}");
                }
                // The lone mark at the end is covered by nothing; it holds no record.
                (Ok((_, recovered, records)), Some(_)) => {
                    assert!(
                        records == expected && generation == last,
                        "byte {offset} of {name}: {recovered:?}"
                    );
                }
                (Err(fault), _) => panic!("byte {offset} of {name}: {fault}"),
            }
        }
    }
    assert!(named > 1000 && unused > 500, "{named} named, {unused} unused");
}

#[test]
fn damage_in_the_last_batch_is_named_once_its_mark_is_written() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    log.put(b"a");
    log.put(b"b");
    let torn = disk.fork(1);
    torn.flip("log/00000001.seg", 2 * 4096 + 96 + 4, 0);
    let (_, recovered, records) = open(&torn, small()).unwrap();
    assert_eq!((records.len(), recovered.torn.unwrap().offset), (1, 2 * 4096));
    log.mark();
    disk.flip("log/00000001.seg", 2 * 4096 + 96 + 4, 0);
    let fault = open(&disk, small()).err().unwrap().to_string();
    let text = "log is damaged: log/00000001.seg at 8192: expected batch 3, found no intact batch of that number, and batch 4 follows in log/00000001.seg at 12288";
    assert_eq!(fault, text);
}

#[test]
fn the_header_of_a_torn_batch_is_a_mark_for_the_one_before() {
    let disk = SimDisk::new(1);
    let mut log = Log::open(&disk, small());
    log.put(b"a");
    log.put(&[1; 9000]);
    let name = "log/00000001.seg";
    disk.flip(name, 2 * 4096 + 8000, 0);
    let (_, recovered, records) = open(&disk.fork(1), small()).unwrap();
    assert_eq!(
        (records.len(), recovered.torn.is_some()),
        (1, true),
        "the last batch is torn, no more"
    );
    disk.flip(name, 4096 + 97, 0);
    match open(&disk, small()) {
        Err(WalError::Damaged { file, offset, .. }) => assert_eq!((&file[..], offset), (name, 4096)),
        other => panic!("{:?}", other.map(|(_, recovered, _)| recovered)),
    }
}

#[test]
fn a_missing_or_shortened_segment_is_named() {
    let (disk, expected) = marked_log(9);
    let mut refused = 0;
    for name in disk.files() {
        let without = disk.fork(1);
        without.unlink(&name).unwrap();
        let shortened = disk.fork(1);
        let bytes = disk.contents(&name).unwrap();
        shortened.set_contents(&name, &bytes[..bytes.len() - 4096]);
        for copy in [without, shortened] {
            match open(&copy, small()) {
                Err(WalError::Damaged { .. }) => refused += 1,
                Ok((_, _, records)) => assert!(records == expected, "{name}"),
                Err(fault) => panic!("{name}: {fault}"),
            }
        }
    }
    assert!(refused >= 6, "{refused}");
}

fn newest(disk: &SimDisk) -> String {
    let generation =
        |name: &String| Header::decode(&disk.contents(name).unwrap()).map_or(0, |found| found.0.generation);
    disk.files().into_iter().max_by_key(generation).unwrap()
}

/// After every record, with and without a sync in between: the segment before tells of the newest one, whether it is
/// needed or not, and after a restart in the middle of the roll-over too.
#[test]
fn a_newest_segment_that_is_gone_or_lost_its_start_is_named() {
    for release in [false, true] {
        let disk = SimDisk::new(13);
        let mut log = Log::open(&disk, small());
        let mut tried = 0;
        for round in 0..60 {
            let lsn = log.put(&record(13, round, (round * 977 % 9000) as usize));
            if release {
                log.wal.release(lsn);
            }
            if round % 20 == 19 {
                drop(log);
                log = Log::open(&disk, small());
            }
            let name = newest(&disk);
            let bytes = disk.contents(&name).unwrap();
            if Header::decode(&bytes).unwrap().0.generation == 1 {
                continue;
            }
            tried += 1;
            for cut in [None, Some(0), Some(100), Some(4095)] {
                let copy = disk.fork(round);
                match cut {
                    None => copy.unlink(&name).unwrap(),
                    Some(length) => copy.set_contents(&name, &bytes[..length]),
                }
                let opened = open(&copy, small());
                assert!(
                    matches!(opened, Err(WalError::Damaged { .. })),
                    "round {round}, cut {cut:?}: {:?}",
                    opened.map(|(_, recovered, _)| recovered)
                );
            }
        }
        assert!(tried > 40, "{tried}");
    }
}

/// The process ends between the first batch of a segment and its turn, or between the turn's write and its sync: the
/// next opening writes it, and a power cut after that does not take it.
#[test]
fn a_turn_that_is_missing_is_written_when_opening() {
    for (release, in_cache) in [(false, false), (true, false), (false, true), (true, true)] {
        let (disk, _) = marked_log(15);
        let name = newest(&disk);
        let mut log = Log::open(&disk, small());
        // Until the log goes on in another segment; then nothing more is executed.
        while newest(&disk) == name {
            let lsn = log.append(&record(15, 1, 4000));
            log.flush();
            while let Some(at) = log.queue.iter().position(|r| !is_turn(r)) {
                log.step(at).unwrap();
            }
            if release {
                log.wal.release(lsn);
            }
        }
        let turn = log.queue.iter().position(is_turn).expect("it is on its way");
        if in_cache {
            log.step(turn).unwrap();
        } else {
            let without = disk.fork(1);
            without.unlink(&newest(&disk)).unwrap();
            assert!(open(&without, small()).is_ok(), "nothing tells yet");
        }
        drop(log);
        disk.kill();
        drop(open(&disk, small()).unwrap());
        for seed in 0..20 {
            let copy = disk.fork(seed);
            copy.crash();
            copy.unlink(&newest(&copy)).unwrap();
            let opened = open(&copy, small());
            assert!(
                matches!(opened, Err(WalError::Damaged { .. })),
                "{release} {in_cache} {seed}"
            );
        }
    }
}

fn is_turn(request: &IoRequest) -> bool {
    match &request.op {
        IoOp::Write { parts, .. } => Header::decode(&parts[0]).is_ok_and(|(header, _)| header.is_turn),
        _ => false,
    }
}

#[test]
fn a_damaged_log_is_left_as_it_is() {
    let (disk, _) = marked_log(11);
    let name = disk.files().remove(0);
    let header = Header::decode(&disk.contents(&name).unwrap()).unwrap().0;
    disk.flip(&name, header.batch_bytes() + 20, 1);
    let before: Vec<_> = disk.files().iter().map(|name| disk.contents(name)).collect();
    for _ in 0..2 {
        if open(&disk, small()).is_err() {
            let after: Vec<_> = disk.files().iter().map(|name| disk.contents(name)).collect();
            assert!(before == after);
        }
    }
}

/// The disk says that it has written, and has not, or elsewhere.
#[test]
fn lost_and_misdirected_writes_are_found() {
    let (mut found, mut harmless) = (0, 0);
    for seed in 0..3_000 {
        let mut rng = SeededRng::new(seed);
        let disk = SimDisk::new(seed);
        let mut log = Log::open(&disk, small());
        let mut expected = Records::new();
        for round in 0..30 {
            if round == 5 {
                let nth = 1 + rng.below(20);
                if rng.chance(1, 2) {
                    disk.lose_write(nth)
                } else {
                    disk.misdirect_write(nth)
                }
            }
            let bytes = record(seed, round, rng.below(9000) as usize);
            expected.insert(log.put(&bytes).0, bytes);
        }
        log.mark();
        match open(&disk, small()) {
            Err(WalError::Damaged { .. }) => found += 1,
            Ok((_, _, records)) => {
                harmless += 1;
                assert!(records == expected, "seed {seed}");
            }
            Err(fault) => panic!("seed {seed}: {fault}"),
        }
    }
    assert!(
        found > 1000 && harmless > 10,
        "{found} found, {harmless} harmless"
    );
}

#[test]
fn an_unreadable_block_is_an_error_of_the_disk() {
    let (disk, _) = marked_log(3);
    disk.break_block("log/00000001.seg", 0);
    assert!(matches!(open(&disk, small()), Err(WalError::Io { .. })));
}

/// Any change of the files whatever: no panic, and never a record that was not appended under its number.
#[test]
fn opening_a_mutated_image_never_panics_and_never_invents() {
    let (disk, expected) = marked_log(5);
    let all: Records = (0..40)
        .map(|round| (round + 1, record(5, round, (round * 977 % 9000) as usize)))
        .collect();
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..3_000 {
        let mut rng = SeededRng::new(seed).split("mutate");
        let copy = disk.fork(seed);
        for _ in 0..1 + rng.below(4) {
            mutate(&copy, &mut rng);
        }
        match open(&copy, small()) {
            Ok((wal, _, records)) => {
                opened += 1;
                for (lsn, bytes) in &records {
                    assert!(all.get(lsn) == Some(bytes), "seed {seed} record {lsn}");
                }
                let mut log = Log::new(wal);
                let lsn = log.put(b"goes on");
                assert!(lsn > Lsn(records.keys().last().copied().unwrap_or(0)));
                let again = open(&copy, small()).unwrap().2;
                assert_eq!(again[&lsn.0], b"goes on");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(
        opened > 300 && refused > 300,
        "{opened} opened, {refused} refused"
    );
    assert!(!expected.is_empty());
}

fn mutate(disk: &SimDisk, rng: &mut SeededRng) {
    let files = disk.files();
    if files.is_empty() {
        return;
    }
    let pick = |rng: &mut SeededRng| files[rng.below(files.len() as u64) as usize].clone();
    let name = pick(rng);
    let mut bytes = disk.contents(&name).unwrap();
    let blocks = (bytes.len() / 4096) as u64;
    if blocks == 0 {
        return;
    }
    let at = rng.below(blocks) as usize * 4096;
    match rng.below(7) {
        0 => bytes[at + rng.below(200) as usize] ^= 1 << rng.below(8),
        1 => bytes[at + rng.below(4096) as usize] = rng.next_u64() as u8,
        2 => bytes[at..at + 4096].fill(0),
        3 => bytes.truncate(at + rng.below(4096) as usize),
        4 => rng.fill(&mut bytes[at..at + 4096]),
        5 => {
            // A block of another place.
            let other = disk.contents(&pick(rng)).unwrap();
            if let Some(block) = other.get(at..at + 4096) {
                let to = rng.below(blocks) as usize * 4096;
                bytes[to..to + 4096].copy_from_slice(block);
            }
        }
        _ => {
            // A header that is impossible, and yet has the right checksum.
            if let Ok((mut header, _)) = Header::decode(&bytes[at..]) {
                match rng.below(6) {
                    0 => header.body_bytes = rng.next_u64() as u32,
                    1 => header.place_blocks = rng.next_u64() as u32,
                    2 => header.segment_blocks = rng.next_u64() as u32,
                    3 => header.oldest = rng.next_u64(),
                    4 => header.generation = rng.next_u64(),
                    _ => header.number = rng.next_u64(),
                }
                let (encoded, _) = header.encode();
                bytes[at..at + encoded.len()].copy_from_slice(&encoded);
            }
        }
    }
    disk.set_contents(&name, &bytes);
}
