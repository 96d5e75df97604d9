//! What many chunks on one disk cost: memory, checkpoints, the longest step of the store, opening after a crash.
//! `cargo run --release -p drystone-store --example many_chunks -- DIRECTORY [COUNT]`, 20,000,000 chunks unless told otherwise.
//!
//! Journal, checkpoints and index are real files in the directory; the arenas only pretend, so that 20 million units
//! of 64 KiB need no terabyte: what is written to them is dropped.

#![allow(clippy::disallowed_methods)]

use bytes::Bytes;
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Disk, DiskFile, IoRequest, Monotonic, OpenOptions, Rng, SeededRng, Space};
use drystone_proto::checksum::block_checksums;
use drystone_store::{
    AppendFrame, IoClass, LastFrame, RequestId, Store, StoreConfig, StoreInput, StoreOutput,
};
use drystone_types::{ChunkId, DiskId, DiskRef, Epoch, Incarnation, PlacementIndex};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ME: DiskRef = DiskRef {
    disk: DiskId(1),
    incarnation: Incarnation(2),
};
/// Requests that wait for one sync.
const BATCH: u64 = 512;
/// Of the pretended file system.
const TOTAL: u64 = 4 << 40;

/// A disk whose arenas only have a length.
struct Pretended {
    inner: OsDisk,
    arenas: Arc<Mutex<BTreeMap<String, u64>>>,
}

struct Arena {
    name: String,
    arenas: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Disk for Pretended {
    fn open(&self, name: &str, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        if !name.starts_with("arenas/") {
            return self.inner.open(name, options);
        }
        self.arenas
            .lock()
            .expect("alive")
            .entry(name.to_owned())
            .or_default();
        Ok(Arc::new(Arena {
            name: name.to_owned(),
            arenas: Arc::clone(&self.arenas),
        }))
    }
    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.inner.create_dir(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn unlink(&self, name: &str) -> io::Result<()> {
        match self.arenas.lock().expect("alive").remove(name) {
            Some(_) => Ok(()),
            None => self.inner.unlink(name),
        }
    }
    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        if directory != "arenas" {
            return self.inner.list(directory);
        }
        let arenas = self.arenas.lock().expect("alive");
        Ok(arenas
            .keys()
            .map(|name| name["arenas/".len()..].to_owned())
            .collect())
    }
    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.inner.sync_dir(directory)
    }
    fn space(&self) -> io::Result<Space> {
        let taken: u64 = self.arenas.lock().expect("alive").values().sum();
        Ok(Space {
            total: TOTAL,
            free: TOTAL - taken,
            free_files: u64::MAX,
            device: 1,
        })
    }
}

impl DiskFile for Arena {
    fn read_at(&self, buffer: &mut [u8], _offset: u64) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }
    fn write_at(&self, _data: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.truncate(length)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.arenas.lock().expect("alive")[&self.name])
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.arenas
            .lock()
            .expect("alive")
            .insert(self.name.clone(), length);
        Ok(())
    }
}

/// A store whose disk work is done at once, in the order in which it is asked for.
struct Shell {
    store: Store,
    start: Instant,
    pool: BufferPool,
    longest: Duration,
    answers: u64,
}

impl Shell {
    fn open(
        directory: &Path,
        arenas: &Arc<Mutex<BTreeMap<String, u64>>>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let disk = Pretended {
            inner: OsDisk::new(directory)?,
            arenas: Arc::clone(arenas),
        };
        let pool = BufferPool::new(32 << 20);
        let (store, _) = Store::open(Arc::new(disk), StoreConfig::default(), ME, pool.clone())?;
        Ok(Self {
            store,
            start: Instant::now(),
            pool,
            longest: Duration::ZERO,
            answers: 0,
        })
    }

    fn input(&mut self, input: StoreInput) -> Vec<IoRequest> {
        let (mut out, begin) = (Vec::new(), Instant::now());
        self.store.on(
            Monotonic(self.start.elapsed().as_micros() as u64),
            input,
            &mut out,
        );
        self.longest = self.longest.max(begin.elapsed());
        let mut work = Vec::new();
        for output in out {
            match output {
                StoreOutput::Io { request, .. } => work.push(request),
                StoreOutput::StoreReply { request, result } => {
                    result.unwrap_or_else(|error| panic!("{request:?}: {error}"));
                    self.answers += 1;
                }
                StoreOutput::Wake(_) => {}
            }
        }
        work
    }

    /// Gives the inputs, then does all disk work that follows.
    fn run(&mut self, inputs: impl IntoIterator<Item = StoreInput>) {
        let mut work = Vec::new();
        for input in inputs {
            work.extend(self.input(input));
        }
        while !work.is_empty() {
            for request in std::mem::take(&mut work) {
                work.extend(self.input(StoreInput::Io(request.execute(&self.pool))));
            }
        }
    }

