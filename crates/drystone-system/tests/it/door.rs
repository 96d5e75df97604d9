//! What the REST door asks of a request before it does anything: conditions, checksums, hosts, origins, limits.

use drystone_system::http::{connect, read_head};
use drystone_system::{Cluster, Options};
use std::io::{BufReader, Read, Write};
use std::time::Duration;

const OLD: &str = "Sun, 22 Nov 2020 05:33:18 GMT";
const LATE: &str = "Fri, 22 Nov 2999 05:33:18 GMT";

#[test]
fn a_condition_that_does_not_hold_is_412_and_changes_nothing() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    let etag = http.put("/files/a", b"first");
    let etag = etag.header("etag").expect("an ETag").to_owned();
    let large = vec![b'x'; 2 << 20];
    for (path, name, value, status) in [
        ("/files/a", "if-none-match", "*", 412),
        ("/files/a", "if-none-match", etag.as_str(), 412),
        ("/files/a", "if-match", "\"other\"", 412),
        ("/files/a", "if-unmodified-since", OLD, 412),
        ("/files/none", "if-match", "*", 412),
        ("/files/none", "if-match", etag.as_str(), 412),
        ("/files/dir/none", "if-none-match", "*", 404),
    ] {
        for body in [&b"second"[..], &large] {
            let answer = http.try_ask("PUT", path, &[(name, value)], body.len() as u64, &mut &body[..]);
            // Refused before all of it was sent: the answer, or the end of the connection.
            let is_small = body.len() < large.len();
            assert!(
                answer.as_ref().is_ok_and(|answer| answer.status == status) || (!is_small && answer.is_err()),
                "{path} {name}: {value}: {answer:?}"
            );
        }
    }
    for (method, path) in [("DELETE", "/files/a"), ("PUT", "/metadata/a")] {
        for (name, value) in [("if-match", "\"other\""), ("if-unmodified-since", OLD)] {
            let answer = http.ask(method, path, &[(name, value)], b"{\"mode\": \"0600\"}");
            assert_eq!(answer.status, 412, "{method} {name}");
        }
    }
    assert_eq!(http.get("/files/a").expect(200), b"first");
    http.get("/files/none").expect(404);
    for (name, value, status) in [
        ("if-match", etag.as_str(), 200),
        ("if-unmodified-since", LATE, 200),
        ("if-none-match", "\"other\"", 200),
        // No date: ignored.
        ("if-unmodified-since", "yesterday", 200),
    ] {
        let answer = http.ask("PUT", "/files/a", &[(name, value)], b"third");
        assert_eq!(answer.status, status, "{name}: {value}");
    }
    http.ask("PUT", "/files/new", &[("if-none-match", "*")], b"new")
        .expect(201);
    let modified = http.get("/files/new").header("last-modified").unwrap().to_owned();
    for (name, value, status) in [
        ("if-modified-since", modified.as_str(), 304),
        ("if-modified-since", OLD, 200),
        ("if-unmodified-since", OLD, 412),
        ("if-unmodified-since", modified.as_str(), 200),
    ] {
        let answer = http.ask("GET", "/files/new", &[(name, value)], b"");
        assert_eq!(answer.status, status, "{name}: {value}");
    }
    // The first answer to a key counts, whatever holds by now.
    let key = [("idempotency-key", "k-1"), ("if-none-match", "*")];
    http.ask("PUT", "/files/keyed", &key, b"x").expect(201);
    http.ask("PUT", "/files/keyed", &key, b"x").expect(201);
    http.ask("PUT", "/files/keyed", &key, b"another").expect(422);
    let other = [("idempotency-key", "k-2"), ("if-none-match", "*")];
    http.ask("PUT", "/files/keyed", &other, b"x").expect(412);
}

