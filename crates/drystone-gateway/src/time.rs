//! Times as people read them: RFC 3339 and HTTP dates, both in UTC.

const MICROS: u64 = 1_000_000;
const DAY: u64 = 86_400;
/// The first second after the year 9999.
const END: u64 = 253_402_300_800;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// Microseconds since 1970 as `2026-11-22T05:33:18.000001Z`.
pub fn rfc3339(micros: u64) -> String {
    let (seconds, fraction) = (micros / MICROS, micros % MICROS);
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = clock(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

/// Microseconds since 1970 as `Sun, 22 Nov 2026 05:33:18 GMT`.
pub fn http_date(micros: u64) -> String {
    let seconds = micros / MICROS;
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = clock(seconds);
    let weekday = WEEKDAYS[(seconds / DAY % 7) as usize];
    let month = MONTHS[(month - 1) as usize];
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Microseconds since 1970 of an HTTP date in any of its three forms; `None` if it is not one, or before 1970.
pub fn parse_http_date(text: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

/// Microseconds since 1970 of an RFC 3339 time from 1970 to 9999, any offset; `None` if it is not one.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let byte = |at: usize| text.as_bytes().get(at).copied();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let separators = byte(4)? == b'-' && byte(7)? == b'-' && byte(13)? == b':' && byte(16)? == b':';
    if !separators || !matches!(byte(10)?, b'T' | b't' | b' ') {
        return None;
    }
    if !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut at = 19;
    let mut fraction = 0;
    if byte(at) == Some(b'.') {
        let digits = text.get(at + 1..)?.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let kept = digits.min(6);
        fraction = number(at + 1, at + 1 + kept)? * 10_u64.pow(6 - kept as u32);
        at += 1 + digits;
    }
    let offset = match (byte(at)?, text.len() - at) {
        (b'Z' | b'z', 1) => 0,
        (sign @ (b'+' | b'-'), 6) if byte(at + 3)? == b':' => {
            let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = (hours * 3600 + minutes * 60) as i64;
            if sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = (days_before(year, month, day)? * DAY + hour * 3600 + minute * 60 + second)
        .checked_add_signed(-offset)
        .filter(|seconds| *seconds < END)?;
    Some(seconds * MICROS + fraction)
}

fn clock(seconds: u64) -> (u64, u64, u64) {
    (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    let years = year.checked_sub(1970)?;
    let leaps = |until: u64| until / 4 - until / 100 + until / 400;
    let whole = years * 365 + leaps(year - 1) - leaps(1969);
    Some(whole + (1..month).map(|month| days_in(year, month)).sum::<u64>() + day - 1)
}

/// Year, month and day of a day since 1970 (the algorithm of Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(1_795_325_598_000_001), "2026-11-22T05:33:18.000001Z");
        assert_eq!(http_date(1_795_325_598_000_000), "Sun, 22 Nov 2026 05:33:18 GMT");
        for text in [
            "Sun, 22 Nov 2026 05:33:18 GMT",
            "Sunday, 22-Nov-26 05:33:18 GMT",
            "Sun Nov 22 05:33:18 2026",
        ] {
            assert_eq!(parse_http_date(text), Some(1_795_325_598_000_000), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-11-22T05:33:18Z",
            "Sun, 32 Nov 2026 05:33:18 GMT",
        ] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
        assert_eq!(rfc3339(951_782_400_000_000), "2000-02-29T00:00:00.000000Z");
    }

    #[test]
    fn what_is_written_is_read() {
        for micros in [
            0,
            1,
            951_782_399_999_999,
            951_782_400_000_000,
            4_107_542_400_000_000,
            253_402_300_799_000_000,
        ] {
            assert_eq!(
                parse_rfc3339(&rfc3339(micros)),
                Some(micros),
                "{}",
                rfc3339(micros)
            );
        }
        assert_eq!(parse_rfc3339("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_rfc3339("1970-01-01T00:00:00.5Z"), Some(500_000));
        let last = parse_rfc3339("9999-12-31T23:59:59.999999Z");
        assert_eq!(last, Some(END * MICROS - 1));
        for bad in [
            "",
            "1970",
            "1969-12-31T23:59:59Z",
            "1970-13-01T00:00:00Z",
            "1970-02-29T00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01X00:00:00Z",
            "1970-01-01T00:00:00Zx",
            "1970-01-01T00:00:00+25:00",
            "197é-01-01T00:00:00Z",
            "9999-12-31T23:59:59-00:01",
            "9999-12-31T23:59:60Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
