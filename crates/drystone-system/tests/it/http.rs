//! REST with requests that are wrong, cut off or absurd.

use drystone_system::http::{connect, encode, read_head};
use drystone_system::{Cluster, Options};
use std::io::{BufReader, Write};
use std::net::Shutdown;

fn raw(cluster: &Cluster, head: &str, body: &[u8]) -> Option<u16> {
    let address = cluster.node("gateway").rpc;
    let mut stream = connect(&address).unwrap();
    // A server that has heard enough may close the connection at any moment.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
    let _ = stream.shutdown(Shutdown::Write);
    read_head(&mut BufReader::new(stream))
        .ok()
        .map(|(status, _)| status)
}

#[test]
fn bodies_that_break_off_leave_nothing() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/old", b"old content").expect(201);
    let sizes = [
        (0usize, 10usize),
        (5, 10),
        (70_000, 90_000),
        (3 << 20, 5 << 20),
        (65 << 20, 70 << 20),
    ];
    for (sent, told) in sizes {
        for name in ["new", "old"] {
            let head =
                format!("PUT /files/{name} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {told}\r\n\r\n");
            let status = raw(&cluster, &head, &vec![b'x'; sent]);
            assert!(
                status.is_none_or(|status| status >= 400),
                "{sent} of {told} bytes: {status:?}"
            );
        }
    }
    let chunked = "PUT /files/new HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    for part in [
        "5\r\nabc",
        "5\r\nabcde\r\n",
        "zz\r\nabc\r\n0\r\n\r\n",
        "-5\r\nabcde\r\n0\r\n\r\n",
    ] {
        let status = raw(&cluster, chunked, part.as_bytes());
        assert!(status.is_none_or(|status| status >= 400), "{part:?}: {status:?}");
    }
    http.get("/files/new").expect(404);
    assert_eq!(http.get("/files/old").expect(200), b"old content");
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "old\n");
    // A body sent in chunks to its end is fine.
    let mut stream = connect(&cluster.node("gateway").rpc).unwrap();
    stream
        .write_all(format!("{chunked}5\r\nabcde\r\n0\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(read_head(&mut BufReader::new(stream)).unwrap().0, 201);
    assert_eq!(http.get("/files/new").expect(200), b"abcde");
}

#[test]
fn lengths_and_ranges_that_are_wrong() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.put("/files/ten", b"0123456789").expect(201);
    for (range, status, body) in [
        ("bytes=2-4", 206, "234"),
        ("bytes=-3", 206, "789"),
        ("bytes=8-99999999999999999999999999", 206, "89"),
        ("bytes=5-2", 200, "0123456789"),
        ("bytes=x-y", 200, "0123456789"),
        ("lines=1-2", 200, "0123456789"),
        ("bytes=1-2,4-5", 200, "0123456789"),
    ] {
        let answer = http.ask("GET", "/files/ten", &[("range", range)], b"");
        assert_eq!(answer.expect(status), body.as_bytes(), "{range}");
    }
    for range in [
        "bytes=10-",
        "bytes=18446744073709551615-",
        "bytes=-0",
        "bytes=99999999999999999999999-",
    ] {
        let answer = http.ask("GET", "/files/ten", &[("range", range)], b"");
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (416, Some("bytes */10")),
            "{range}"
        );
    }
    for part in [
        "bytes 5-2/*",
        "bytes 0-5/*",
        "bytes 0-1/1",
        "bytes x-y/*",
        "0-2/*",
        "bytes 0-18446744073709551615/*",
    ] {
        let answer = http.ask("PUT", "/files/ten", &[("content-range", part)], b"abc");
        assert_eq!(answer.status, 400, "{part}");
    }
    assert_eq!(http.get("/files/ten").expect(200), b"0123456789");
    http.ask("PUT", "/files/ten", &[("content-range", "bytes 3-5/*")], b"abc")
        .expect(200);
    assert_eq!(http.get("/files/ten").expect(200), b"012abc6789");
    let answer = http.ask(
        "PUT",
        "/files/ten",
        &[("content-range", "bytes 9223372036854775807-9223372036854775807/*")],
        b"x",
    );
    assert!(
        (400..500).contains(&answer.status),
        "a range beyond every file: {}",
        answer.status
    );
    let two = "PUT /files/two HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n";
    assert!(raw(&cluster, two, b"abcd").is_none_or(|status| status == 400));
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "ten\n");
}