/// The head of a request whose client waits to be told to go on, and the first status line that comes.
fn asked_to_go_on(cluster: &Cluster, target: &str, headers: &str) -> (u16, Option<u16>) {
    let mut stream = connect(&cluster.node("gateway").rpc).unwrap();
    let head = format!(
        "PUT {target} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (first, _) = read_head(&mut reader).unwrap();
    if first != 100 {
        return (first, None);
    }
    stream.write_all(b"12345").unwrap();
    (first, Some(read_head(&mut reader).unwrap().0))
}

#[test]
fn a_client_is_told_to_go_on_when_the_head_was_looked_at() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/a", b"a").expect(201);
    let private = [("drystone-user", "drystone")];
    http.ask("POST", "/directories/private", &private, b"")
        .expect(201);
    http.ask("PUT", "/metadata/private", &private, b"{\"mode\": \"0700\"}")
        .expect(200);
    for (target, headers, status) in [
        ("/files/a", "if-none-match: *\r\n", 412),
        ("/files/none/b", "", 404),
        ("/files/private/b", "drystone-user: bob\r\n", 403),
        ("/files/private", "", 409),
        ("/files/a/b", "", 409),
        ("/files/a", "content-encoding: gzip\r\n", 400),
    ] {
        assert_eq!(
            asked_to_go_on(&cluster, target, headers),
            (status, None),
            "{target}"
        );
    }
    assert_eq!(asked_to_go_on(&cluster, "/files/b", ""), (100, Some(201)));
    assert_eq!(http.get("/files/b").expect(200), b"12345");
}

#[test]
fn a_body_without_its_checksum_is_not_stored() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/there", b"old").expect(201);
    for (name, value) in [
        ("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="),
        (
            "content-digest",
            "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
        ),
        ("repr-digest", "crc32c=:mnG7TA==:"),
    ] {
        for path in ["/files/none", "/files/there"] {
            let answer = http.ask("PUT", path, &[(name, value)], b"hellO");
            assert_eq!(answer.status, 400, "{name}");
            assert_eq!(answer.json()["code"], "digest_mismatch", "{name}");
        }
        let path = format!("/files/{name}");
        http.ask("PUT", &path, &[(name, value)], b"hello").expect(201);
        assert_eq!(http.get(&path).expect(200), b"hello");
    }
    http.get("/files/none").expect(404);
    assert_eq!(http.get("/files/there").expect(200), b"old");
    let part = [
        ("content-range", "bytes 0-1/*"),
        ("repr-digest", "crc32c=:mnG7TA==:"),
    ];
    http.ask("PUT", "/files/there", &part, b"xy").expect(400);
}

#[test]
fn a_media_type_is_kept_with_its_content() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    let kind = |http: &mut drystone_system::Http| {
        let answer = http.get("/files/page");
        answer.header("content-type").unwrap().to_owned()
    };
    let html = "text/html; charset=utf-8";
    http.ask("PUT", "/files/page", &[("content-type", html)], b"<p>")
        .expect(201);
    assert_eq!(kind(&mut http), html);
    let part = [("content-type", "image/png"), ("content-range", "bytes 1-1/*")];
    http.ask("PUT", "/files/page", &part, b"q").expect(200);
    assert_eq!(
        kind(&mut http),
        html,
        "a part does not change the type of the whole"
    );
    let answer = http.get("/files/page");
    assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    http.put("/files/page", b"anything").expect(200);
    assert_eq!(kind(&mut http), "application/octet-stream");
    http.ask("PUT", "/files/page", &[("content-type", "text")], b"x")
        .expect(400);
}

#[test]
fn web_pages_of_other_origins_do_not_reach_a_cluster_on_loopback() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/a", b"a").expect(201);
    let gateway = cluster.node("gateway");
    let asked = |address: &str, head: &str| {
        let mut stream = connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        read_head(&mut BufReader::new(stream)).unwrap()
    };
    // A name that its owner points at 127.0.0.1.
    for (address, path) in [(&gateway.rpc, "/files/a"), (&gateway.admin, "/metrics")] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\n\r\n");
        assert_eq!(asked(address, &head).0, 421, "{path}");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let (status, headers) = asked(address, &head);
        assert_eq!(status, 200, "{path}");
        assert!(
            headers
                .iter()
                .all(|(name, _)| !name.starts_with("access-control"))
        );
    }
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for (method, path) in [
            ("PUT", "/files/a"),
            ("POST", "/files/b"),
            ("DELETE", "/files/a"),
            ("POST", "/directories/d"),
            ("PUT", "/metadata/a"),
        ] {
            let answer = http.ask(method, path, &[(name, value)], b"");
            assert_eq!(answer.status, 403, "{method} {path} {name}");
            assert_eq!(answer.json()["code"], "cross_origin");
        }
    }
    assert_eq!(http.get("/files/a").expect(200), b"a");
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "a\n");
}

