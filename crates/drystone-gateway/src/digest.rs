//! Checksums that a request says its body has: `Content-MD5`, and `Content-Digest` and `Repr-Digest` (RFC 9530).
//!
//! Known are `sha-256`, `sha-512`, `md5` and `crc32c`; the values of others are not compared, as the standard has it. So
//! it is with parameters (`;name=value`), none of which is defined. Keys are lower case: `SHA-256` makes the header
//! malformed, and so does a value that is no byte sequence, be its algorithm known or not. What is malformed is refused,
//! because a client that sent it expects its body to be verified.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::HeaderMap;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

/// Base64 as structured fields are read: what fills up the end may be missing (RFC 9651 section 4.2.7).
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A checksum that the body must have.
enum Sum {
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    Crc32c(u32),
}

impl Sum {
    fn of(algorithm: &str) -> Option<Self> {
        Some(match algorithm {
            "sha-256" => Sum::Sha256(Sha256::new()),
            "sha-512" => Sum::Sha512(Sha512::new()),
            "md5" => Sum::Md5(Md5::new()),
            "crc32c" => Sum::Crc32c(0),
            _ => return None,
        })
    }

    fn length(&self) -> usize {
        match self {
            Sum::Sha256(_) => 32,
            Sum::Sha512(_) => 64,
            Sum::Md5(_) => 16,
            Sum::Crc32c(_) => 4,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::Sha256(sum) => sum.update(bytes),
            Sum::Sha512(sum) => sum.update(bytes),
            Sum::Md5(sum) => sum.update(bytes),
            Sum::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, bytes),
        }
    }

    fn value(self) -> Vec<u8> {
        match self {
            Sum::Sha256(sum) => sum.finalize().to_vec(),
            Sum::Sha512(sum) => sum.finalize().to_vec(),
            Sum::Md5(sum) => sum.finalize().to_vec(),
            Sum::Crc32c(sum) => sum.to_be_bytes().to_vec(),
        }
    }
}

struct Expected {
    /// Header and algorithm, for people.
    name: String,
    sum: Sum,
    value: Vec<u8>,
}

/// The checksums that a body must have.
#[derive(Default)]
pub struct Digests(Vec<Expected>);

impl Digests {
    /// What the headers say. `whole` is true if the body becomes the whole content: only then can a `Repr-Digest`,
    /// which is about that, be verified.
    ///
    /// # Errors
    /// In words, for a malformed header.
    pub fn of(headers: &HeaderMap, whole: bool) -> Result<Self, String> {
        let mut digests = Self::default();
        for value in headers.get_all("content-md5") {
            let text = value.to_str().map_err(|_| "Content-MD5 is not printable ASCII")?;
            digests.expect("Content-MD5", "md5", text.trim())?;
        }
        for name in ["Content-Digest", "Repr-Digest"] {
            for value in headers.get_all(name) {
                if name == "Repr-Digest" && !whole {
                    return Err(
                        "Repr-Digest is about the whole file: send Content-Digest with a part of it".into(),
                    );
                }
                let text = value
                    .to_str()
                    .map_err(|_| format!("{name} is not printable ASCII"))?;
                digests.read_dictionary(name, text)?;
            }
        }
        Ok(digests)
    }

    /// `sha-256=:BASE64:, md5=:BASE64:;parameter=1`: a dictionary (RFC 9651). Of a key that stands twice the last value
    /// counts.
    fn read_dictionary(&mut self, header: &str, text: &str) -> Result<(), String> {
        if text.trim().is_empty() {
            return Ok(());
        }
        for member in members(text).map(str::trim) {
            let fault = || format!("{header}: {member:?} is not ALGORITHM=:BASE64: (in lower case)");
            let (algorithm, rest) = split_key(member).ok_or_else(fault)?;
            let (value, parameters) = rest
                .strip_prefix("=:")
                .and_then(|open| open.split_once(':'))
                .ok_or_else(fault)?;
            if !are_parameters(parameters) {
                return Err(fault());
            }
            let name = name(header, algorithm);
            self.0.retain(|earlier| earlier.name != name);
            self.expect(header, algorithm, value)?;
        }
        Ok(())
    }

    fn expect(&mut self, header: &str, algorithm: &str, value: &str) -> Result<(), String> {
        let name = name(header, algorithm);
        let value = TOLERANT
            .decode(value)
            .map_err(|error| format!("{name}: not base64: {error}"))?;
        let Some(sum) = Sum::of(algorithm) else {
            return Ok(());
        };
        if value.len() != sum.length() {
            return Err(format!(
                "{name} has {} bytes, must have {}",
                value.len(),
                sum.length()
            ));
        }
        self.0.push(Expected { name, sum, value });
        Ok(())
    }

