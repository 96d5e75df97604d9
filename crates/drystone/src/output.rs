//! What a person or a program reads: lines on stdout and stderr.
//!
//! `println!` panics when nobody reads stdout any more (`drystone ls | head -1`). Everything that this crate prints goes
//! through here, where that is an error like others; the lints of the crate see to it.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

/// stdout takes no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout: {0}")]
pub struct OutputError(#[from] io::Error);

impl OutputError {
    /// The reader closed its end: nothing is wrong, and nobody is left to be told.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Writes a line to stdout.
pub fn line(text: impl Display) -> Result<(), OutputError> {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Writes a line to stdout for whoever reads it: the work of the command goes on if nobody does.
pub fn say(text: impl Display) {
    let _ = line(text);
}

/// Writes a line to stderr. If nobody reads that either, there is nobody to be told.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Many lines to stdout, or bytes, buffered. What was written is out once [`Lines::finish`] has returned.
pub struct Lines {
    out: BufWriter<Stdout>,
}

impl Lines {
    /// Nothing is written yet.
    pub fn new() -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
        }
    }

    /// Adds a line.
    pub fn line(&mut self, text: impl Display) -> Result<(), OutputError> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes what is still buffered.
    pub fn finish(mut self) -> Result<(), OutputError> {
        Ok(self.out.flush()?)
    }
}

/// Text in which control characters are escaped: a name must not drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// A number of bytes for people: three digits and a binary unit. Programs get the plain number.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    // 1,023.95 would be printed as 1024.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_printed_with_a_unit() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_400, "100 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (64 << 20, "64.0 MiB"),
            (3 << 40, "3.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn names_do_not_drive_the_terminal() {
        assert_eq!(printable("a\nb\u{1b}[31mc é"), "a\\nb\\u{1b}[31mc é");
    }
}
