//! Emptying on a real disk, in a process of its own that is killed in the middle of it: the chunks that are being moved are
//! read and deleted, others are written, and what was acknowledged is there and right afterwards.

#![allow(clippy::disallowed_methods)]

use crate::harness::{How, ME, content, deletion, frame};
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, IoCompletion, IoRequest, Monotonic, Rng, SeededRng};
use drystone_proto::checksum::block_checksums;
use drystone_store::{
    HeldReplica, HeldState, IoClass, RequestId, Store, StoreConfig, StoreError, StoreInput, StoreOutput,
    StoreReply,
};
use drystone_types::ChunkId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Set for the process that is killed: its directory, and above which number its chunks begin.
const DIRECTORY: &str = "DRYSTONE_TEST_KILLED_DIRECTORY";
const FIRST: &str = "DRYSTONE_TEST_KILLED_FIRST";
const NAME: &str = "killed::arenas_are_emptied_under_load_and_kills";
/// Chunks that a round begins with, of 1 byte to 256 KiB.
const CHUNKS: u64 = 600;
const MOST_BYTES: u64 = 256 << 10;
const KILLS: u64 = 4;
/// Requests under way.
const DEPTH: usize = 12;
/// It is killed before.
const LIFE: Duration = Duration::from_secs(60);
/// When nothing was moved for so long, arenas are filled and made sparse again.
const QUIET: Duration = Duration::from_millis(500);
/// Nobody waits longer for an answer, whatever is moved meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

fn config() -> StoreConfig {
    StoreConfig {
        capacity: Some(600 << 20),
        arena_bytes: Some(4 << 20),
        remove_after: Duration::from_millis(100),
        ..StoreConfig::default()
    }
}

/// Disk work that waits: what copies and removals are behind all else, but have their turn.
#[derive(Default)]
struct Waiting {
    foreground: VecDeque<IoRequest>,
    scrub: VecDeque<IoRequest>,
    turns: u64,
}

impl Waiting {
    fn pop(&mut self) -> Option<IoRequest> {
        self.turns += 1;
        let is_scrubs = self.turns.is_multiple_of(8);
        let first = if is_scrubs { self.scrub.pop_front() } else { None };
        first
            .or_else(|| self.foreground.pop_front())
            .or_else(|| self.scrub.pop_front())
    }
}

/// A store with threads that do its disk work.
struct Shell {
    store: Store,
    start: Instant,
    pool: BufferPool,
    waiting: Arc<(Mutex<Waiting>, Condvar)>,
    done: Receiver<IoCompletion>,
    replies: BTreeMap<RequestId, Result<StoreReply, StoreError>>,
    next_request: u64,
}

impl Shell {
    fn open(directory: &Path) -> Self {
        let pool = BufferPool::new(32 << 20);
        let disk = Arc::new(OsDisk::new(directory).unwrap());
        let (store, _) = Store::open(disk, config(), ME, pool.clone()).unwrap();
        let waiting: Arc<(Mutex<Waiting>, Condvar)> = Arc::default();
        let (sender, done) = mpsc::channel();
        for _ in 0..4 {
            let (waiting, sender, pool) = (Arc::clone(&waiting), sender.clone(), pool.clone());
            std::thread::spawn(move || {
                loop {
                    let mut queue = waiting.0.lock().unwrap();
                    let request = loop {
                        match queue.pop() {
                            Some(request) => break request,
                            None => queue = waiting.1.wait(queue).unwrap(),
                        }
                    };
                    drop(queue);
                    if sender.send(request.execute(&pool)).is_err() {
                        return;
                    }
                }
            });
        }
        Self {
            store,
            start: Instant::now(),
            pool,
            waiting,
            done,
            replies: BTreeMap::new(),
            next_request: 1,
        }
    }

    fn input(&mut self, input: StoreInput) {
        let mut out = Vec::new();
        let now = Monotonic(self.start.elapsed().as_micros() as u64 + 1);
        self.store.on(now, input, &mut out);
        for output in out {
            match output {
                StoreOutput::Io { class, request } => {
                    let mut waiting = self.waiting.0.lock().unwrap();
                    match class {
                        IoClass::Scrub => waiting.scrub.push_back(request),
                        _ => waiting.foreground.push_back(request),
                    }
                    self.waiting.1.notify_one();
                }
                StoreOutput::StoreReply { request, result } => {
                    self.replies.insert(request, result);
                }
                StoreOutput::Wake(_) => {}
            }
        }
    }

