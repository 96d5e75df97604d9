//! What is printed at the end, as data.

use crate::rules::{Against, Subject};
use crate::sample::{Book, Sample};
use crate::statistics;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A whole run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Where and how it was measured.
    pub setting: Setting,
    /// One for each measurement.
    pub rows: Vec<Row>,
}

/// Without these no figure means anything.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Setting {
    /// The cluster's REST address; absent when limits alone were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Copies and when a write is acknowledged, in the directory measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Voters of the metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voters: Option<usize>,
    /// Where the limit programs wrote.
    pub directory: String,
    /// Bytes of the large file.
    pub size_bytes: u64,
    /// Runs of each measurement; the median is printed.
    pub repeat: usize,
    /// Processors that this process may use.
    pub processors: usize,
    /// Begin, in seconds since 1970.
    pub started: u64,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// The median.
    pub value: f64,
    /// Of the figure.
    pub unit: &'static str,
    /// All runs, in order.
    pub runs: Vec<f64>,
    /// Of one operation, in the median run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// CPU time in the median run.
    pub cpu: Cpu,
    /// What a reader must know to judge it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Beside which limits.
    pub against: Vec<Against>,
}

/// CPU time per GiB of user data, and per operation. `own`: of this process, which of a limit program is all of it.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Cpu {
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_seconds_per_gib: Option<f64>,
    /// Seconds, of the cluster's local nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_seconds_per_gib: Option<f64>,
    /// Microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_micros_per_operation: Option<f64>,
    /// Microseconds, of the cluster's local nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_micros_per_operation: Option<f64>,
}

impl Report {
    /// All that `book` holds; `subjects` says which names are of the cluster.
    pub fn of(setting: Setting, book: &Book, subjects: &BTreeMap<String, Subject>) -> Self {
        let row = |name: &str| {
            let median = book.median(name)?;
            let against = subjects
                .get(name)
                .map(|subject| subject.against(median, book))
                .unwrap_or_default();
            Some(Row::of(name, median, book.all(name), against))
        };
        let rows = book.names().filter_map(row).collect();
        Self { setting, rows }
    }

    /// True if nothing that is required was missed.
    pub fn required_is_met(&self) -> bool {
        let mut required = self
            .rows
            .iter()
            .flat_map(|row| &row.against)
            .filter_map(|against| against.required);
        required.all(|verdict| verdict.met)
    }
}

impl Row {
    fn of(name: &str, median: &Sample, all: &[Sample], against: Vec<Against>) -> Self {
        let millis = |micros: Option<u64>| micros.map(|micros| micros as f64 / 1e3);
        Self {
            name: name.to_owned(),
            value: median.value(),
            unit: median.unit(),
            runs: all.iter().map(Sample::value).collect(),
            p50_ms: millis(median.p50),
            p99_ms: millis(median.p99),
            cpu: Cpu::of(median),
            note: median.note.clone(),
            against,
        }
    }
}

impl Cpu {
    fn of(sample: &Sample) -> Self {
        // What a GiB of tiny files costs says nothing.
        let bytes = if sample.operations == 0 { sample.bytes } else { 0 };
        let per_gib = |cpu: Duration| statistics::seconds_per_gib(cpu, bytes);
        let per_operation = |cpu: Duration| statistics::micros_per_operation(cpu, sample.operations);
        let (own, cluster) = (sample.spent.own, sample.spent.cluster);
        Self {
            own_seconds_per_gib: per_gib(own),
            cluster_seconds_per_gib: cluster.and_then(per_gib),
            own_micros_per_operation: per_operation(own),
            cluster_micros_per_operation: cluster.and_then(per_operation),
        }
    }
}
