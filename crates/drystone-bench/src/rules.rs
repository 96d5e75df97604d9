//! Which limit a figure is held against, and what is asked of it.

use crate::limits::{REPLICAS, clients_of, size_of, streams_of};
use crate::sample::{Book, Sample};
use serde::Serialize;

/// A replicated command of the namespace, as the limit program writes it.
pub const COMMAND_BYTES: usize = 132;
/// What a single client's latency is held against is one synced block.
const SYNC_BLOCK: &str = "limit: 4 KiB + fdatasync";

/// What a measurement of the cluster measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// A large file written.
    Write {
        /// Side by side.
        streams: usize,
    },
    /// A large file read for the first time since it was written.
    FirstRead {
        /// Side by side.
        streams: usize,
    },
    /// Read again.
    CachedRead {
        /// Side by side.
        streams: usize,
    },
    /// Small files created.
    CreateSmall {
        /// Content of each.
        bytes: u64,
        /// Side by side.
        clients: usize,
    },
    /// Small files read.
    ReadSmall {
        /// Content of each.
        bytes: u64,
        /// Side by side.
        clients: usize,
    },
    /// Empty files created.
    Create {
        /// Side by side.
        clients: usize,
    },
    /// Attributes looked up.
    Stat {
        /// Side by side.
        clients: usize,
    },
    /// A directory listed.
    List {
        /// Side by side.
        clients: usize,
    },
}

impl Subject {
    /// How it is called in reports.
    pub fn name(&self) -> String {
        match *self {
            Subject::Write { streams } => format!("write, {}", streams_of(streams)),
            Subject::FirstRead { streams } => format!("first read, {}", streams_of(streams)),
            Subject::CachedRead { streams } => format!("cached read, {}", streams_of(streams)),
            Subject::CreateSmall { bytes, clients } => {
                format!("create {}, {}", size_of(bytes), clients_of(clients))
            }
            Subject::ReadSmall { bytes, clients } => {
                format!("read {}, {}", size_of(bytes), clients_of(clients))
            }
            Subject::Create { clients } => format!("create empty, {}", clients_of(clients)),
            Subject::Stat { clients } => format!("stat, {}", clients_of(clients)),
            Subject::List { clients } => format!("list, {}", clients_of(clients)),
        }
    }

    /// What it is held against; only limits that were measured in the same run.
    pub fn against(&self, ours: &Sample, book: &Book) -> Vec<Against> {
        let group = |bytes: usize, clients| {
            format!(
                "limit: group commit on {REPLICAS}, {}, {}",
                size_of(bytes as u64),
                clients_of(clients)
            )
        };
        let look_ups = |clients| format!("limit: batched look-ups, {}", clients_of(clients));
        let found = match *self {
            Subject::Write { streams } => {
                let chain = format!("limit: chain of 3 + CRC, {}", streams_of(streams));
                let slower = lesser(book, ["limit: direct write x3 + fdatasync".to_owned(), chain]);
                vec![
                    slower.and_then(|limit| rate(ours, book, &limit, Asked::goal(Bound::AtLeast(0.6)))),
                    rate(
                        ours,
                        book,
                        "limit: cp x3 + sync",
                        Asked::both(Bound::AtLeast(1.0), Bound::AtLeast(1.5)),
                    ),
                ]
            }
            Subject::FirstRead { .. } => {
                vec![rate(
                    ours,
                    book,
                    "limit: direct read",
                    Asked::goal(Bound::AtLeast(0.5)),
                )]
            }
            Subject::CachedRead { streams } => {
                let limit = format!("limit: sendfile + CRC, {}", streams_of(streams));
                vec![rate(
                    ours,
                    book,
                    &limit,
                    Asked::both(Bound::AtLeast(0.4), Bound::AtLeast(0.6)),
                )]
            }
            Subject::CreateSmall { bytes, clients: 1 } => {
                let asked = match (bytes <= 4096, ours.note.as_deref()) {
                    (true, Some("inline")) => Asked::goal(Bound::AtMost(3.5)),
                    (true, _) => Asked::goal(Bound::AtMost(6.0)),
                    (false, _) => Asked::default(),
                };
                let limit = group(bytes as usize, 1);
                vec![
                    median_latency(ours, book, SYNC_BLOCK, asked),
                    rate(ours, book, &limit, Asked::default()),
                ]
            }
            Subject::CreateSmall { bytes, clients } => {
                let asked = if clients >= 16 {
                    Asked::goal(Bound::AtLeast(0.5))
                } else {
                    Asked::default()
                };
                vec![rate(ours, book, &group(bytes as usize, clients), asked)]
            }
            // An inline file is a look-up and no more; larger ones move bytes that the limit does not.
            Subject::ReadSmall { bytes, clients } if bytes <= 4096 => {
                vec![rate(ours, book, &look_ups(clients), Asked::default())]
            }
            Subject::ReadSmall { .. } | Subject::List { .. } => Vec::new(),
            Subject::Create { clients } => {
                let asked = if clients == 64 {
                    Asked::goal(Bound::AtLeast(0.25))
                } else {
                    Asked::default()
                };
                vec![rate(ours, book, &group(COMMAND_BYTES, clients), asked)]
            }
            Subject::Stat { clients } => {
                let asked = if clients == 64 {
                    Asked::goal(Bound::AtLeast(0.25))
                } else {
                    Asked::default()
                };
                vec![rate(ours, book, &look_ups(clients), asked)]
            }
        };
        found.into_iter().flatten().collect()
    }
}