    fn send(&mut self, make: impl FnOnce(RequestId) -> StoreInput) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.input(make(request));
        request
    }

    /// What comes within some milliseconds.
    fn pump(&mut self) {
        match self.done.recv_timeout(Duration::from_millis(3)) {
            Ok(completion) => self.input(StoreInput::Io(completion)),
            Err(_) => self.input(StoreInput::Tick),
        }
    }

    fn ask(&mut self, make: impl FnOnce(RequestId) -> StoreInput) -> Result<StoreReply, StoreError> {
        let request = self.send(make);
        loop {
            if let Some(reply) = self.replies.remove(&request) {
                return reply;
            }
            self.pump();
        }
    }

    fn append(&mut self, chunk: u64, length: usize) -> RequestId {
        let data = content(chunk, 1, length);
        let (data, sums) = (self.pool.copy(&data).freeze(), block_checksums(&data));
        self.send(|request| frame(request, chunk, 1, length as u64, 0, data, sums, How::Last(None)))
    }

    fn read(&mut self, chunk: u64, length: u64) -> RequestId {
        self.send(|request| StoreInput::Read {
            request,
            chunk: ChunkId(chunk),
            placement: None,
            offset: 0,
            length: length as u32,
            io_class: IoClass::Foreground,
        })
    }

    fn held(&mut self) -> Vec<HeldReplica> {
        let listed = self.ask(|request| StoreInput::List {
            request,
            after: ChunkId::default(),
            limit: 100_000,
        });
        let Ok(StoreReply::Chunks { chunks, more: false }) = listed else {
            panic!("a list is answered otherwise")
        };
        let chunks = chunks.into_iter();
        chunks.filter(|held| held.state == HeldState::Sealed).collect()
    }

    /// The chunk's bytes are those that were written.
    fn check(&mut self, chunk: u64, length: u64) {
        let request = self.read(chunk, length);
        loop {
            match self.replies.remove(&request) {
                None => self.pump(),
                Some(reply) => return is_content(chunk, length, &reply),
            }
        }
    }
}

fn is_content(chunk: u64, length: u64, reply: &Result<StoreReply, StoreError>) {
    match reply {
        Ok(StoreReply::Data { data, .. }) => {
            assert!(
                *data == content(chunk, 1, length as usize),
                "chunk {chunk} has other bytes"
            );
        }
        other => panic!("chunk {chunk} of {length} bytes: {other:?}"),
    }
}

enum Asked {
    Write { length: u64 },
    Read { length: u64 },
    Delete,
}

/// Tells the parent: written, to be deleted, deleted, moved so far.
fn tell(what: &str, chunk: u64, length: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@{what} {chunk} {length}").unwrap();
    out.flush().unwrap();
}

/// What the process does that is killed.
fn be_killed(directory: &Path, first: u64) {
    let mut shell = Shell::open(directory);
    let mut rng = SeededRng::new(first);
    let mut live: BTreeMap<u64, u64> = shell
        .held()
        .iter()
        .map(|held| (held.chunk.0, held.durable))
        .collect();
    let mut asked: BTreeMap<RequestId, (u64, Asked, Instant)> = BTreeMap::new();
    let (mut next, mut filled, mut moved) = (first, false, 0);
    let (mut goal, mut quiet_since) = (first + CHUNKS, Instant::now());
    let mut doomed: Vec<u64> = Vec::new();
    while shell.start.elapsed() < LIFE {
        while asked.len() < DEPTH {
            doomed.retain(|chunk| live.contains_key(chunk));
            let moving = shell.store.moving();
            let chosen = moving.first().filter(|_| rng.below(2) == 0).map(|chunk| chunk.0);
            let known: Vec<u64> = live.keys().copied().collect();
            let any = known.get(rng.below(known.len().max(1) as u64) as usize).copied();
            let chunk = chosen.filter(|chunk| live.contains_key(chunk)).or(any);
            let is_doomed = !doomed.is_empty();
            let chunk = doomed.pop().or(chunk);
            let (request, chunk, what) = match (rng.below(20), chunk) {
                // It stays as sparse as it is.
                (dice, Some(chunk)) if is_doomed || dice == 0 && filled && live.len() > 90 => {
                    live.remove(&chunk);
                    tell("deletes", chunk, 0);
                    (
                        shell.send(|request| deletion(request, chunk)),
                        chunk,
                        Asked::Delete,
                    )
                }
                (1, _) | (_, None) => {
                    next += 1;
                    let length = 1 + rng.below(MOST_BYTES);
                    (shell.append(next, length as usize), next, Asked::Write { length })
                }
                _ if !filled => {
                    next += 1;
                    let length = 1 + rng.below(MOST_BYTES);
                    (shell.append(next, length as usize), next, Asked::Write { length })
                }
                (_, Some(chunk)) => {
                    let length = live[&chunk];
                    (shell.read(chunk, length), chunk, Asked::Read { length })
                }
            };
            asked.insert(request, (chunk, what, Instant::now()));
        }
        shell.pump();
        for (request, reply) in std::mem::take(&mut shell.replies) {
            let (chunk, what, since) = asked.remove(&request).expect("it was asked");
            assert!(
                since.elapsed() < PATIENCE,
                "chunk {chunk} waited {:?}",
                since.elapsed()
            );
            match what {
                Asked::Write { length } => {
                    assert!(matches!(reply, Ok(StoreReply::Appended { .. })), "{reply:?}");
                    tell("written", chunk, length);
                    live.insert(chunk, length);
                }
                Asked::Delete => {
                    assert_eq!(reply, Ok(StoreReply::Deleted));
                    tell("deleted", chunk, 0);
                }
                // It may be deleted meanwhile.
                Asked::Read { .. }
                    if reply
                        == Err(StoreError::NotFound {
                            chunk: ChunkId(chunk),
                        }) =>
                {
                    assert!(!live.contains_key(&chunk), "chunk {chunk} is gone");
                }
                Asked::Read { length } => is_content(chunk, length, &reply),
            }
        }
        if !filled && next >= goal {
            filled = true;
            quiet_since = Instant::now();
            doomed = live.keys().copied().filter(|_| rng.below(100) < 85).collect();
        }
        let status = shell.store.status();
        if status.moved_chunks != moved {
            moved = status.moved_chunks;
            tell("moved", moved, status.emptied_arenas);
            quiet_since = Instant::now();
        } else if filled && doomed.is_empty() && quiet_since.elapsed() > QUIET {
            // All that was sparse is gone.
            (filled, goal, quiet_since) = (false, next + CHUNKS, Instant::now());
        }
    }
}

