//! Every record of a Raft log is damaged, one at a time, in sealed segments and the last one, and the log is
//! opened and read whole: what was committed comes back, or opening refuses; never anything else.
//!
//! `absorbed`: every entry reads as written. `detected`: opening refuses. `cut`: the last batch, which has no
//! sync mark yet, is taken for torn (the one exception that cannot be told from a power cut). `WRONG`: entries
//! differ or are missing.

use bytes::Bytes;
use drystone_env::os::OsDisk;
use drystone_env::{BufferPool, Monotonic, SeededRng};
use drystone_raft::{EntryKind, Input, Output, RaftConfig, RaftNode, Start};
use drystone_types::{BootId, LogIndex, NodeId};
use drystone_wal::WalConfig;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const RECORDS: u64 = 1_200;

struct Voter {
    node: RaftNode,
    pool: BufferPool,
    now: u64,
    committed: BTreeMap<u64, Bytes>,
    torn: bool,
}

impl Voter {
    fn open(directory: &Path, start: Start) -> Result<Self, String> {
        let pool = BufferPool::new(8 << 20);
        let disk = Arc::new(OsDisk::new(directory).unwrap());
        let wal = WalConfig {
            segment_bytes: 64 << 10,
            batch_bytes: 16 << 10,
            identity: 5,
            ..WalConfig::default()
        };
        let config = RaftConfig::new(
            NodeId(1),
            BootId {
                counter: 1,
                random: 1,
            },
            start,
            LogIndex(0),
            wal,
        );
        let (node, opened) = RaftNode::open(disk, config, SeededRng::new(1), pool.clone())
            .map_err(|error| error.to_string())?;
        Ok(Self {
            node,
            pool,
            now: 0,
            committed: BTreeMap::new(),
            torn: opened.torn.is_some(),
        })
    }

    /// One input and everything that follows from it; disk work is done at once.
    fn feed(&mut self, input: Input) {
        self.feed_until(input, usize::MAX);
    }

    /// The same, but the power goes when so many records are committed.
    fn feed_until(&mut self, input: Input, records: usize) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let mut out = Vec::new();
            self.now += 1_000;
            self.node
                .on_batch(Monotonic(self.now), inputs.drain(..), &mut out);
            out.sort_by_key(|output| !matches!(output, Output::Committed(_)));
            for output in out {
                match output {
                    Output::Io(request) if self.committed.len() < records => {
                        inputs.push(Input::Io(request.execute(&self.pool)));
                    }
                    Output::Committed(entries) => {
                        for entry in entries {
                            if let EntryKind::Command(data) = entry.kind {
                                self.committed.insert(entry.index.0, data);
                            }
                            inputs.push(Input::Applied { index: entry.index });
                        }
                    }
                    Output::Fatal(error) => panic!("{error}"),
                    _ => {}
                }
            }
        }
    }

    fn lead(&mut self) {
        self.feed(Input::Campaign);
        for _ in 0..100 {
            if self.node.leads_surely() {
                return;
            }
            self.feed(Input::Tick);
        }
        panic!("a lone voter did not lead");
    }
}

fn build(directory: &Path, mark: bool) -> BTreeMap<u64, Bytes> {
    let mut voter = Voter::open(
        directory,
        Start::FirstBoot {
            voters: vec![NodeId(1)],
        },
    )
    .unwrap();
    voter.lead();
    for token in 1..=RECORDS {
        let data = format!("record {token} {}", "x".repeat((token % 90) as usize)).into();
        let proposal = Input::Propose { token, data };
        if token < RECORDS || mark {
            voter.feed(proposal);
        } else {
            // Written, synced and so committed; the batch that would mark it is not written any more.
            voter.feed_until(proposal, RECORDS as usize);
        }
    }
    for _ in 0..if mark { 40 } else { 0 } {
        voter.feed(Input::Tick);
    }
    assert_eq!(voter.committed.len() as u64, RECORDS);
    voter.committed
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("log")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn judge(directory: &Path, truth: &BTreeMap<u64, Bytes>) -> &'static str {
    let Ok(mut voter) = Voter::open(directory, Start::Existing) else {
        return "detected";
    };
    voter.lead();
    if voter.committed == *truth {
        return "absorbed";
    }
    // A cut tail is a prefix of what was there.
    let prefix = voter.committed.iter().zip(truth).all(|(a, b)| a == b);
    if voter.torn && prefix && truth.len() - voter.committed.len() <= 1 {
        "cut"
    } else {
        "WRONG"
    }
}

#[test]
fn damage_in_any_record_of_the_log_is_never_silently_wrong() {
    let home = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let mut table: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut cut = 0;
    for (name, mark) in [("marked", true), ("last batch unmarked", false)] {
        let pristine = home.path().join(name);
        let truth = build(&pristine, mark);
        let work = home.path().join("work");
        for file in files(&pristine) {
            let bytes = fs::read(&file).unwrap();
            let records = bytes
                .windows(7)
                .enumerate()
                .filter(|(_, w)| *w == b"record ")
                .map(|(at, _)| at + 8);
            let headers = (0..bytes.len()).step_by(4096).map(|at| at + at / 4096 % 48);
            let last = bytes
                .windows(12)
                .position(|w| w == b"record 1200 ")
                .map(|at| at + 8);
            // The unmarked log differs in its end only: that, and a sample, is enough.
            let some = records.chain(headers).step_by(if mark { 1 } else { 20 });
            for at in some.chain(last) {
                let _ = fs::remove_dir_all(&work);
                fs::create_dir_all(work.join("log")).unwrap();
                for other in files(&pristine) {
                    fs::copy(&other, work.join("log").join(other.file_name().unwrap())).unwrap();
                }
                let target = work.join("log").join(file.file_name().unwrap());
                let handle = fs::OpenOptions::new().write(true).open(target).unwrap();
                handle
                    .write_all_at(&[bytes[at] ^ (1 << (at % 8))], at as u64)
                    .unwrap();
                drop(handle);
                let verdict = judge(&work, &truth);
                assert!(verdict != "WRONG", "{} at {at}", file.display());
                cut += u64::from(verdict == "cut" && mark);
                *table.entry((name, verdict)).or_default() += 1;
            }
        }
    }
    println!("log of {RECORDS} records");
    for ((name, verdict), count) in &table {
        println!("{name:<20} {verdict:<9} {count}");
    }
    assert_eq!(cut, 0, "everything that a mark covers is detected");
    assert!(
        table.contains_key(&("last batch unmarked", "cut")),
        "the one exception was not met"
    );
    assert!(
        table
            .get(&("marked", "detected"))
            .is_some_and(|count| *count >= RECORDS)
    );
}
