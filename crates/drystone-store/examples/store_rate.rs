//! What a store does on a real directory: a stream of 1 GiB, and small chunks, each with four I/O threads.
//! `cargo run --release -p drystone-store --example store_rate -- DIRECTORY`

#![allow(clippy::disallowed_methods)]

use bytes::Bytes;
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Disk, IoCompletion, IoRequest, Monotonic};
use drystone_proto::checksum::Checksums;
use drystone_store::{
    AppendFrame, IoClass, LastFrame, RequestId, Store, StoreConfig, StoreInput, StoreOutput,
};
use drystone_types::{ChunkId, DiskId, DiskRef, Epoch, Incarnation, PlacementIndex};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

struct Shell {
    store: Store,
    start: Instant,
    work: Option<mpsc::Sender<IoRequest>>,
    done: mpsc::Receiver<IoCompletion>,
    wake: Option<Monotonic>,
    answered: Vec<RequestId>,
}

impl Shell {
    fn now(&self) -> Monotonic {
        Monotonic(self.start.elapsed().as_micros() as u64)
    }

    fn input(&mut self, input: StoreInput) {
        let mut out = Vec::new();
        self.store.on(self.now(), input, &mut out);
        for output in out {
            match output {
                StoreOutput::Io { request, .. } => self
                    .work
                    .as_ref()
                    .expect("open")
                    .send(request)
                    .expect("threads live"),
                StoreOutput::StoreReply { request, result } => {
                    result.expect("no request fails");
                    self.answered.push(request);
                }
                StoreOutput::Wake(at) => self.wake = Some(self.wake.map_or(at, |w| w.min(at))),
            }
        }
    }

    /// Waits for a completion or the time.
    fn turn(&mut self) {
        let patience = self
            .wake
            .map_or(Duration::from_millis(100), |wake| wake.since(self.now()));
        match self.done.recv_timeout(patience) {
            Ok(completion) => self.input(StoreInput::Io(completion)),
            Err(_) => {
                self.wake = None;
                self.input(StoreInput::Tick);
            }
        }
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn append(
    request: u64,
    chunk: u64,
    max_bytes: u64,
    offset: u64,
    data: (Bytes, Checksums),
    last: bool,
) -> StoreInput {
    let frame = AppendFrame {
        chunk: ChunkId(chunk),
        epoch: Epoch::FIRST,
        placement: PlacementIndex(1),
        max_bytes,
        offset,
        data: data.0,
        checksums: data.1,
        sync: false,
        last: last.then(LastFrame::default),
        io_class: IoClass::Foreground,
    };
    StoreInput::Append {
        request: RequestId(request),
        frame,
    }
}

/// 16 chunks of 64 MiB in frames of 1 MiB, at most 16 frames unwritten.
fn stream(shell: &mut Shell, first: u64, frame: &(Bytes, Checksums)) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut sealed = 0;
    for chunk in 0..16 {
        for at in 0..64 {
            let request = (first + chunk) << 8 | at;
            shell.input(append(
                request,
                first + chunk,
                64 << 20,
                at << 20,
                frame.clone(),
                at == 63,
            ));
            while shell.store.status().memory_bytes > 16 << 20 {
                shell.turn();
            }
        }
        sealed += 1;
    }
    let last = RequestId((first + 15) << 8 | 63);
    while !shell.answered.contains(&last) {
        shell.turn();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "stream of 1 GiB, {sealed} chunks: {:.0} MB/s, {:.2} CPU s/GiB",
        1073.7 / seconds,
        cpu_seconds() - cpu
    );
    shell.answered.clear();
}

fn small(shell: &mut Shell, first: u64, in_flight: usize, count: u64, frame: &(Bytes, Checksums)) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let (mut sent, mut begun, mut times) = (0, BTreeMap::new(), Vec::new());
    while (times.len() as u64) < count {
        while begun.len() < in_flight && sent < count {
            let id = first + sent;
            begun.insert(id, Instant::now());
            shell.input(append(id, id, 64 << 10, 0, frame.clone(), true));
            sent += 1;
        }
        shell.turn();
        for request in shell.answered.drain(..) {
            times.extend(begun.remove(&request.0).map(|t: Instant| t.elapsed()));
        }
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    times.sort();
    println!(
        "4 KiB finals, {in_flight} in flight: {rate:.0}/s, p50 {:?}, p99 {:?}, {:.0} CPU us each",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        (cpu_seconds() - cpu) * 1e6 / count as f64,
    );
}

fn main() {
    let root = std::env::args().nth(1).expect("a directory to work in");
    let pool = BufferPool::new(64 << 20);
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(root.as_ref()).expect("directory"));
    let me = DiskRef {
        disk: DiskId(1),
        incarnation: Incarnation(1),
    };
    let opened = Instant::now();
    let (store, report) =
        Store::open(Arc::clone(&disk), StoreConfig::default(), me, pool.clone()).expect("opens");
    println!("opened in {:?}: {report:?}", opened.elapsed());
    let (work, requests) = mpsc::channel::<IoRequest>();
    let (completions, done) = mpsc::channel();
    let requests = Arc::new(Mutex::new(requests));
    for _ in 0..4 {
        let (requests, completions, pool) = (Arc::clone(&requests), completions.clone(), pool.clone());
        std::thread::spawn(move || {
            loop {
                let next = requests.lock().expect("no thread panics").recv();
                let Ok(request) = next else { return };
                if completions.send(request.execute(&pool)).is_err() {
                    return;
                }
            }
        });
    }
    let mut shell = Shell {
        store,
        start: Instant::now(),
        work: Some(work),
        done,
        wake: None,
        answered: Vec::new(),
    };
    let payload = |length: usize| {
        let mut buffer = pool.take(length);
        buffer
            .iter_mut()
            .enumerate()
            .for_each(|(i, b)| *b = ((i * 31) >> 4) as u8);
        let sums = Checksums::of(&buffer);
        (buffer.freeze(), sums)
    };
    let (frame, little) = (payload(1 << 20), payload(4096));
    let base = report.chunks + 1;
    for round in 0..3 {
        stream(&mut shell, (base + round) * 100, &frame);
    }
    let base = (base + 10) << 32;
    small(&mut shell, base, 1, 2000, &little);
    small(&mut shell, base + 10_000, 16, 20_000, &little);
    println!("{:?}", shell.store.status());
    shell.work = None;
}