/// A bound of a ratio.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Or more.
    AtLeast(f64),
    /// Or less.
    AtMost(f64),
}

impl Bound {
    fn met(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(least) => ratio >= least,
            Bound::AtMost(most) => ratio <= most,
        }
    }
}

/// A bound and whether it was kept.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Verdict {
    /// The bound.
    #[serde(flatten)]
    pub bound: Bound,
    /// It was kept.
    pub met: bool,
}

/// A figure beside its limit.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Against {
    /// The limit program.
    pub limit: String,
    /// `rate` or `p50_ms`.
    pub compares: &'static str,
    /// Its figure.
    pub value: f64,
    /// Of the figure.
    pub unit: &'static str,
    /// Ours divided by it.
    pub ratio: f64,
    /// What must be reached before a release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Verdict>,
    /// What is aimed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Verdict>,
}

#[derive(Clone, Copy, Default)]
struct Asked {
    required: Option<Bound>,
    goal: Option<Bound>,
}

impl Asked {
    fn goal(goal: Bound) -> Self {
        Self {
            required: None,
            goal: Some(goal),
        }
    }

    fn both(required: Bound, goal: Bound) -> Self {
        Self {
            required: Some(required),
            goal: Some(goal),
        }
    }
}

/// Of the limits that were measured, the slowest: nobody can be faster than the tightest part.
fn lesser<const N: usize>(book: &Book, names: [String; N]) -> Option<String> {
    let measured = names
        .into_iter()
        .filter_map(|name| Some((book.median(&name)?.value(), name)));
    measured.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn rate(ours: &Sample, book: &Book, limit: &str, asked: Asked) -> Option<Against> {
    let theirs = book.median(limit)?;
    compare(
        limit,
        "rate",
        (ours.value(), theirs.value()),
        theirs.unit(),
        asked,
    )
}

fn median_latency(ours: &Sample, book: &Book, limit: &str, asked: Asked) -> Option<Against> {
    let theirs = book.median(limit)?.p50? as f64 / 1e3;
    compare(limit, "p50_ms", (ours.p50? as f64 / 1e3, theirs), "ms", asked)
}

fn compare(
    limit: &str,
    compares: &'static str,
    (ours, theirs): (f64, f64),
    unit: &'static str,
    asked: Asked,
) -> Option<Against> {
    let ratio = (theirs > 0.0).then(|| ours / theirs)?;
    let judge = |bound: Bound| Verdict {
        bound,
        met: bound.met(ratio),
    };
    Some(Against {
        limit: limit.to_owned(),
        compares,
        value: theirs,
        unit,
        ratio,
        required: asked.required.map(judge),
        goal: asked.goal.map(judge),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;
    use crate::meter::Spent;
    use std::time::Duration;

    fn transfer(megabytes: u64) -> Sample {
        let spent = Spent {
            elapsed: Duration::from_secs(1),
            ..Spent::default()
        };
        Sample::transfer(megabytes * 1_000_000, spent)
    }

    fn operations(latency: u64, count: usize) -> Sample {
        let spent = Spent {
            elapsed: Duration::from_secs(1),
            ..Spent::default()
        };
        Sample::operations("files/s", 4096, vec![latency; count], spent)
    }

    #[test]
    fn a_write_is_held_against_the_slower_limit_and_cp() {
        let mut book = Book::default();
        book.record(&Limit::DirectWrite { size: 1 }.name(), transfer(700));
        book.record(&Limit::Chain { size: 1, streams: 4 }.name(), transfer(900));
        book.record(&Limit::CopyThree { size: 1 }.name(), transfer(300));
        let against = Subject::Write { streams: 4 }.against(&transfer(350), &book);
        assert_eq!(against.len(), 2);
        assert_eq!(
            (against[0].limit.as_str(), against[0].ratio),
            ("limit: direct write x3 + fdatasync", 0.5)
        );
        assert_eq!(
            against[0].goal,
            Some(Verdict {
                bound: Bound::AtLeast(0.6),
                met: false
            })
        );
        assert_eq!(
            against[1].required,
            Some(Verdict {
                bound: Bound::AtLeast(1.0),
                met: true
            })
        );
        assert_eq!(against[1].goal.map(|goal| goal.met), Some(false));
    }

    #[test]
    fn a_cached_read_needs_four_tenths_of_sendfile() {
        let mut book = Book::default();
        book.record(&Limit::Sendfile { size: 1, streams: 1 }.name(), transfer(1000));
        let against = Subject::CachedRead { streams: 1 }.against(&transfer(399), &book);
        assert_eq!(against[0].required.map(|required| required.met), Some(false));
        assert!(
            Subject::CachedRead { streams: 4 }
                .against(&transfer(399), &book)
                .is_empty()
        );
    }

    #[test]
    fn one_client_is_judged_by_latency() {
        let mut book = Book::default();
        book.record(&Limit::SyncBlock { operations: 1 }.name(), operations(200, 5));
        let subject = Subject::CreateSmall {
            bytes: 4096,
            clients: 1,
        };
        let packed = subject.against(&operations(1000, 5), &book);
        assert_eq!(
            packed[0].goal,
            Some(Verdict {
                bound: Bound::AtMost(6.0),
                met: true
            })
        );
        let inline = subject.against(&operations(1000, 5).noted("inline"), &book);
        assert_eq!(
            inline[0].goal,
            Some(Verdict {
                bound: Bound::AtMost(3.5),
                met: false
            })
        );
    }

    #[test]
    fn limits_are_found_under_the_names_that_they_are_recorded_by() {
        let mut book = Book::default();
        for clients in [1, 64] {
            for bytes in [1024, 4096, 65536, COMMAND_BYTES] {
                book.record(
                    &Limit::GroupCommit {
                        bytes,
                        clients,
                        operations: 1,
                    }
                    .name(),
                    operations(1, 4),
                );
            }
            book.record(
                &Limit::Lookup {
                    clients,
                    operations: 1,
                }
                .name(),
                operations(1, 4),
            );
        }
        book.record(&Limit::DirectRead { size: 1 }.name(), transfer(5));
        let ours = operations(1, 2);
        for clients in [1, 64] {
            for bytes in [1024, 4096, 65536] {
                assert_eq!(
                    Subject::CreateSmall { bytes, clients }
                        .against(&ours, &book)
                        .len(),
                    1
                );
                let compared = usize::from(bytes <= 4096);
                assert_eq!(
                    Subject::ReadSmall { bytes, clients }.against(&ours, &book).len(),
                    compared
                );
            }
            assert_eq!(Subject::Create { clients }.against(&ours, &book).len(), 1);
            assert_eq!(Subject::Stat { clients }.against(&ours, &book)[0].ratio, 0.5);
        }
        assert_eq!(
            Subject::FirstRead { streams: 1 }
                .against(&transfer(5), &book)
                .len(),
            1
        );
    }
}
