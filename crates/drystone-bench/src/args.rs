//! The words after `drystone bench`.

use clap::{Parser, ValueEnum};
use drystone_types::ByteCount;
use std::path::PathBuf;

/// More clients than this tell nothing more: the connections are shared and pipelined.
const MAX_CLIENTS: usize = 1024;
/// More streams than this tell nothing more, and each holds its windows in memory.
const MAX_STREAMS: usize = 64;
/// Small enough for the log and directory of any cluster, large enough for any machine.
const MAX_COUNT: usize = 10_000_000;

/// Which measurements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Group {
    /// Everything.
    All,
    /// A large file written, on 1 and more streams.
    Write,
    /// A large file read, on 1 and more streams.
    Read,
    /// Files of 1 KiB, 4 KiB and 64 KiB created and read by 1 and more clients.
    Small,
    /// Metadata: create, stat, list.
    Metadata,
    /// The limit programs alone; needs no cluster.
    Limits,
}

/// Measure a cluster and, in the same run, the smallest programs that do only the unavoidable work.
#[derive(Clone, PartialEq, Eq, Debug, Parser)]
#[command(name = "drystone bench")]
pub struct Arguments {
    /// Which measurements (several may be named).
    #[arg(value_enum, default_value = "all")]
    pub groups: Vec<Group>,
    /// Size of the large file, in all (streams share it).
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub size: ByteCount,
    /// Numbers of parallel streams for the large file.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,4")]
    pub streams: Vec<usize>,
    /// Numbers of parallel clients for small files and metadata.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,16,64")]
    pub clients: Vec<usize>,
    /// Operations per row of small files and metadata; default: 200 for 1 client, up to 4,000 for many.
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Repeats every measurement and prints the median (5 or more for figures to be quoted).
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub repeat: usize,
    /// Directory of the cluster to work in; it must not exist, and is deleted at the end.
    /// Default: /bench-RANDOM.
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Local directory for the files of the limit programs: on the disk that holds the cluster's data.
    /// A directory of its own is made in it and deleted at the end. Default: that of --data, or the working
    /// directory.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Addresses (HOST:PORT) of metadata servers of the cluster.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub metadata: Vec<String>,
    /// Process ids of the cluster's local nodes, whose CPU time is counted beside this process's.
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Data directory of a cluster that `drystone up` runs here: names its processes and its disk.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// One JSON document on standard output instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Leave what was created in the cluster.
    #[arg(long)]
    pub keep: bool,
    /// Never put tiny files into the metadata: chunks on three servers for every file.
    #[arg(long)]
    pub no_inline: bool,
    /// Exit with code 1 if a ratio that is required was missed.
    #[arg(long)]
    pub check: bool,
    /// Measure the cluster alone, without the limit programs.
    #[arg(long)]
    pub no_limits: bool,
}

impl Arguments {
    /// Every fault, in words; empty when they are valid.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(1 << 20..=1 << 40).contains(&self.size.0) || !self.size.0.is_multiple_of(1 << 20) {
            faults.push("--size must be a whole number of MiB, up to 1 TiB".to_owned());
        }
        if self.streams.is_empty() || self.streams.iter().any(|n| !(1..=MAX_STREAMS).contains(n)) {
            faults.push(format!("--streams takes numbers from 1 to {MAX_STREAMS}"));
        }
        if self.clients.is_empty() || self.clients.iter().any(|n| !(1..=MAX_CLIENTS).contains(n)) {
            faults.push(format!("--clients takes numbers from 1 to {MAX_CLIENTS}"));
        }
        if self.count.is_some_and(|count| !(1..=MAX_COUNT).contains(&count)) {
            faults.push(format!("--count must be 1 to {MAX_COUNT}"));
        }
        if !(1..=99).contains(&self.repeat) {
            faults.push("--repeat must be 1 to 99".to_owned());
        }
        let path = self.path.as_deref().map(|path| path.trim_matches('/'));
        if path.is_some_and(str::is_empty) {
            faults.push("--path must not be the root directory".to_owned());
        }
        if self.measures_cluster() && self.metadata.is_empty() {
            faults.push("--metadata HOST:PORT is missing: which cluster shall be measured?".to_owned());
        }
        if !self.measures_cluster() && self.no_limits {
            faults.push("`limits` and --no-limits leave nothing to measure".to_owned());
        }
        faults
    }

    /// True if `group` was asked for.
    pub fn wants(&self, group: Group) -> bool {
        self.groups.contains(&group) || (group != Group::Limits && self.groups.contains(&Group::All))
    }

    /// True if anything but the limit programs was asked for.
    pub fn measures_cluster(&self) -> bool {
        self.groups.iter().any(|group| *group != Group::Limits)
    }

    /// Operations of a row with so many clients.
    pub fn operations(&self, clients: usize) -> usize {
        self.count.unwrap_or((200 * clients).min(4_000)).max(clients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Arguments {
        Arguments::try_parse_from(words.split(' ')).unwrap()
    }

    #[test]
    fn everything_is_measured_by_default_and_needs_a_cluster() {
        let all = parse("bench");
        assert!(all.wants(Group::Write) && all.wants(Group::Metadata) && all.measures_cluster());
        assert_eq!(all.faults().len(), 1);
        assert!(
            parse("bench --metadata 127.0.0.1:1,127.0.0.1:2")
                .faults()
                .is_empty()
        );
    }

    #[test]
    fn limits_need_no_cluster() {
        let limits = parse("bench limits --size 64MiB --clients 1,2");
        assert!(!limits.wants(Group::Write) && limits.wants(Group::Limits));
        assert!(limits.faults().is_empty());
        assert_eq!((limits.size.0, limits.clients), (64 << 20, vec![1, 2]));
    }

    #[test]
    fn every_fault_is_reported() {
        let bad = parse("bench write --size 5B --streams 0 --clients 2000 --count 0 --path / --repeat 0");
        assert_eq!(bad.faults().len(), 7);
    }
}
