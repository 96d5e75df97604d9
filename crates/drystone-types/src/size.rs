//! Byte counts and durations as people write them: `64MiB`, `10s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes. Text form: a whole number with an optional unit `B`, `KiB`, `MiB`, `GiB`, `TiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ByteCount(pub u64);

const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|d| (d, *unit)))
            .unwrap_or((text, 1));
        digits
            .trim()
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit))
            .map(ByteCount)
            .ok_or_else(|| {
                format!("{text:?} is not a size: write a whole number and B, KiB, MiB, GiB or TiB")
            })
    }
}

impl fmt::Display for ByteCount {
    /// The largest unit that divides it evenly.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS
            .iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit))
            .unwrap_or(&("B", 1));
        write!(f, "{}{}", self.0 / unit, name)
    }
}

/// Parses `500ms`, `10s`, `2m`, `24h` (whole numbers).
///
/// # Errors
/// A sentence that says what is accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is not a duration: write a whole number and us, ms, s, m or h");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
    let number: u64 = trimmed[..split].parse().map_err(|_| fault())?;
    let micros = match trimmed[split..].trim() {
        "us" => Some(number),
        "ms" => number.checked_mul(1_000),
        "s" => number.checked_mul(1_000_000),
        "m" => number.checked_mul(60_000_000),
        "h" => number.checked_mul(3_600_000_000),
        _ => None,
    };
    micros.map(Duration::from_micros).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [
            ("0B", 0),
            ("4KiB", 4096),
            ("64MiB", 64 << 20),
            ("3GiB", 3 << 30),
            ("1025B", 1025),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)));
            assert_eq!(ByteCount(bytes).to_string(), text);
        }
        assert_eq!("4096".parse(), Ok(ByteCount(4096)));
        for bad in ["", "MiB", "-1B", "1.5GiB", "1MB", "99999999TiB"] {
            assert!(bad.parse::<ByteCount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "10", "s", "1d", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