    /// Until all is in its place.
    fn settle(&mut self) {
        while !self.store.is_idle() {
            std::thread::sleep(Duration::from_millis(5));
            self.run([StoreInput::Tick]);
        }
    }

    fn step(&mut self) -> f64 {
        std::mem::take(&mut self.longest).as_secs_f64() * 1e3
    }
}

fn append(chunk: u64) -> StoreInput {
    let data = Bytes::copy_from_slice(&(chunk as u128).to_le_bytes());
    let frame = AppendFrame {
        chunk: ChunkId(chunk),
        epoch: Epoch::FIRST,
        placement: PlacementIndex(1),
        max_bytes: 64 << 10,
        offset: 0,
        checksums: block_checksums(&data).into(),
        data,
        sync: false,
        last: Some(LastFrame { checksum: None }),
        io_class: IoClass::default(),
    };
    StoreInput::Append {
        request: RequestId(chunk),
        frame,
    }
}

fn delete(chunk: u64) -> StoreInput {
    StoreInput::Delete {
        request: RequestId(chunk),
        chunk: ChunkId(chunk),
        placement: PlacementIndex(1),
        incarnation: ME.incarnation,
    }
}

fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

fn written_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

fn checkpoint(shell: &mut Shell, what: &str) {
    let (begin, written) = (Instant::now(), written_bytes());
    shell.step();
    shell.store.begin_checkpoint();
    shell.run([StoreInput::Tick]);
    println!(
        "checkpoint {what}: {:.2} s, {:.1} MB written, longest step {:.1} ms",
        begin.elapsed().as_secs_f64(),
        (written_bytes() - written) / 1e6,
        shell.step()
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let directory = words.next().expect("a directory");
    let count: u64 = words.next().map_or(Ok(20_000_000), |word| word.parse())?;
    let directory = Path::new(&directory).join("many-chunks");
    let _ = std::fs::remove_dir_all(&directory);
    let arenas = Arc::default();
    let mut shell = Shell::open(&directory, &arenas)?;
    shell.run((1..=BATCH).map(append));
    shell.settle();
    let (before, begin) = (resident_bytes(), Instant::now());
    let mut at = BATCH + 1;
    while at <= count {
        let end = (at + BATCH).min(count + 1);
        shell.run((at..end).map(append));
        at = end;
        if at % (count / 10).max(1) < BATCH {
            println!(
                "{at} chunks, {:.0} s, longest step {:.1} ms",
                begin.elapsed().as_secs_f64(),
                shell.longest.as_secs_f64() * 1e3
            );
        }
    }
    shell.settle();
    let memory = (resident_bytes() - before) / count as f64;
    println!(
        "written: {:.0} chunks/s, longest step {:.1} ms, {memory:.1} bytes of memory for each chunk",
        count as f64 / begin.elapsed().as_secs_f64(),
        shell.step()
    );
    checkpoint(&mut shell, "after the last chunks");
    shell.run((count + 1..=count + 1000).map(append));
    shell.settle();
    checkpoint(&mut shell, "after 1000 chunks more");
    let begin = Instant::now();
    (0..1000).for_each(|_| assert!(shell.store.status().chunks >= count));
    println!("status: {:.1} us", begin.elapsed().as_secs_f64() * 1e3);

    let mut rng = SeededRng::new(1);
    let mut gone: Vec<u64> = (0..count / 20).map(|_| 1 + rng.below(count)).collect();
    gone.sort_unstable();
    gone.dedup();
    let begin = Instant::now();
    for some in gone.chunks(BATCH as usize) {
        shell.run(some.iter().copied().map(delete));
    }
    println!(
        "{} deleted at random: {:.0}/s, longest step {:.1} ms",
        gone.len(),
        gone.len() as f64 / begin.elapsed().as_secs_f64(),
        shell.step()
    );
    checkpoint(&mut shell, "after that, in which every leaf may have changed");

    // What only the journal has, as after a crash at the worst time.
    let mut extra = count + 1001;
    let end = extra + 100_000;
    while extra < end {
        shell.run((extra..extra + BATCH).map(append));
        extra += BATCH;
    }
    let held = shell.store.status();
    drop(shell);
    let begin = Instant::now();
    let shell = Shell::open(&directory, &arenas)?;
    let took = begin.elapsed().as_secs_f64();
    let found = shell.store.status();
    assert_eq!(
        (held.chunks, held.used_bytes),
        (found.chunks, found.used_bytes),
        "everything is back"
    );
    println!(
        "opened after a crash: {took:.1} s, {:.2} s for each million of {} chunks",
        took / found.chunks as f64 * 1e6,
        found.chunks
    );
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