    /// Takes the next bytes of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        for expected in &mut self.0 {
            expected.sum.update(bytes);
        }
    }

    /// Compares, when the body has ended.
    ///
    /// # Errors
    /// In words, the first checksum that the body does not have.
    pub fn verify(self) -> Result<(), String> {
        for Expected { name, sum, value } in self.0 {
            let found = sum.value();
            if found != value {
                return Err(format!(
                    "{name} is {}, the bytes that came have {}",
                    STANDARD.encode(value),
                    STANDARD.encode(found)
                ));
            }
        }
        Ok(())
    }
}

fn name(header: &str, algorithm: &str) -> String {
    format!("{header} ({algorithm})")
}

/// The parts of `text` between commas, of which those in a string are none.
fn members(text: &str) -> impl Iterator<Item = &str> {
    separated(text, ',')
}

/// The parts of `text` between separators outside of strings.
fn separated(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_string, mut is_escaped) = (false, false);
    text.split(move |sign| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match sign {
            '"' if !was_escaped => is_string = !is_string,
            '\\' if is_string => is_escaped = !was_escaped,
            _ => {}
        }
        sign == separator && !is_string
    })
}

/// The key that `text` begins with, and what follows it.
fn split_key(text: &str) -> Option<(&str, &str)> {
    let is_first = |sign: char| sign.is_ascii_lowercase() || sign == '*';
    let is_next = |sign: char| is_first(sign) || sign.is_ascii_digit() || "_-.".contains(sign);
    text.starts_with(is_first)
        .then(|| text.split_at(text.find(|sign| !is_next(sign)).unwrap_or(text.len())))
        .filter(|(_, rest)| rest.is_empty() || rest.starts_with(['=', ';']))
}

/// True if `text` is nothing, or parameters: `;key`, `;key=value`.
fn are_parameters(text: &str) -> bool {
    let mut parts = separated(text, ';');
    parts.next() == Some("")
        && parts.all(|part| {
            split_key(part.trim_start_matches(' '))
                .is_some_and(|(_, value)| value.is_empty() || value.len() > 1)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn judged(name: &str, value: &str, body: &[u8]) -> Result<Result<(), String>, String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
        let mut digests = Digests::of(&headers, true)?;
        body.chunks(3).for_each(|piece| digests.update(piece));
        Ok(digests.verify())
    }

    /// The values are those of `printf hello | openssl dgst -ALGORITHM -binary | base64`.
    const SUMS: [(&str, &str); 12] = [
        ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:;x=1"),
        (
            "content-digest",
            r#"md5=:XUFAKrxLKna5cZ2REBfFkg==:;x="a,;\"b"; y, unixsum=:AAAA:"#,
        ),
        ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg:"),
        (
            "content-digest",
            "md5=:aGVsbG8gaGVsbG8gaGVsbA==:,md5=:XUFAKrxLKna5cZ2REBfFkg==:",
        ),
        ("content-digest", r#"other=::;q="a,b", crc32c=:mnG7TA==:"#),
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
        ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:"),
        (
            "content-digest",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        ),
        (
            "repr-digest",
            "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:",
        ),
        ("repr-digest", "crc32c=:mnG7TA==:"),
        ("content-digest", "unixsum=:AAAA:"),
        (
            "content-digest",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:, md5=:XUFAKrxLKna5cZ2REBfFkg==:",
        ),
    ];

    #[test]
    fn a_body_is_compared_with_every_checksum_that_is_known() {
        for (name, value) in SUMS {
            assert_eq!(judged(name, value, b"hello"), Ok(Ok(())), "{name}: {value}");
            if !value.starts_with("unixsum") {
                let wrong = judged(name, value, b"hellO").unwrap();
                assert!(wrong.is_err(), "{name}: {value}");
            }
        }
    }

    #[test]
    fn malformed_checksums_are_refused() {
        for (name, value) in [
            ("content-md5", "zzz"),
            ("content-md5", "aGVsbG8="),
            ("content-digest", "garbage"),
            ("repr-digest", "garbage"),
            ("content-digest", "unixsum=30637"),
            ("content-digest", "unixsum=:AA!A:"),
            ("content-digest", "unixsum=:AAAA:x"),
            (
                "content-digest",
                r#"other=(1 "a,b"), md5=:XUFAKrxLKna5cZ2REBfFkg==:"#,
            ),
            ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:,"),
            ("content-digest", ","),
            ("content-digest", "sha-256"),
            ("content-digest", "sha-256=abc"),
            ("content-digest", "sha-256=:abc:"),
            ("content-digest", "sha-256=:aGVsbG8=:"),
            ("content-digest", "MD5=:XUFAKrxLKna5cZ2REBfFkg==:"),
            ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:x"),
            ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:;"),
            ("content-digest", "md5=:XUFAKrxLKna5cZ2REBfFkg==:;X=1"),
            ("content-digest", "md5 = :XUFAKrxLKna5cZ2REBfFkg==:"),
        ] {
            assert!(judged(name, value, b"hello").is_err(), "{name}: {value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("repr-digest", HeaderValue::from_static("crc32c=:mnG7TA==:"));
        assert!(Digests::of(&headers, false).is_err());
    }
}
