//! Byte ranges.

use crate::respond::invalid;
use drystone_client::Code;
use drystone_gateway::Problem;

/// A part of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// The part that a `Range` header asks of a file of `size` bytes; `None` if the header is to be ignored (another
/// unit, several ranges, or malformed: RFC 9110 section 14.2 has the whole file sent then).
///
/// # Errors
/// `range` if it lies outside the file.
pub fn requested(header: &str, size: u64) -> Result<Option<Part>, Problem> {
    let Some(spec) = header.trim().strip_prefix("bytes=").map(str::trim) else {
        return Ok(None);
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Ok(None);
    };
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than a u64 has: beyond every file.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let outside = |detail: String| {
        let mut problem = Problem::new(Code::Range, detail);
        problem.length = Some(size);
        Err(problem)
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => {
            if suffix == 0 || size == 0 {
                return outside(format!("the last {suffix} bytes of {size} are no bytes"));
            }
            let length = suffix.min(size);
            Ok(Some(Part {
                offset: size - length,
                length,
            }))
        }
        (Some(from), None) if last.is_empty() => {
            if from >= size {
                return outside(format!("byte {from} lies beyond the end at {size}"));
            }
            Ok(Some(Part {
                offset: from,
                length: size - from,
            }))
        }
        (Some(from), Some(to)) if from <= to => {
            if from >= size {
                return outside(format!("byte {from} lies beyond the end at {size}"));
            }
            Ok(Some(Part {
                offset: from,
                length: (to - from).saturating_add(1).min(size - from),
            }))
        }
        _ => Ok(None),
    }
}

/// The part that a `Content-Range` header says the body is: `bytes FIRST-LAST/*` or with the size for `*`.
///
/// # Errors
/// `invalid` if it is malformed.
pub fn written(header: &str) -> Result<Part, Problem> {
    let fault = || {
        invalid(format!(
            "Content-Range is {header:?}, must be: bytes FIRST-LAST/* (or the size for *)"
        ))
    };
    let spec = header.trim().strip_prefix("bytes ").ok_or_else(fault)?;
    let (span, size) = spec.split_once('/').ok_or_else(fault)?;
    let (first, last) = span.split_once('-').ok_or_else(fault)?;
    let number = |text: &str| -> Result<u64, Problem> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(fault());
        }
        text.parse().map_err(|_| fault())
    };
    let (first, last) = (number(first)?, number(last)?);
    let length = last
        .checked_sub(first)
        .and_then(|length| length.checked_add(1))
        .filter(|_| last < u64::MAX)
        .ok_or_else(fault)?;
    if size != "*" && number(size)? <= last {
        return Err(fault());
    }
    Ok(Part {
        offset: first,
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_served() {
        for (header, size, expected) in [
            ("bytes=0-0", 10, Some((0, 1))),
            ("bytes=2-5", 10, Some((2, 4))),
            ("bytes=5-", 10, Some((5, 5))),
            ("bytes=-3", 10, Some((7, 3))),
            ("bytes=-30", 10, Some((0, 10))),
            ("bytes=5-99999999999999999999999", 10, Some((5, 5))),
            ("bytes=0-18446744073709551615", 10, Some((0, 10))),
            ("bytes=5-2", 10, None),
            ("bytes=a-b", 10, None),
            ("bytes=0-1,3-4", 10, None),
            ("lines=0-1", 10, None),
            ("bytes=--1", 10, None),
        ] {
            let part = requested(header, size).unwrap();
            assert_eq!(part.map(|part| (part.offset, part.length)), expected, "{header}");
        }
    }

    #[test]
    fn ranges_outside_the_file_are_refused_with_its_length() {
        for (header, size) in [
            ("bytes=10-", 10),
            ("bytes=10-12", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
        ] {
            let problem = requested(header, size).unwrap_err();
            assert_eq!((problem.status, problem.length), (416, Some(size)), "{header}");
        }
    }

    #[test]
    fn written_ranges_are_strict() {
        assert_eq!(written("bytes 5-9/*").unwrap(), Part { offset: 5, length: 5 });
        assert_eq!(written("bytes 5-9/10").unwrap(), Part { offset: 5, length: 5 });
        for bad in [
            "",
            "bytes 9-5/*",
            "bytes 5-9",
            "bytes 5-9/9",
            "bytes */10",
            "5-9/*",
            "bytes 0-18446744073709551615/*",
            "bytes 18446744073709551615-18446744073709551615/*",
        ] {
            assert!(written(bad).is_err(), "{bad}");
        }
    }
}
