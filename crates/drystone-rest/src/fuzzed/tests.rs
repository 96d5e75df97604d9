//! The seeds of the fuzz target `rest`, and all that a fuzzer once found.

#[path = "../../tests/fuzzed/cluster.rs"]
mod cluster;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

use super::Subject;
use crate::conditions::Conditions;
use drystone_client::ContentVersion;
use drystone_env::Env;
use http::HeaderMap;
use std::cell::RefCell;

thread_local! {
    static SUBJECT: RefCell<Option<Subject>> = const { RefCell::new(None) };
}

#[tokio::test]
async fn every_request_of_the_corpus_is_understood_or_refused() {
    let env = Env::os();
    let (client, _server) = cluster::client(&env).await;
    SUBJECT.set(Some(Subject::new(env, client)));
    replay::replay("rest", 25, |data| {
        SUBJECT.with_borrow(|subject| subject.as_ref().unwrap().rest(data));
    });
}

#[test]
fn the_corpus_holds_the_seeds() {
    let requests = [
        ("read", "GET /files/a/b HTTP"),
        ("read-plain", "GET /files/photos/22.jpg\n"),
        ("read-range", "GET /files/a\nrange: bytes=5-9\n\n"),
        ("read-suffix", "GET /files/a\nrange: bytes=-3\n\n"),
        ("read-from", "GET /files/a\nrange: bytes=5-\nif-range: {etag}\n\n"),
        (
            "read-last",
            "GET /files/a\nrange: bytes=0-18446744073709551615\n\n",
        ),
        ("read-two-ranges", "GET /files/a\nrange: bytes=0-1,3-4\n\n"),
        ("read-if-match", "GET /files/a\nif-match: {etag}\n\n"),
        (
            "read-if-none-match",
            "GET /files/a\nif-none-match: W/{etag}, \"x\"\n\n",
        ),
        ("read-if-any", "HEAD /files/a\nif-none-match: *\n\n"),
        ("write", "PUT /files/a?parents=true\n\ncontent"),
        (
            "write-range",
            "PUT /files/a\ncontent-range: bytes 5-11/*\n\ncontent",
        ),
        (
            "write-range-size",
            "PUT /files/a\ncontent-range: bytes 0-6/7\n\ncontent",
        ),
        (
            "write-last-byte",
            "PUT /files/a\ncontent-range: bytes 18446744073709551615-18446744073709551615/*\n\nx",
        ),
        ("write-encoded", "PUT /files/a\ncontent-encoding: gzip\n\nx"),
        ("create", "POST /files/a?parents\nidempotency-key: k-1\n\ncontent"),
        (
            "create-under-two-conditions",
            "POST /files/a\nidempotency-key: k-1\nif-match: \"a\"\nif-match: \"b\"\n\ncontent",
        ),
        ("append", "POST /files/a?append=true\nif-match: *\n\ncontent"),
        (
            "delete",
            "DELETE /files/a%20b\nif-match: {etag}\nif-match: \"y\"\n\n",
        ),
        ("list", "GET /directories/?limit=10&after=a%2Fb+c\n\n"),
        ("list-nothing", "GET /directories/a?limit=0\n\n"),
        (
            "make-directory",
            "POST /directories/a/b?parents\ndrystone-user: ada.l@x-1\n\n",
        ),
        ("delete-tree", "DELETE /directories/a?recursive=true\n\n"),
        (
            "metadata",
            "GET /metadata/a?extents=true\ndrystone-session: {session}\n\n",
        ),
        (
            "change",
            "PUT /metadata/a\n\n{\"mode\": \"0644\", \"owner\": \"ada\", \"group\": \"g\"}",
        ),
        (
            "change-times",
            "PUT /metadata/a\n\n{\"modified\": \"2026-11-22T05:33:18.000001Z\", \"accessed\": \"1970-01-01T01:00:00+01:00\"}",
        ),
        (
            "change-last-time",
            "PUT /metadata/a\n\n{\"modified\": \"9999-12-31T23:59:59-23:59\"}",
        ),
        (
            "change-xattrs",
            "PUT /metadata/a\n\n{\"xattrs\": {\"user.x\": \"AAEC\", \"y\": null}}",
        ),
        (
            "change-policy",
            "PUT /metadata/a\n\n{\"policy\": {\"replicas\": 3, \"ack\": \"all\", \"chunk_bytes\": 65536}}",
        ),
        ("change-no-policy", "PUT /metadata/a\n\n{\"policy\": null}"),
        (
            "rename",
            "PUT /metadata/a\n\n{\"rename_to\": \"/b/c\", \"overwrite\": true}",
        ),
        ("status", "GET /status\n\n"),
        ("cluster", "GET /cluster\n\n"),
        ("not-utf-8", "GET /files/%ff?after=%ff\n\n"),
        ("dots", "GET /files/a/%2e%2e/b\n\n"),
        ("unknown-parameter", "GET /files/a?limit=1\n\n"),
        ("no-method", "BREW /files/a\n\n"),
        (
            "etag-with-a-comma",
            "GET /files/a\nif-none-match: \"a,b\", {etag}\n\n",
        ),
    ];
    let seeds = requests.map(|(name, text)| (name, text.as_bytes().to_vec()));
    replay::seeds("rest", &seeds);
}

#[tokio::test]
async fn a_tag_may_hold_a_comma() {
    let env = Env::os();
    let (client, _server) = cluster::client(&env).await;
    let tag = client.etag(ContentVersion::default());
    let tags = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", value.parse().unwrap());
        Conditions::parse(&client, &headers).map(|found| found.precondition().not_versions.len())
    };
    for (value, count) in [
        (format!("\"a,b\", {tag}"), 1),
        (format!("W/{tag},{tag} ,\"\""), 2),
        ("\"\"".to_owned(), 0),
    ] {
        assert_eq!(tags(&value).ok(), Some(count), "{value}");
    }
    for bad in ["", "a", "\"a", "\"a\" \"b\"", "\"a\",", "W/", "*, \"a\""] {
        assert!(tags(bad).is_err(), "{bad}");
    }
}
