//! The seeds of the fuzz target `messages`, and all that a fuzzer once found.
#![allow(clippy::unwrap_used)]

mod fuzzed;
#[path = "../../../fuzz/replay.rs"]
mod replay;

use fuzzed::MESSAGES;

#[test]
fn every_body_of_the_corpus_is_a_message_or_is_refused() {
    replay::replay("messages", MESSAGES.len(), fuzzed::messages);
}

/// A body in which every field of the message is set that takes one of a few values: a field that is unknown is
/// not told again, one of another type is refused.
fn full(recode: fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut body = Vec::new();
    for field in 1..=40_u32 {
        let value: [(u32, &[u8]); 6] = [
            (2, &[2, 0x08, 1]),
            (2, &[3, b'a', b'/', b'b']),
            (2, &[2, 0x0a, 0]),
            (0, &[0x95, 1]),
            (1, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (5, &[1, 2, 3, 4]),
        ];
        for (kind, bytes) in value {
            let mut longer = body.clone();
            let key = field << 3 | kind;
            if key >= 128 {
                longer.push(key as u8 | 128);
                longer.push((key >> 7) as u8);
            } else {
                longer.push(key as u8);
            }
            longer.extend_from_slice(bytes);
            if recode(&longer).is_some_and(|told| told.len() > recode(&body).unwrap().len()) {
                body = longer;
                break;
            }
        }
    }
    body
}

#[test]
fn the_corpus_holds_the_seeds() {
    let mut seeds = Vec::new();
    for (index, (name, recode)) in MESSAGES.iter().enumerate() {
        let body = full(*recode);
        assert!(!body.is_empty() || recode(&[]) == Some(Vec::new()), "{name}");
        seeds.push((name.replace("::", "-"), [vec![index as u8], body].concat()));
    }
    let named: Vec<(&str, Vec<u8>)> = seeds
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.clone()))
        .collect();
    replay::seeds("messages", &named);
    let rich = named.iter().filter(|(_, bytes)| bytes.len() > 6).count();
    assert!(rich > MESSAGES.len() / 2, "only {rich} seeds hold several fields");
}

/// A message that is added is fuzzed from then on.
#[test]
fn every_message_of_the_sources_is_fuzzed() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = 0;
    for entry in std::fs::read_dir(sources).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut is_message = false;
        for line in text.lines() {
            is_message |= line.starts_with("#[derive(") && line.contains("Message");
            let name = line.strip_prefix("pub struct ").filter(|_| is_message);
            if let Some(name) = name.and_then(|rest| rest.split([' ', ';', '{']).next()) {
                let name = format!("{module}::{name}");
                assert!(
                    MESSAGES.iter().any(|(known, _)| *known == name),
                    "{name} is missing"
                );
                (found, is_message) = (found + 1, false);
            }
        }
    }
    assert_eq!(found, MESSAGES.len());
}
