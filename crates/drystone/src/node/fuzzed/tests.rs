//! The seeds of the fuzz target `node`, and all that a fuzzer once found.

use super::node;

#[path = "../../../../../fuzz/replay.rs"]
mod replay;

#[test]
fn every_file_of_the_corpus_is_read_or_refused() {
    replay::replay("node", 12, node);
}

#[test]
fn the_corpus_holds_the_seeds() {
    let head = "name = \"a\"\ncluster-file = \"c\"\n";
    let metadata = "metadata-node = 1\n[metadata]\ndata = \"/m\"\nlisten = \"127.0.0.1:9710\"\n";
    let chunk = "chunk-node = 2\n[chunk]\ndata = [\"/d1\", \"/d2\"]\nlisten = \"[::1]:0\"\n\
                 metadata = [\"m:9710\"]\n";
    let gateway = "[gateway]\nrest = \"127.0.0.1:9700\"\nmetadata = [\"m:9710\"]\n";
    let with = |parts: &[&str]| [&[head], parts].concat().concat().into_bytes();
    let seeds: Vec<(&str, Vec<u8>)> = vec![
        ("metadata", with(&[metadata])),
        ("chunk", with(&[chunk])),
        ("gateway", with(&[gateway])),
        (
            "admin",
            with(&["insecure = true\nadmin = \"0.0.0.0:9790\"\n", gateway]),
        ),
        (
            "voters",
            with(&[
                "join = true\nvoters = [{ node = 1, address = \"m:1\" }]\n",
                metadata,
            ]),
        ),
        ("all-but-chunk", with(&[metadata, gateway])),
        (
            "sizes",
            with(&[metadata, "log-segment = \"64MiB\"\noverlay = \"64MiB\"\n"]),
        ),
        (
            "durations",
            with(&[metadata, "raft-tick = \"50ms\"\nflush-interval = \"1s\"\n"]),
        ),
        (
            "policy",
            with(&[metadata, "[metadata.policy]\nreplicas = 2\nack = \"quorum\"\n"]),
        ),
        (
            "inline-table",
            with(&["gateway = { metadata = ['m:1'], rest = '[::1]:1' }\n"]),
        ),
        ("empty", Vec::new()),
        ("no-role", with(&[])),
        ("unknown-key", with(&["colour = 3\n", gateway])),
        ("wrong-type", with(&["metadata-node = \"1\"\n", gateway])),
        ("twice", with(&[gateway, gateway])),
        ("node-zero", with(&["chunk-node = 0\n", gateway])),
        ("huge-size", with(&[metadata, "log-segment = \"16777216TiB\"\n"])),
        (
            "long-name",
            [
                b"name = \"",
                &[b'x'; 256][..],
                b"\"\ncluster-file = \"c\"\n",
                gateway.as_bytes(),
            ]
            .concat(),
        ),
    ];
    for (name, text) in &seeds[..10] {
        let text = std::str::from_utf8(text).unwrap();
        let read = crate::node::config::NodeConfig::parse(text);
        assert!(read.is_ok(), "{name}: {read:?}");
    }
    replay::seeds("node", &seeds);
}
