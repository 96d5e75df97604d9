//! One run of one measurement, and all runs of all of them.

use crate::meter::Spent;
use crate::statistics;

/// In what a measurement is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// MB/s of user data.
    Bytes,
    /// Operations per second; the unit's name.
    Rate(&'static str),
}

/// One run.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// In what it is counted.
    pub measure: Measure,
    /// Bytes of user data moved.
    pub bytes: u64,
    /// Operations done.
    pub operations: u64,
    /// What it took.
    pub spent: Spent,
    /// Microseconds; `None` where a single operation has no meaning.
    pub p50: Option<u64>,
    /// The same.
    pub p99: Option<u64>,
    /// What a reader must know to judge it.
    pub note: Option<String>,
}

impl Sample {
    /// A transfer of so many bytes of user data.
    pub fn transfer(bytes: u64, spent: Spent) -> Self {
        Self {
            measure: Measure::Bytes,
            bytes,
            operations: 0,
            spent,
            p50: None,
            p99: None,
            note: None,
        }
    }

    /// Operations, one for each latency in microseconds, with so many bytes of user data each.
    pub fn operations(unit: &'static str, bytes_each: u64, mut latencies: Vec<u64>, spent: Spent) -> Self {
        latencies.sort_unstable();
        let operations = latencies.len() as u64;
        Self {
            measure: Measure::Rate(unit),
            bytes: operations * bytes_each,
            operations,
            spent,
            p50: statistics::percentile(&latencies, 500),
            p99: statistics::percentile(&latencies, 990),
            note: None,
        }
    }

    /// With a note.
    pub fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The figure.
    pub fn value(&self) -> f64 {
        match self.measure {
            Measure::Bytes => statistics::megabytes_per_second(self.bytes, self.spent.elapsed),
            Measure::Rate(_) => statistics::per_second(self.operations, self.spent.elapsed),
        }
    }

    /// Its unit.
    pub fn unit(&self) -> &'static str {
        match self.measure {
            Measure::Bytes => "MB/s",
            Measure::Rate(unit) => unit,
        }
    }
}

/// All runs, by measurement, in the order in which measurements first ran.
#[derive(Default)]
pub struct Book {
    runs: Vec<(String, Vec<Sample>)>,
}

impl Book {
    /// Keeps one run.
    pub fn record(&mut self, name: &str, sample: Sample) {
        match self.runs.iter_mut().find(|(known, _)| known == name) {
            Some((_, samples)) => samples.push(sample),
            None => self.runs.push((name.to_owned(), vec![sample])),
        }
    }

    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().map(|(name, _)| name.as_str())
    }

    /// The run with the median figure.
    pub fn median(&self, name: &str) -> Option<&Sample> {
        let samples = self.all(name);
        let values: Vec<f64> = samples.iter().map(Sample::value).collect();
        statistics::median_position(&values).and_then(|position| samples.get(position))
    }

    /// All runs.
    pub fn all(&self, name: &str) -> &[Sample] {
        self.runs
            .iter()
            .find(|(known, _)| known == name)
            .map_or(&[], |(_, samples)| samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spent(millis: u64) -> Spent {
        Spent {
            elapsed: Duration::from_millis(millis),
            ..Spent::default()
        }
    }

    #[test]
    fn a_sample_knows_rate_and_latencies() {
        let sample = Sample::operations("files/s", 4096, vec![30, 10, 20, 40], spent(2));
        assert_eq!((sample.value(), sample.unit()), (2000.0, "files/s"));
        assert_eq!(
            (sample.bytes, sample.p50, sample.p99),
            (16384, Some(20), Some(40))
        );
        let transfer = Sample::transfer(10_000_000, spent(100));
        assert_eq!(
            (transfer.value(), transfer.unit(), transfer.p50),
            (100.0, "MB/s", None)
        );
    }

    #[test]
    fn the_book_keeps_order_and_answers_the_median_run() {
        let mut book = Book::default();
        book.record("b", Sample::transfer(1_000_000, spent(10)));
        book.record("a", Sample::transfer(1_000_000, spent(1)));
        book.record("b", Sample::transfer(1_000_000, spent(40)));
        book.record("b", Sample::transfer(1_000_000, spent(20)));
        assert_eq!(book.names().collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(book.median("b").map(Sample::value), Some(50.0));
        assert_eq!((book.all("b").len(), book.median("c")), (3, None));
    }
}
