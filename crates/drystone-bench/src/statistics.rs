//! The arithmetic of a measurement.

use std::time::Duration;

/// The value below or at which `per_mille` thousandths of `sorted` lie (nearest rank); `None` if it is empty.
pub fn percentile(sorted: &[u64], per_mille: usize) -> Option<u64> {
    assert!(
        per_mille <= 1000,
        "a percentile lies between 0 and 1000 thousandths"
    );
    debug_assert!(sorted.is_sorted(), "percentiles are taken of sorted values");
    let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

/// So many per second. What took no measurable time counts as a microsecond.
pub fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.max(Duration::from_micros(1)).as_secs_f64()
}

/// MB/s, of 10^6 bytes.
pub fn megabytes_per_second(bytes: u64, elapsed: Duration) -> f64 {
    per_second(bytes, elapsed) / 1e6
}

/// CPU seconds per GiB; `None` without bytes.
pub fn seconds_per_gib(cpu: Duration, bytes: u64) -> Option<f64> {
    (bytes > 0).then(|| cpu.as_secs_f64() * (1u64 << 30) as f64 / bytes as f64)
}

/// CPU microseconds per operation; `None` without operations.
pub fn micros_per_operation(cpu: Duration, operations: u64) -> Option<f64> {
    (operations > 0).then(|| cpu.as_secs_f64() * 1e6 / operations as f64)
}

/// Position of the median among `values` (of an even number the lower one, so that no run is flattered).
pub fn median_position(values: &[f64]) -> Option<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    order.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 500), Some(50));
        assert_eq!(percentile(&hundred, 990), Some(99));
        assert_eq!(percentile(&hundred, 1000), Some(100));
        assert_eq!(percentile(&hundred, 0), Some(1));
        assert_eq!(percentile(&[7], 990), Some(7));
        assert_eq!(percentile(&[1, 9], 990), Some(9));
        assert_eq!(percentile(&[1, 9], 500), Some(1));
        assert_eq!(percentile(&[], 500), None);
    }

    #[test]
    fn rates_are_per_second_and_megabytes_decimal() {
        let two = Duration::from_secs(2);
        assert_eq!(per_second(10, two), 5.0);
        assert_eq!(megabytes_per_second(3_000_000, two), 1.5);
        assert!(per_second(1, Duration::ZERO).is_finite());
        assert_eq!(seconds_per_gib(two, 1 << 29), Some(4.0));
        assert_eq!(seconds_per_gib(two, 0), None);
        assert_eq!(micros_per_operation(two, 1000), Some(2000.0));
        assert_eq!(micros_per_operation(two, 0), None);
    }

    #[test]
    fn the_median_is_a_run_that_happened() {
        assert_eq!(median_position(&[]), None);
        assert_eq!(median_position(&[4.0]), Some(0));
        assert_eq!(median_position(&[9.0, 1.0, 5.0]), Some(2));
        assert_eq!(median_position(&[9.0, 1.0, 5.0, 6.0]), Some(2));
    }
}