/// What the process that was killed has told.
#[derive(Default)]
struct Told {
    written: BTreeMap<u64, u64>,
    deletes: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    moved: u64,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let Some(words) = line.strip_prefix('@') else {
            return;
        };
        let words: Vec<&str> = words.split(' ').collect();
        // The last line may be half of one.
        let [what, chunk, length] = words[..] else {
            return;
        };
        let (Ok(chunk), Ok(length)) = (chunk.parse(), length.parse()) else {
            return;
        };
        match what {
            "written" => drop(self.written.insert(chunk, length)),
            "deletes" => drop(self.deletes.insert(chunk)),
            "deleted" => drop(self.deleted.insert(chunk)),
            "moved" => self.moved = chunk,
            other => panic!("{other}"),
        }
    }
}

/// Runs the process until it has moved so many chunks, and kills it.
fn kill_while_moving(directory: &Path, round: u64, moves: u64, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(FIRST, (round * 100_000).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    told.moved = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    for line in &mut lines {
        told.hear(&line);
        if told.moved >= moves {
            break;
        }
    }
    let _ = child.kill();
    lines.for_each(|line| told.hear(&line));
    let status = child.wait().unwrap();
    assert!(told.moved >= moves, "it ended by itself: {status}");
}

/// What was acknowledged is there and right, and nothing else has other bytes.
fn verify(shell: &mut Shell, told: &Told) -> u64 {
    let held: BTreeMap<u64, u64> = shell
        .held()
        .iter()
        .map(|held| (held.chunk.0, held.durable))
        .collect();
    for (chunk, length) in &held {
        assert!(!told.deleted.contains(chunk), "chunk {chunk} came back");
        shell.check(*chunk, *length);
    }
    for (chunk, length) in &told.written {
        let is_there = held.get(chunk) == Some(length);
        assert!(is_there || told.deletes.contains(chunk), "chunk {chunk} is lost");
    }
    held.values().sum()
}

#[test]
fn arenas_are_emptied_under_load_and_kills() {
    if let (Ok(directory), Ok(first)) = (std::env::var(DIRECTORY), std::env::var(FIRST)) {
        return be_killed(Path::new(&directory), first.parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let mut rng = SeededRng::new(1);
    let mut told = Told::default();
    for round in 1..=KILLS {
        let moves = 1 + rng.below(20);
        kill_while_moving(directory.path(), round, moves, &mut told);
        let mut shell = Shell::open(directory.path());
        verify(&mut shell, &told);
    }
    // Without further load the rest goes.
    let mut shell = Shell::open(directory.path());
    let begin = Instant::now();
    let arenas = || {
        std::fs::read_dir(directory.path().join("arenas"))
            .unwrap()
            .count() as u64
    };
    let bytes = shell.store.status().used_bytes;
    // Each is a quarter full at least, one or two may be as they were, and what is made ahead.
    let enough = bytes.div_ceil(1 << 20) + 2 + 4;
    while arenas() > enough {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{} arenas for {bytes} bytes",
            arenas()
        );
        shell.pump();
    }
    verify(&mut shell, &told);
}
