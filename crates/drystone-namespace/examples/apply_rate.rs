//! Prints how many commands and reads a second one thread does against the store in memory. The store's own
//! speed is not in it, but for the flush of a batch every 5,000 commands.
//!
//! The first column is by the clock on the wall, which on a busy machine says more about the machine; the second
//! is by the time that this thread was running (Linux only), and is the one to compare.
//!
//! `cargo run --release -p drystone-namespace --example apply_rate [files]`
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

use bytes::Bytes;
use drystone_namespace::{Caller, MemoryStore, Namespace, Settings, Want};
use drystone_proto::Message;
use drystone_proto::command::*;
use drystone_proto::grant::ClusterKey;
use drystone_types::{HistoryId, LogIndex, ShardId};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Run {
    ns: Namespace<MemoryStore>,
    index: u64,
    sequence: u64,
}

impl Run {
    fn entry(&mut self, sequence: u64, op: Op) -> Bytes {
        let origin = Origin {
            client: Bytes::from_static(&[1; 16]),
            sequence,
            acknowledged_below: sequence.saturating_sub(64),
            user: "ann".to_owned(),
            groups: vec!["staff".to_owned()],
            ..Origin::default()
        };
        Entry {
            time: self.index,
            origin: Some(origin),
            command: Some(Command { op: Some(op) }),
            wall: 0,
        }
        .encode_to_vec()
        .into()
    }

    /// As the apply thread does it: from the bytes of the log.
    fn apply(&mut self, entry: &Bytes) {
        self.index += 1;
        let entry = Entry::decode(entry.clone()).expect("it was encoded here");
        let outcome = self
            .ns
            .apply(LogIndex(self.index), &entry)
            .expect("memory does not fail");
        assert_eq!(outcome.code, 0, "{outcome:?}");
        if self.index.is_multiple_of(5_000) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = self.ns.freeze().expect("something was applied");
        let done = batch.write_to(&**self.ns.store()).expect("memory does not fail");
        drop(self.ns.flushed(done));
    }

    fn measure(&mut self, name: &str, ops: impl Iterator<Item = Op>) {
        let entries: Vec<Bytes> = ops
            .map(|op| {
                self.sequence += 1;
                self.entry(self.sequence, op)
            })
            .collect();
        let start = Start::now();
        for entry in &entries {
            self.apply(entry);
        }
        start.report(name, entries.len());
    }
}

/// Where a measurement began, by both clocks.
struct Start {
    wall: Instant,
    running: Option<Duration>,
}

/// For how long this thread has been running on a processor.
fn running() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = stat.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

impl Start {
    fn now() -> Self {
        Self {
            wall: Instant::now(),
            running: running(),
        }
    }

    fn report(&self, name: &str, count: usize) {
        let wall = count as f64 / self.wall.elapsed().as_secs_f64();
        let ran = running().zip(self.running).map(|(now, then)| now - then);
        // The kernel counts it in ticks: what is shorter than some of them is not measured.
        match ran.filter(|ran| *ran >= Duration::from_millis(20)) {
            Some(ran) => {
                let running = count as f64 / ran.as_secs_f64();
                println!("{name:24} {wall:>9.0} /s   running {running:>9.0} /s");
            }
            None => println!("{name:24} {wall:>9.0} /s"),
        }
    }
}

fn target(path: String) -> Option<Target> {
    Some(Target { base: 0, path })
}

fn main() {
    let files: usize = std::env::args()
        .nth(1)
        .and_then(|files| files.parse().ok())
        .unwrap_or(200_000);
    let settings = Settings {
        shard: ShardId(0),
        key: ClusterKey([1; 32]),
        history: HistoryId([1; 16]),
    };
    let ns = Namespace::open(Arc::new(MemoryStore::new()), settings).expect("an empty store opens");
    let mut run = Run {
        ns,
        index: 0,
        sequence: 0,
    };
    let initialize = run.entry(0, Op::Initialize(Initialize::default()));
    let mut initialize = Entry::decode(initialize).expect("it was encoded here");
    initialize.origin = None;
    run.apply(&initialize.encode_to_vec().into());
    let open = run.entry(
        0,
        Op::OpenSession(OpenSession {
            ttl: 1 << 40,
            seen: 0,
        }),
    );
    run.apply(&open);
    let place = |i: usize| format!("/data/d{:03}/file-{i:08}", i % 100);
    run.measure(
        "mkdir",
        (0..100).map(|i| {
            Op::MakeDirectory(MakeDirectory {
                target: target(format!("/data/d{i:03}")),
                parents: true,
                mode: None,
                attributes: None,
            })
        }),
    );
    run.measure(
        "create, inline 100 B",
        (0..files).map(|i| {
            let content = Content {
                inline: Some(Bytes::from_static(&[7; 100])),
                ..Content::default()
            };
            Op::Publish(Publish {
                target: target(place(i)),
                content: Some(content),
                ..Publish::default()
            })
        }),
    );
    let caller = Caller::new("ann", &["staff".to_owned()]);
    let targets: Vec<Target> = (0..files)
        .filter_map(|i| target(place(i * 7919 % files)))
        .collect();
    let start = Start::now();
    for target in &targets {
        run.ns
            .lookup(target, &caller, Want::Content)
            .expect("it was made");
    }
    start.report("look-up", files);
    let (start, mut listed) = (Start::now(), 0);
    for i in 0..100 {
        let directory = target(format!("/data/d{i:03}")).expect("some");
        listed += run
            .ns
            .list(&directory, &caller, "", 1000)
            .expect("it is there")
            .entries
            .len();
    }
    start.report("list, entries", listed);
    run.measure(
        "rename",
        (0..files / 2).map(|i| {
            let to = target(format!("/data/d{:03}/renamed-{i:08}", (i + 1) % 100));
            Op::Rename(Rename {
                from: target(place(i)),
                to,
                ..Rename::default()
            })
        }),
    );
    run.measure(
        "delete",
        (files / 2..files).map(|i| {
            Op::Delete(Delete {
                target: target(place(i)),
                ..Delete::default()
            })
        }),
    );
}
