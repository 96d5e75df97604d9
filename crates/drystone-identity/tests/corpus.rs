//! The seeds of the fuzz target `identity`, and all that a fuzzer once found.

mod fuzzed;
#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../fuzz/scripts.rs"]
mod scripts;

#[test]
fn every_file_of_the_corpus_is_believed_or_refused() {
    replay::replay("identity", 12, fuzzed::identity_file);
}

#[test]
fn every_file_of_random_bytes_is_believed_or_refused() {
    scripts::random(300, 100, fuzzed::identity_file);
}

#[test]
fn the_corpus_holds_the_seeds() {
    let file = |choice: u8, name: &str| [vec![choice], fuzzed::content(name)].concat();
    let changed = |choice: u8, name: &str, at: usize, value: u8| {
        let mut bytes = file(choice, name);
        bytes[1 + at] = value;
        bytes
    };
    let with_counter = |counter: u64| {
        let mut bytes = file(64 | 6, "boot-a");
        bytes[17..25].copy_from_slice(&counter.to_le_bytes());
        bytes
    };
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("identity", file(1, "identity")),
        ("boot-a", file(2, "boot-a")),
        ("boot-b", file(4, "boot-b")),
        ("boot-in-both", file(6, "boot-a")),
        ("identity-for-a-boot", file(2, "identity")),
        ("empty", vec![7]),
        ("identity-flipped", changed(1, "identity", 40, 0)),
        ("boot-flipped", changed(2, "boot-a", 20, 9)),
        ("other-magic", changed(64 | 1, "identity", 0, b'x')),
        ("other-version", changed(64 | 1, "identity", 4, 2)),
        ("other-role", changed(64 | 1, "identity", 90, 3)),
        ("other-node", changed(64 | 6, "boot-a", 32, 9)),
        ("cut", file(64 | 1, "identity")[..60].to_vec()),
        ("last-counter", with_counter(u64::MAX)),
        ("last-counter-but-one", with_counter(u64::MAX - 1)),
    ];
    replay::seeds("identity", &seeds);
}
