//! A store on a simulated disk whose work is executed in an order drawn from a seed.

use bytes::Bytes;
use drystone_env::sim::SimDisk;
use drystone_env::{BufferPool, IoOp, IoRequest, Monotonic, Rng, SeededRng};
use drystone_proto::checksum::{Checksums, block_checksums};
use drystone_store::{
    AppendFrame, IoClass, LastFrame, OpenError, RecoveryReport, RequestId, Store, StoreConfig, StoreError,
    StoreInput, StoreOutput, StoreReply,
};
use drystone_types::{ChunkId, DiskId, DiskRef, Epoch, Incarnation, PlacementIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Lengths that grants name.
pub const K64: u64 = 64 << 10;
pub const M1: u64 = 1 << 20;

pub const ME: DiskRef = DiskRef {
    disk: DiskId(7),
    incarnation: Incarnation(77),
};

pub fn tiny() -> StoreConfig {
    StoreConfig {
        reserve_bytes: 0,
        segment_bytes: 256 << 10,
        batch_bytes: 128 << 10,
        checkpoint_bytes: 300 << 10,
        small_bytes: 16 << 10,
        move_bytes: 64 << 10,
        move_after: Duration::from_millis(20),
        arena_bytes: Some(512 << 10),
        spare_bytes: 128 << 10,
        remove_after: Duration::from_millis(200),
        checksum_cache_bytes: 400,
        ..StoreConfig::default()
    }
}

/// Arenas that are nearly empty are soon emptied.
pub fn emptying() -> StoreConfig {
    StoreConfig {
        spare_bytes: 64 << 10,
        remove_after: Duration::from_millis(10),
        ..tiny()
    }
}

/// Both of [`emptying`] and [`tiny_leaves`].
pub fn emptying_leaves() -> StoreConfig {
    let StoreConfig {
        leaf_bytes,
        leaf_step_bytes,
        ..
    } = tiny_leaves();
    StoreConfig {
        leaf_bytes,
        leaf_step_bytes,
        ..emptying()
    }
}

/// As [`tiny`], with an index of many leaves, written one at a time.
pub fn tiny_leaves() -> StoreConfig {
    StoreConfig {
        leaf_bytes: 150,
        leaf_step_bytes: 16 << 10,
        ..tiny()
    }
}

pub struct Sim {
    pub disk: SimDisk,
    pub store: Store,
    pub rng: SeededRng,
    pub now: Monotonic,
    pub pending: Vec<IoRequest>,
    /// Of all disk work so far.
    pub classes: Vec<IoClass>,
    /// The disk work that reads for others, not for a copy, by its tokens.
    pub foreground_reads: BTreeSet<u64>,
    pub replies: BTreeMap<RequestId, Result<StoreReply, StoreError>>,
    pub next_request: u64,
    config: StoreConfig,
    pool: BufferPool,
}

pub fn open(disk: &SimDisk, config: StoreConfig) -> Result<(Store, RecoveryReport), OpenError> {
    Store::open(Arc::new(disk.clone()), config, ME, BufferPool::new(4 << 20))
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self::on(SimDisk::new(seed), seed, tiny_leaves()).unwrap()
    }

    pub fn on(disk: SimDisk, seed: u64, config: StoreConfig) -> Result<Self, OpenError> {
        let (store, _) = open(&disk, config.clone())?;
        let rng = SeededRng::new(seed).split("sim");
        Ok(Self {
            disk,
            store,
            rng,
            now: Monotonic(1),
            pending: Vec::new(),
            classes: Vec::new(),
            foreground_reads: BTreeSet::new(),
            replies: BTreeMap::new(),
            next_request: 1,
            config,
            pool: BufferPool::new(4 << 20),
        })
    }

    pub fn input(&mut self, input: StoreInput) {
        let mut out = Vec::new();
        let is_tick = matches!(input, StoreInput::Tick);
        self.store.on(self.now, input, &mut out);
        if let [StoreOutput::Wake(at)] = out[..] {
            // Whoever does as it asks would go round for ever.
            assert!(
                !is_tick || at > self.now,
                "a tick that did nothing asks for another at once"
            );
        }
        for output in out {
            match output {
                StoreOutput::Io { class, request } => {
                    self.classes.push(class);
                    if class == IoClass::Foreground && matches!(request.op, IoOp::Read { .. }) {
                        self.foreground_reads.insert(request.token.0);
                    }
                    self.pending.push(request);
                }
                StoreOutput::StoreReply { request, result } => {
                    let old = self.replies.insert(request, result);
                    assert!(old.is_none(), "two answers to {request:?}");
                }
                StoreOutput::Wake(_) => {}
            }
        }
    }

    pub fn request(&mut self, make: impl FnOnce(RequestId) -> StoreInput) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.input(make(request));
        request
    }

    /// Executes one piece of disk work, any.
    pub fn step(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let at = self.rng.below(self.pending.len() as u64) as usize;
        self.execute(at);
        true
    }

    /// Executes one piece of disk work, any but a read for somebody.
    pub fn step_but_reads(&mut self) -> bool {
        let others = self.pending.iter().enumerate();
        let others = others.filter(|(_, request)| !self.foreground_reads.contains(&request.token.0));
        let others: Vec<usize> = others.map(|(at, _)| at).collect();
        if others.is_empty() {
            return false;
        }
        let at = others[self.rng.below(others.len() as u64) as usize];
        self.execute(at);
        true
    }

    fn execute(&mut self, at: usize) {
        let request = self.pending.swap_remove(at);
        let completion = request.execute(&self.pool);
        if !self.disk.is_off() {
            self.input(StoreInput::Io(completion));
        }
    }

    pub fn tick(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.input(StoreInput::Tick);
    }

    /// Until nothing is under way; time does not pass.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// Until everything is in its runs.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            self.run();
            self.tick(Duration::from_millis(30));
        }
        self.run();
        assert!(self.disk.is_off() || self.store.status().read_only.is_some() || self.store.is_idle());
    }

    pub fn ask(&mut self, make: impl FnOnce(RequestId) -> StoreInput) -> Result<StoreReply, StoreError> {
        let request = self.request(make);
        self.run();
        self.replies
            .remove(&request)
            .expect("every request is answered when nothing is under way")
    }

    pub fn append(&mut self, chunk: u64, max_bytes: u64, offset: u64, data: &[u8], how: How) -> RequestId {
        let (data, checksums) = (self.pool.copy(data).freeze(), block_checksums(data));
        self.request(|request| frame(request, chunk, 1, max_bytes, offset, data, checksums, how))
    }

    pub fn write(&mut self, chunk: u64, max_bytes: u64, data: &[u8]) -> Result<StoreReply, StoreError> {
        let request = self.append(chunk, max_bytes, 0, data, How::Last(None));
        self.run();
        self.replies.remove(&request).expect("answered")
    }

    pub fn delete(&mut self, chunk: u64) {
        let deleted = self.ask(|request| deletion(request, chunk));
        assert_eq!(deleted, Ok(StoreReply::Deleted));
    }

    pub fn read(&mut self, chunk: u64, offset: u64, length: u32) -> Result<Bytes, StoreError> {
        let chunk = ChunkId(chunk);
        let reply = self.ask(|request| StoreInput::Read {
            request,
            chunk,
            placement: None,
            offset,
            length,
            io_class: IoClass::default(),
        })?;
        let StoreReply::Data { data, checksums, .. } = reply else {
            panic!("a read is answered with data")
        };
        if let Some(checksums) = checksums {
            assert_eq!(checksums, block_checksums(&data));
        }
        Ok(data)
    }

    pub fn read_all(&mut self, chunk: u64, length: u64) -> Result<Vec<u8>, StoreError> {
        let mut all = Vec::new();
        while (all.len() as u64) < length {
            let here = (length - all.len() as u64).min(1 << 20);
            all.extend_from_slice(&self.read(chunk, all.len() as u64, here as u32)?);
        }
        Ok(all)
    }

    /// The power goes and comes back.
    pub fn crash(self) -> Result<Self, OpenError> {
        drop(self.store);
        self.disk.crash();
        Self::reopen(self.disk, self.config, self.rng, self.next_request)
    }

    fn reopen(
        disk: SimDisk,
        config: StoreConfig,
        mut rng: SeededRng,
        next_request: u64,
    ) -> Result<Self, OpenError> {
        let seed = rng.next_u64();
        let mut sim = Self::on(disk, seed, config)?;
        (sim.rng, sim.next_request) = (rng, next_request);
        Ok(sim)
    }

    /// The process ends in good order and starts again.
    pub fn restart(self) -> Result<Self, OpenError> {
        drop(self.store);
        self.disk.kill();
        Self::reopen(self.disk, self.config, self.rng, self.next_request)
    }
}

/// The deletion of a chunk in its first placement.
pub fn deletion(request: RequestId, chunk: u64) -> StoreInput {
    StoreInput::Delete {
        request,
        chunk: ChunkId(chunk),
        placement: PlacementIndex(1),
        incarnation: ME.incarnation,
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum How {
    Received,
    Sync,
    Last(Option<u32>),
}

#[allow(clippy::too_many_arguments)]
pub fn frame(
    request: RequestId,
    chunk: u64,
    placement: u64,
    max_bytes: u64,
    offset: u64,
    data: Bytes,
    checksums: impl Into<Checksums>,
    how: How,
) -> StoreInput {
    let frame = AppendFrame {
        chunk: ChunkId(chunk),
        epoch: Epoch::FIRST,
        placement: PlacementIndex(placement),
        max_bytes,
        offset,
        data,
        checksums: checksums.into(),
        sync: how == How::Sync,
        last: match how {
            How::Last(checksum) => Some(LastFrame { checksum }),
            _ => None,
        },
        io_class: IoClass::default(),
    };
    StoreInput::Append { request, frame }
}

/// Content that tells chunk, placement and place.
pub fn content(chunk: u64, placement: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SeededRng::new(chunk << 20 ^ placement).fill(&mut bytes);
    bytes
}
