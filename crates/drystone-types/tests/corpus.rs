//! The seeds of the fuzz targets `path` and `config`, and all that a fuzzer once found.

mod fuzzed;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn every_path_of_the_corpus_is_split_or_refused() {
    replay::replay("path", 12, fuzzed::path);
}

#[test]
fn every_value_of_the_corpus_is_read_or_refused() {
    replay::replay("config", 12, fuzzed::config);
}

fn named(seeds: &[(&'static str, &str)]) -> Vec<(&'static str, Vec<u8>)> {
    seeds
        .iter()
        .map(|(name, text)| (*name, text.as_bytes().to_vec()))
        .collect()
}

#[test]
fn the_corpora_hold_the_seeds() {
    let long = "x".repeat(255);
    let longest = format!("/{}", "x/".repeat(2047));
    let paths = [
        ("empty", ""),
        ("root", "/"),
        ("slashes", "//"),
        ("three-slashes", "///"),
        ("plain", "/photos/2026/11/22.jpg"),
        ("relative", "a/b"),
        ("trailing", "/a/b/"),
        ("empty-name", "/a//b"),
        ("dots", "/a/../b"),
        ("dot", "./a"),
        ("nul", "/a\0b"),
        ("unicode", "/\u{e4}\u{20ac}\u{1f980}/\u{202e}x"),
        ("long-name", long.as_str()),
        ("longest", longest.as_str()),
    ];
    replay::seeds("path", &named(&paths));
    let values = [
        ("bytes", "64MiB"),
        ("bytes-tib", "16777215TiB"),
        ("bytes-over", "16777216TiB"),
        ("bytes-plain", "18446744073709551615"),
        ("bytes-spaces", " 4 KiB "),
        ("bytes-zero", "0B"),
        ("bytes-plus", "+5GiB"),
        ("duration-us", "18446744073709551615us"),
        ("duration-ms", "500ms"),
        ("duration-s", "10s"),
        ("duration-m", "2 m"),
        ("duration-h", "5124095576h"),
        ("policy-all", "all"),
        ("policy-quorum", "quorum"),
        ("policy-one", "one"),
        ("policy-memory", "memory"),
    ];
    replay::seeds("config", &named(&values));
}
