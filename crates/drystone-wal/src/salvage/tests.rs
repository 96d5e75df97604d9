use super::*;
use crate::{Wal, tools::drain};
use drystone_env::os::OsDisk;
use drystone_env::{Monotonic, OpenOptions};
use std::sync::Arc;
use tempfile::TempDir;

fn config() -> WalConfig {
    WalConfig {
        segment_bytes: 64 << 10,
        batch_bytes: 8 << 10,
        identity: 9,
        ..WalConfig::default()
    }
}

/// Twenty batches of two records each, over some segments.
fn written() -> (TempDir, Arc<OsDisk>, BufferPool) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(OsDisk::new(directory.path()).unwrap());
    let pool = BufferPool::new(1 << 20);
    let (mut wal, _) = Wal::open(Arc::clone(&disk) as _, config(), pool.clone(), &mut |_, _| Ok(())).unwrap();
    for batch in 0..20 {
        for record in 0..2 {
            wal.append(&[format!("record {}", batch * 2 + record).into()])
                .unwrap();
        }
        drain(&mut wal, Monotonic(0), &pool).unwrap();
    }
    (directory, disk, pool)
}

fn read(disk: &OsDisk, pool: &BufferPool) -> (Vec<(u64, Bytes)>, Salvaged) {
    let mut records = Vec::new();
    let found = salvage(disk, &config(), pool, &mut |lsn, record| {
        records.push((lsn.0, record))
    })
    .unwrap();
    (records, found)
}

fn damage(disk: &OsDisk, text: &[u8]) -> (String, u64) {
    for name in disk.list("log").unwrap() {
        let name = format!("log/{name}");
        let file = disk.open(&name, OpenOptions::default()).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            file.write_at(b"X", at as u64).unwrap();
            return (name, at as u64 / BLOCK_BYTES as u64 * BLOCK_BYTES as u64);
        }
    }
    panic!("no such record");
}

#[test]
fn a_newest_segment_that_is_gone_is_told_of() {
    let (_directory, disk, pool) = written();
    let start = |name: &String| {
        let file = disk.open(name, OpenOptions::default()).unwrap();
        let mut bytes = vec![0; BLOCK_BYTES];
        file.read_at(&mut bytes, 0).unwrap();
        Header::decode(&bytes).map_or((0, 0), |(header, _)| (header.generation, header.first))
    };
    let names = disk
        .list("log")
        .unwrap()
        .into_iter()
        .map(|name| format!("log/{name}"));
    let newest = names.max_by_key(start).unwrap();
    let (generation, first) = start(&newest);
    assert!(generation > 1);
    disk.unlink(&newest).unwrap();
    let (records, found) = read(&disk, &pool);
    assert_eq!(
        (records.len() as u64, found.gone_from),
        (first - 1, Some(Lsn(first)))
    );
    assert!(found.fault.is_some());
}

#[test]
fn an_intact_log_is_read_whole() {
    let (_directory, disk, pool) = written();
    let (records, found) = read(&disk, &pool);
    assert_eq!(records.len(), 40);
    assert!(records.iter().enumerate().all(|(at, (lsn, record))| {
        *lsn == at as u64 + 1 && *record == format!("record {at}").as_bytes()
    }));
    assert_eq!(
        (found.records, found.gaps, found.tail, found.fault),
        (40, vec![], None, None)
    );
}

#[test]
fn a_damaged_batch_is_a_gap_of_known_size_and_what_follows_is_read() {
    let (_directory, disk, pool) = written();
    let (file, offset) = damage(&disk, b"record 20");
    let opened = Wal::open(Arc::clone(&disk) as _, config(), pool.clone(), &mut |_, _| Ok(()));
    assert!(matches!(opened, Err(WalError::Damaged { .. })));
    let (records, found) = read(&disk, &pool);
    assert_eq!(records.len(), 38);
    assert!(records.iter().all(|(lsn, record)| {
        *record == format!("record {}", lsn - 1).as_bytes() && !(21..=22).contains(lsn)
    }));
    let gap = Gap {
        file,
        offset,
        first: Lsn(21),
        records: 2,
    };
    assert_eq!(found.gaps, [gap]);
    assert!(found.fault.unwrap().contains("damaged"));
}

#[test]
fn a_damaged_end_is_told() {
    let (_directory, disk, pool) = written();
    let (file, offset) = damage(&disk, b"record 39");
    let (records, found) = read(&disk, &pool);
    assert_eq!(records.len(), 38);
    let tail = found.tail.unwrap();
    assert_eq!((tail.file, tail.offset), (file, offset));
}