#[test]
fn a_head_has_an_end_and_a_body_has_a_pace() {
    let cluster = Cluster::start(Options::single());
    let address = cluster.node("gateway").rpc;
    for (bytes, expected) in [(20_000, 200), (40_000, 431), (200_000, 431), (400_000, 431)] {
        let mut stream = connect(&address).unwrap();
        let head = format!(
            "GET /status HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "x".repeat(bytes)
        );
        let sent = stream.write_all(head.as_bytes());
        let answer = read_head(&mut BufReader::new(stream));
        let is_cut = bytes > 256 << 10 && (sent.is_err() || answer.is_err());
        assert!(
            is_cut || answer.is_ok_and(|(status, _)| status == expected),
            "{bytes}"
        );
    }
    // A byte every five seconds, as long as it takes.
    let mut stream = connect(&address).unwrap();
    stream
        .write_all(b"PUT /files/slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n")
        .unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = [0; 2000];
    let count = (0..20).find_map(|_| {
        let _ = stream.write_all(b"x");
        stream.read(&mut answer).ok()
    });
    let text = String::from_utf8_lossy(&answer[..count.expect("it waits for ever")]).into_owned();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("slow_body"), "{text}");
    cluster.http().get("/files/slow").expect(404);
}

#[test]
fn symbolic_links_are_made_read_and_listed_and_not_followed() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/file", b"content").expect(201);
    let body = br#"{"target": "../no/matter what"}"#;
    http.ask("POST", "/links/link", &[], body).expect(201);
    assert_eq!(http.get("/links/link").json()["target"], "../no/matter what");
    let metadata = http.get("/metadata/link").json();
    assert_eq!(
        (&metadata["kind"], &metadata["target"]),
        (&"symbolic_link".into(), &"../no/matter what".into())
    );
    let kinds = http.get("/directories/").json();
    let kinds: Vec<&str> = (kinds["entries"].as_array().unwrap().iter())
        .map(|entry| entry["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["file", "symbolic_link"]);
    for (method, path, status) in [
        ("POST", "/links/link", 409),
        ("POST", "/links/none/link", 404),
        ("GET", "/links/file", 400),
        ("GET", "/files/link", 409),
        ("PUT", "/files/link", 409),
        ("GET", "/files/link/below", 409),
        ("DELETE", "/directories/link", 409),
    ] {
        let answer = http.ask(method, path, &[], body);
        assert_eq!(
            answer.status,
            status,
            "{method} {path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    http.ask("PUT", "/links/file", &[], br#"{"target": "link"}"#)
        .expect(201);
    assert_eq!(http.get("/links/file").json()["target"], "link");
    http.ask("DELETE", "/files/link", &[], b"").expect(204);
    assert_eq!(http.get("/links/link").status, 404);
}

#[test]
fn requests_are_counted_on_the_admin_port() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/a", b"12345").expect(201);
    http.get("/files/a").expect(200);
    http.get("/files/none").expect(404);
    let text = drystone_system::Http::new(&cluster.node("gateway").admin)
        .get("/metrics")
        .expect(200);
    let text = String::from_utf8(text).unwrap();
    for line in [
        "drystone_gateway_requests_total{door=\"rest\",operation=\"write_file\",status=\"2xx\"} 1",
        "drystone_gateway_requests_total{door=\"rest\",operation=\"read_file\",status=\"2xx\"} 1",
        "drystone_gateway_requests_total{door=\"rest\",operation=\"read_file\",status=\"4xx\"} 1",
        "drystone_gateway_received_bytes_total{door=\"rest\"} 5",
        "drystone_gateway_requests_in_flight{door=\"rest\"} 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert_eq!(text.matches("# EOF").count(), 1);
}
