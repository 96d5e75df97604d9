//! Words that were replaced do not come back: `docs/glossary.md` says what stands in their place.

use anyhow::Context;
use std::fs;
use std::path::Path;

/// A retired word, as part of a name or in a text, and its replacement.
const WORDS: &[(&str, &str)] = &[
    ("steward", "leader task"),
    ("stewards", "leader tasks"),
    ("brake", "deletion limit"),
    ("keeper", "export schedule"),
    ("muster", "open disks"),
    ("crew", "open disks"),
    ("shelf", "grant cache"),
    ("shelves", "grant cache"),
    ("doubtful", "suspect"),
    ("doubts", "suspects"),
    ("twin", "cloned voter"),
    ("twins", "cloned voters"),
    ("impostor", "cloned voter"),
    ("impostors", "cloned voters"),
    ("pulse", "ping"),
    ("pulses", "pings"),
];

/// Retired names of types and modules that are fine as words.
const NAMES: &[(&str, &str)] = &[
    ("Gate", "applied index, admission"),
    ("Missed", "boot recovery"),
    ("Ground", "what was opened"),
    ("Seat", "frame guard"),
    ("Flight", "append call"),
    ("Carried", "frame source"),
    ("Grow", "convert inline"),
];

/// Adds each retired word in a source or document to `faults`.
pub(super) fn check(
    root: &Path,
    files: &[std::path::PathBuf],
    faults: &mut Vec<String>,
) -> anyhow::Result<()> {
    for file in files {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let place = file.strip_prefix(root).unwrap_or(file).display();
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in found(line) {
                faults.push(format!("{place}:{}: {word} is retired: {instead}", number + 1));
            }
        }
    }
    Ok(())
}

/// The retired words of one line.
fn found(line: &str) -> Vec<(&'static str, &'static str)> {
    let names = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
    let mut found = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        found.extend(NAMES.iter().filter(|(retired, _)| *retired == name));
        let parts = parts(name);
        found.extend(
            WORDS
                .iter()
                .filter(|(retired, _)| parts.iter().any(|part| part == retired)),
        );
    }
    found
}

/// `feel_pulses` and `FeelPulses` as their words, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for letter in name.chars() {
        if (letter == '_' || letter.is_uppercase()) && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(String::new());
        }
        if let (true, Some(part)) = (letter != '_', parts.last_mut()) {
            part.extend(letter.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::found;

    #[test]
    fn retired_words_are_found_in_names_and_texts() {
        let words = |line| found(line).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
        assert_eq!(words("async fn feel_pulses(shared: &Shared)"), ["pulses"]);
        assert_eq!(words("use crate::steward; // the Shelf"), ["steward", "shelf"]);
        assert_eq!(words("struct Ground { crew: u64 }"), ["Ground", "crew"]);
        assert!(
            words("in the background a bookkeeper twines impulses; on the ground, at the gate").is_empty()
        );
    }
}
