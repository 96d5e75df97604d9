//! A log with its queue of requests, executed one at a time.

use bytes::Bytes;
use drystone_env::sim::SimDisk;
use drystone_env::{BufferPool, IoRequest, Monotonic};
use drystone_wal::{Lsn, Recovered, Wal, WalConfig, WalError};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const MARK_AFTER: Monotonic = Monotonic(10_000);
pub const DIRECTORY: &str = "log";

/// Segments of eight blocks, batches of at most three.
pub fn small() -> WalConfig {
    WalConfig {
        directory: DIRECTORY.into(),
        identity: 0x1122_3344_5566_7788,
        segment_bytes: 8 * 4096,
        batch_bytes: 3 * 4096,
        ..WalConfig::default()
    }
}

pub type Records = BTreeMap<u64, Vec<u8>>;

/// Opens, and checks that what is visited has consecutive numbers and is what the report says.
pub fn open(disk: &SimDisk, config: WalConfig) -> Result<(Wal, Recovered, Records), WalError> {
    let mut records = Records::new();
    let pool = BufferPool::new(4 << 20);
    let (wal, recovered) = Wal::open(Arc::new(disk.clone()), config, pool, &mut |lsn, record| {
        if let Some((last, _)) = records.last_key_value() {
            assert_eq!(lsn.0, last + 1);
        }
        records.insert(lsn.0, record.to_vec());
        Ok(())
    })?;
    assert_eq!(recovered.records, records.len() as u64);
    assert_eq!(recovered.last, wal.durable());
    if let Some((last, _)) = records.last_key_value() {
        assert_eq!(
            (records.keys().next(), *last),
            (Some(&recovered.first.0), recovered.last.0)
        );
    } else {
        assert_eq!(recovered.first, recovered.last.next());
    }
    Ok((wal, recovered, records))
}

/// A record that nothing else equals.
pub fn record(seed: u64, lsn: u64, length: usize) -> Vec<u8> {
    let stamp = [seed.to_le_bytes(), lsn.to_le_bytes()].concat();
    stamp.iter().copied().cycle().take(length).collect()
}

pub struct Log {
    pub wal: Wal,
    pub pool: BufferPool,
    pub now: Monotonic,
    pub queue: Vec<IoRequest>,
}

impl Log {
    pub fn new(wal: Wal) -> Self {
        Self {
            wal,
            pool: BufferPool::new(4 << 20),
            now: Monotonic(0),
            queue: Vec::new(),
        }
    }

    pub fn open(disk: &SimDisk, config: WalConfig) -> Self {
        Self::new(open(disk, config).unwrap().0)
    }

    pub fn append(&mut self, data: &[u8]) -> Lsn {
        self.wal.append(&[Bytes::copy_from_slice(data)]).unwrap()
    }

    pub fn flush(&mut self) {
        self.wal.flush(self.now, &mut self.queue);
    }

    /// Executes the request at `index` of the queue.
    pub fn step(&mut self, index: usize) -> Result<Option<Lsn>, WalError> {
        let completion = self.queue.remove(index).execute(&self.pool);
        self.wal.on_completion(self.now, completion, &mut self.queue)
    }

    pub fn settle(&mut self) -> Result<(), WalError> {
        while !self.queue.is_empty() {
            self.step(0)?;
        }
        Ok(())
    }

    /// Appends one record, durably.
    pub fn put(&mut self, data: &[u8]) -> Lsn {
        let lsn = self.append(data);
        self.flush();
        self.settle().unwrap();
        assert_eq!(self.wal.durable(), lsn);
        lsn
    }

    /// Lets the mark become due, and writes it.
    pub fn mark(&mut self) {
        self.now = Monotonic(self.now.0 + MARK_AFTER.0);
        self.wal.tick(self.now, &mut self.queue);
        self.settle().unwrap();
    }
}