#[test]
fn names_as_long_and_strange_as_they_may_be() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    let long = "n".repeat(255);
    let utf8 = "ü".repeat(127);
    let names = [
        &long,
        &utf8,
        "a b",
        "%2e",
        "?#[]@!$&'()*+,;=",
        "\n\t\u{1b}[31m",
        "-rf",
        "...",
        "\u{feff}",
        "a\\b",
        "日本語 🎉",
    ];
    for name in names {
        let path = format!("/files/{}", encode(name));
        http.put(&path, name.as_bytes()).expect(201);
        assert_eq!(http.get(&path).expect(200), name.as_bytes());
        assert_eq!(cluster.cli(&["cat", &format!("/{name}")]).ok(), name.as_bytes());
    }
    let listed = http.get("/directories/").json();
    let mut listed: Vec<&str> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].as_str().unwrap())
        .collect();
    let mut names = names.to_vec();
    names.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, names);
    let text = cluster.cli(&["ls", "/"]).text();
    assert!(!text.contains('\u{1b}'), "a name drives the terminal: {text:?}");
    for (path, status) in [
        (format!("/files/{}", "n".repeat(256)), 400),
        ("/files/a%00b".to_owned(), 400),
        ("/files/%ff%fe".to_owned(), 400),
        ("/files/a//b".to_owned(), 400),
        ("/files/%2e%2e/b".to_owned(), 400),
        ("/files/a/%2E/b".to_owned(), 400),
        ("/files/none/b".to_owned(), 404),
        ("/files/a%20b/b".to_owned(), 409),
        ("/nothing/a".to_owned(), 404),
        ("/files/a?colour=blue".to_owned(), 400),
    ] {
        let answer = http.put(&path, b"x");
        assert_eq!(
            answer.status,
            status,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        let is_problem = answer
            .header("content-type")
            .is_some_and(|kind| kind == "application/problem+json");
        assert!(
            is_problem && answer.json()["detail"].is_string(),
            "{path}: {answer:?}"
        );
    }
}

#[test]
fn paths_up_to_their_limit_and_beyond() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    // 16 names of 255 bytes and their slashes are 4,096 bytes.
    let whole = vec!["d".repeat(255); 16].join("/");
    let path = format!("/{whole}");
    assert_eq!(path.len(), 4096);
    http.put(&format!("/files{path}?parents=true"), b"deep")
        .expect(201);
    assert_eq!(http.get(&format!("/files{path}")).expect(200), b"deep");
    assert_eq!(cluster.cli(&["cat", &path]).ok(), b"deep");
    for path in [
        format!("{path}/x"),
        format!("{path}{path}"),
        format!("/{}", "a/".repeat(3000)),
    ] {
        assert_eq!(
            http.put(&format!("/files{path}?parents=true"), b"deeper").status,
            400
        );
        cluster.cli(&["cat", &path]).refused(2, "4096");
    }
    // More than a request's head may have: an answer, or the end of the connection.
    let head = format!(
        "PUT /files/{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
        "x".repeat(60_000)
    );
    let status = raw(&cluster, &head, b"");
    assert!(
        status.is_none_or(|status| (400..500).contains(&status)),
        "{status:?}"
    );
    assert_eq!(cluster.cli(&["cat", &path]).ok(), b"deep");
}

#[test]
fn files_and_directories_are_not_confused() {
    let cluster = Cluster::start(Options::single());
    let mut http = cluster.http();
    http.ask("POST", "/directories/d/e?parents=true", &[], b"")
        .expect(201);
    http.put("/files/f", b"x").expect(201);
    for (method, path, status) in [
        ("PUT", "/files/d", 409),
        ("PUT", "/files/", 409),
        ("POST", "/files/d", 409),
        ("POST", "/files/f", 409),
        ("GET", "/files/d", 409),
        ("DELETE", "/files/d", 409),
        ("DELETE", "/directories/f", 409),
        ("DELETE", "/directories/d", 409),
        ("DELETE", "/directories/", 403),
        ("POST", "/directories/f", 409),
        ("GET", "/directories/f", 409),
        ("GET", "/directories/none", 404),
        ("PUT", "/files/f/x", 409),
        ("PATCH", "/files/f", 405),
        ("PUT", "/status", 405),
    ] {
        let answer = http.ask(method, path, &[], b"y");
        assert_eq!(
            answer.status,
            status,
            "{method} {path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
    }
    assert_eq!(http.get("/files/f").expect(200), b"x");
    // Refused before all of it was sent: the answer, or the end of the connection.
    let many = vec![0; 5 << 20];
    let answer = http.try_ask("PUT", "/files/d", &[], many.len() as u64, &mut &many[..]);
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 409));
    assert_eq!(cluster.cli(&["ls", "-r", "/"]).text(), "/d/\n/d/e/\n/f\n");
}
