//! The command line with odd input: what it refuses, what it goes on after, and what it leaves behind.

use drystone_system::files::bytes;
use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, Running, wait_for};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn make_pipe(path: &std::path::Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn one_failure_does_not_keep_the_rest_from_being_done() {
    let cluster = Cluster::start(Options::single());
    for name in ["/a", "/b", "/c"] {
        cluster.cli_with(&["put", "-", name], name.as_bytes()).ok();
    }
    let answer = cluster.cli(&["cat", "/a", "/none", "/b"]).refused(3, "/none");
    assert_eq!(answer.stdout, b"/a/b");
    cluster.cli(&["rm", "/a", "/none", "/b"]).refused(3, "/none");
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "c\n");
    cluster.cli(&["mkdir", "/x", "/c", "/y"]).refused(4, "/c");
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "c\nx/\ny/\n");
    fs::write(cluster.home().join("one"), "1").unwrap();
    fs::write(cluster.home().join("two"), "2").unwrap();
    cluster
        .cli(&["put", "one", "missing", "two", "/x/"])
        .refused(3, "missing");
    assert_eq!(cluster.cli(&["ls", "/x"]).text(), "one\ntwo\n");
}

#[test]
fn two_sources_never_become_one_file() {
    let cluster = Cluster::start(Options::single());
    for (directory, content) in [("s1", "first"), ("s2", "second")] {
        fs::create_dir(cluster.home().join(directory)).unwrap();
        fs::write(cluster.home().join(directory).join("x"), content).unwrap();
    }
    cluster.cli(&["mkdir", "/same"]).ok();
    cluster
        .cli(&["put", "s1/x", "s2/x", "/same/"])
        .refused(2, "nothing was copied");
    assert_eq!(cluster.cli(&["ls", "/same"]).text(), "");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let cluster = Cluster::start(Options::single());
    cluster
        .cli_with(&["put", "-", "/file"], &bytes(5, 3_000_000))
        .ok();
    for words in [
        &["ls"][..],
        &["ls", "-l", "/"],
        &["--json", "ls"],
        &["stat", "-e", "/file"],
        &["cat", "/file"],
        &["get", "/file", "-"],
        &["du"],
        &["find"],
        &["admin", "status"],
        &["--json", "admin", "status"],
        &["admin", "servers"],
        &["admin", "raft", "status"],
        &["admin", "chunk", "1"],
        &["completions", "bash"],
        &["--help"],
        &["ls", "/none"],
    ] {
        let mut command = cluster.command(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let answer = child.wait_with_output().unwrap();
        let says = String::from_utf8_lossy(&answer.stderr).into_owned();
        assert!(!says.contains("panicked"), "{words:?}: {says}");
        // Of a few lines, all may have been written before the pipe was closed.
        let code = answer.status.code();
        assert!(
            [Some(0), Some(141), Some(3)].contains(&code),
            "{words:?}: {code:?} {says}"
        );
        // And one that takes no errors either.
        let mut command = cluster.command(words);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        let code = child.wait().unwrap().code();
        assert!(
            [Some(0), Some(141), Some(3)].contains(&code),
            "{words:?}: {code:?}"
        );
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = cluster.command(&["cat", "/file"]);
    let answer = command
        .stdin(Stdio::null())
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(answer.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&answer.stderr).contains("cannot write to stdout"));
}

#[test]
fn get_writes_into_what_is_named_and_replaces_only_files() {
    let cluster = Cluster::start(Options::single());
    let content = bytes(6, 2_000_000);
    cluster.cli_with(&["put", "-", "/file"], &content).ok();
    let at = |name: &str| cluster.home().join(name);
    // A device stays one: root may replace it.
    cluster.cli(&["get", "/file", "/dev/null"]).ok();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    // A pipe.
    make_pipe(&at("pipe"));
    let get = cluster.begin(&["get", "/file", "pipe"]);
    assert!(fs::read(at("pipe")).unwrap() == content);
    get.finish().ok();
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    // A link, and one to nothing yet.
    fs::write(at("old"), "old").unwrap();
    symlink("old", at("link")).unwrap();
    symlink("new", at("dangling")).unwrap();
    for (link, file) in [("link", "old"), ("dangling", "new")] {
        cluster.cli(&["get", "/file", link]).ok();
        assert!(at(link).is_symlink());
        assert!(fs::read(at(file)).unwrap() == content);
    }
    // What a shell has opened.
    let out = File::create(at("out")).unwrap();
    let mut command = cluster.command(&["get", "/file", "/dev/stdout"]);
    assert!(
        command
            .stdin(Stdio::null())
            .stdout(out)
            .status()
            .unwrap()
            .success()
    );
    assert!(fs::read(at("out")).unwrap() == content);
    cluster
        .cli(&["get", "/file", "none/file"])
        .refused(3, "none/file");
    cluster
        .cli(&["get", "/file", "/dev/full"])
        .refused(1, "/dev/full");
    assert_eq!(cluster.cli(&["get", "/file", "-"]).ok(), content);
}

#[test]
fn a_tree_keeps_its_modes_and_with_preserve_its_times() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir_all(at("tree/closed")).unwrap();
    fs::create_dir_all(at("tree/open/empty")).unwrap();
    for (name, mode) in [
        ("tree/closed/secret", 0o400),
        ("tree/open/tool", 0o755),
        ("tree/plain", 0o644),
    ] {
        fs::write(at(name), name).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(at("tree/closed"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::set_permissions(at("tree/open/empty"), fs::Permissions::from_mode(0o711)).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_micros(1_234_567_890_123_456);
    let times = fs::FileTimes::new().set_modified(old).set_accessed(old);
    for name in ["tree/plain", "tree/open"] {
        File::open(at(name)).unwrap().set_times(times).unwrap();
    }
    let names = [
        "",
        "closed",
        "closed/secret",
        "open",
        "open/empty",
        "open/tool",
        "plain",
    ];
    let mode = |root: &str, name: &str| fs::metadata(at(root).join(name)).unwrap().mode() & 0o7777;
    cluster.cli(&["put", "-r", "tree", "/plain"]).ok();
    cluster.cli(&["get", "-r", "/plain", "plain"]).ok();
    cluster.cli(&["put", "-r", "--preserve", "tree", "/exact"]).ok();
    cluster.cli(&["get", "-rp", "/exact", "exact"]).ok();
    for name in names {
        assert_eq!(mode("plain", name), mode("tree", name), "{name}");
        assert_eq!(mode("exact", name), mode("tree", name), "{name}");
        let time = |root: &str| fs::metadata(at(root).join(name)).unwrap().modified().unwrap();
        let apart = time("exact")
            .duration_since(time("tree"))
            .unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_micros(2), "{name}: {apart:?}");
    }
    assert!(fs::metadata(at("plain/plain")).unwrap().modified().unwrap() > old);
    for root in ["tree", "plain", "exact"] {
        fs::set_permissions(at(root).join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// Mode 0 was taken for none, and gave 0644.
#[test]
fn what_nobody_may_read_stays_so() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir_all(at("tree/shut")).unwrap();
    fs::write(at("tree/large"), vec![7; 3 << 20]).unwrap();
    fs::write(at("tree/shut/small"), "secret").unwrap();
    let modes = |mode| {
        for name in ["tree/large", "tree/shut/small", "tree/shut"] {
            let wanted = if mode == 0 || !at(name).is_dir() {
                mode
            } else {
                0o755
            };
            fs::set_permissions(at(name), fs::Permissions::from_mode(wanted)).unwrap();
        }
    };
    modes(0);
    // Only the superuser reads them at all.
    if File::open(at("tree/large")).is_err() {
        modes(0o600);
        return;
    }
    cluster.cli(&["put", "tree/large", "/one"]).ok();
    cluster.cli(&["put", "-r", "tree", "/tree"]).ok();
    let superuser = |arguments: &[&str]| cluster.cli(&[&["--user", "drystone"], arguments].concat());
    superuser(&["cp", "/one", "/two"]).ok();
    superuser(&["cp", "-r", "/tree", "/copy"]).ok();
    let shut = ["large", "shut", "shut/small"];
    let trees = ["/tree", "/copy"].map(|tree| shut.map(|name| format!("{tree}/{name}")));
    for path in trees.iter().flatten().map(String::as_str).chain(["/one", "/two"]) {
        let found = superuser(&["--json", "stat", path]).json();
        assert_eq!(found["mode"], "0000", "{path}");
    }
    modes(0o600);
}

#[test]
fn a_tree_with_a_directory_that_is_read_only_is_copied_whole() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir_all(at("open")).unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir_all(at("tree/closed/inner")).unwrap();
    fs::write(at("tree/closed/inner/file"), "x").unwrap();
    let closed = ["tree/closed/inner", "tree/closed", "tree"];
    for name in closed {
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o555)).unwrap();
    }
    cluster.cli(&["put", "-r", "open", "/open"]).ok();
    // Somebody whom the modes bind.
    let ann = |arguments: &[&str]| cluster.cli(&[&["--user", "ann"], arguments].concat());
    ann(&["put", "-r", "tree", "/open/tree"]).ok();
    ann(&["cp", "-r", "/open/tree", "/open/copy"]).ok();
    assert_eq!(ann(&["cat", "/open/copy/closed/inner/file"]).ok(), b"x");
    for path in ["/open/copy", "/open/copy/closed", "/open/copy/closed/inner"] {
        ann(&["put", "tree/closed/inner/file", &format!("{path}/new")]).refused(5, "denied");
    }
    for name in closed {
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_of_the_tree_goes_on() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir_all(at("tree/sub")).unwrap();
    for name in ["tree/first", "tree/sub/line\nbreak", "tree/zlast"] {
        fs::write(at(name), name).unwrap();
    }
    fs::write(at("tree").join(OsStr::from_bytes(b"not-\xff-utf8")), "x").unwrap();
    make_pipe(&at("tree/pipe"));
    let answer = cluster.cli(&["put", "-r", "tree", "/tree"]).refused(1, "UTF-8");
    assert!(answer.stderr.contains("tree/pipe"), "{}", answer.stderr);
    assert_eq!(cluster.cli(&["--json", "du", "/tree"]).json()["files"], 3);
    assert_eq!(
        cluster.cli(&["ls", "/tree/sub"]).text(),
        "line\\nbreak\n",
        "a line break in a name is no line break"
    );

    // Out again, with something in the way: a directory, and a link that leads out.
    fs::create_dir_all(at("back/first")).unwrap();
    fs::write(at("outside"), "outside").unwrap();
    symlink(at("outside"), at("back/zlast")).unwrap();
    cluster.cli(&["mv", "/tree", "/back"]).ok();
    let answer = cluster.cli(&["get", "-r", "/back", "."]).refused(4, "back/first");
    assert!(answer.stderr.contains("back/zlast"), "{}", answer.stderr);
    assert_eq!(fs::read(at("outside")).unwrap(), b"outside");
    assert_eq!(
        fs::read(at("back/sub/line\nbreak")).unwrap(),
        b"tree/sub/line\nbreak"
    );
    let left: Vec<_> = fs::read_dir(at("back"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".part"))
        .collect();
    assert!(left.is_empty(), "partial files: {left:?}");
}

/// What was planned was summed up, whatever became of it.
#[test]
fn what_failed_is_counted_apart_from_what_was_copied() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir(at("tree")).unwrap();
    for (name, size) in [("a", 10), ("b", 100), ("c", 1000)] {
        fs::write(at("tree").join(name), vec![b'x'; size]).unwrap();
    }
    symlink("a", at("tree/link")).unwrap();
    // Directories are in the way of `b`, here and there.
    cluster.cli(&["mkdir", "--parents", "/tree/b"]).ok();
    let answer = cluster.cli(&["put", "-r", "tree", "/"]).refused(4, "/tree/b");
    assert_eq!(
        String::from_utf8_lossy(&answer.stdout),
        "2 files, 1010 bytes, 1 failed\n"
    );
    cluster.cli(&["rm", "-r", "/tree/b"]).ok();
    assert_eq!(
        cluster.cli(&["put", "-r", "tree", "/"]).text(),
        "3 files, 1110 bytes\n"
    );
    fs::create_dir_all(at("back/b")).unwrap();
    cluster.cli(&["mv", "/tree", "/back"]).ok();
    let answer = cluster
        .cli(&["--json", "get", "-r", "/back", "."])
        .refused(4, "back/b");
    let told: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let expected = serde_json::json!({ "files": 2, "links": 1, "bytes": 1010, "failed": 1 });
    assert_eq!(told, expected);
}

#[test]
fn what_may_not_be_read_is_named_by_its_path_and_the_rest_goes_on() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir_all(at("tree/in/shut")).unwrap();
    for name in ["tree/in/shut/x", "tree/in/secret", "tree/last"] {
        fs::write(at(name), "1").unwrap();
    }
    fs::set_permissions(at("tree/in/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(at("tree/in/shut"), fs::Permissions::from_mode(0o700)).unwrap();
    cluster.cli(&["put", "-r", "tree", "/tree"]).ok();
    let ann = |arguments: &[&str]| cluster.cli(&[&["--user", "ann"], arguments].concat());
    let shut = "list: denied: /tree/in/shut: ann may not do this";
    let found = ann(&["find", "/tree"]).refused(5, shut);
    assert_eq!(
        String::from_utf8_lossy(&found.stdout),
        "/tree/in\n/tree/in/secret\n/tree/in/shut\n/tree/last\n"
    );
    let used = ann(&["du", "/tree"]).refused(5, shut);
    assert!(used.stdout.starts_with(b"2 bytes in 2 files"));
    let out = ann(&["get", "-r", "/tree", "back"]).refused(5, shut);
    assert!(out.stderr.contains("/tree/in/secret: "), "{}", out.stderr);
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "1 files, 1 bytes, 2 failed\n"
    );
    assert_eq!(fs::read(at("back/last")).unwrap(), b"1");
    ann(&["find", "/tree/in/shut"]).refused(5, shut);
}

#[test]
fn a_search_may_begin_at_a_file_and_a_link_takes_no_room() {
    let cluster = Cluster::start(Options::single());
    fs::write(cluster.home().join("file"), "12345").unwrap();
    fs::create_dir(cluster.home().join("tree")).unwrap();
    symlink("../file", cluster.home().join("tree/link")).unwrap();
    cluster.cli(&["put", "file", "/file"]).ok();
    cluster.cli(&["put", "-r", "tree", "/tree"]).ok();
    let find = |arguments: &[&str]| cluster.cli(&[&["find"], arguments].concat()).text();
    assert_eq!(find(&["/file"]), "/file\n");
    assert_eq!(
        find(&["/file", "--name", "f*", "--kind", "f", "--min-size", "5"]),
        "/file\n"
    );
    assert_eq!(find(&["/file", "--min-size", "6"]), "");
    assert_eq!(find(&["/tree/link", "--kind", "l"]), "/tree/link\n");
    cluster.cli(&["find", "/none"]).refused(3, "/none");
    let used = |path: &str| {
        let used = cluster.cli(&["--json", "du", path]).json();
        ["files", "links", "bytes"].map(|key| used[key].as_u64().unwrap())
    };
    assert_eq!(used("/file"), [1, 0, 5]);
    assert_eq!(used("/tree/link"), [0, 1, 0]);
}

#[test]
fn sparse_files_come_out_sparse() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    let file = File::create(at("sparse")).unwrap();
    file.set_len(48 << 20).unwrap();
    let data = bytes(9, 100_000);
    file.write_all_at(&data, 20_000_000).unwrap();
    cluster.cli(&["put", "sparse", "/sparse"]).ok();
    cluster.cli(&["get", "/sparse", "back"]).ok();
    let metadata = fs::metadata(at("back")).unwrap();
    assert_eq!(metadata.len(), 48 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    assert!(fs::read(at("back")).unwrap() == fs::read(at("sparse")).unwrap());
    // Nor does it cost the cluster more, nor a copy of it, and a range that meets holes is right.
    cluster.cli(&["cp", "/sparse", "/copy"]).ok();
    for path in ["/sparse", "/copy"] {
        let layout = cluster.cli(&["--json", "stat", "--extents", path]).json();
        let extents = layout["extents"].as_array().unwrap();
        let stored = extents.iter().filter(|extent| extent["chunk"] != 0);
        let stored: u64 = stored.map(|extent| extent["length"].as_u64().unwrap()).sum();
        assert!(stored <= 4 * (64 << 10), "{path}: {layout}");
        let range = [("range", "bytes=19999990-20000009")];
        let answer = cluster.http().ask("GET", &format!("/files{path}"), &range, b"");
        assert_eq!(answer.status, 206);
        assert_eq!(answer.body, [&[0; 10], &data[..10]].concat());
    }
}

/// What it had just made was met again, and there was no end of it.
#[test]
fn a_copy_whose_target_is_moved_into_its_source_ends() {
    let cluster = Cluster::start(Options::single());
    let tree = cluster.home().join("tree/a");
    fs::create_dir_all(&tree).unwrap();
    for at in 0..40 {
        fs::write(tree.join(format!("f{at}")), bytes(at, 4 << 20)).unwrap();
    }
    cluster.cli(&["put", "-r", "tree", "/source"]).ok();
    let mut copy = cluster.begin(&["-q", "cp", "-r", "/source", "/target"]);
    wait_for("the target is made", PATIENCE, || {
        let is_made = cluster.cli(&["stat", "/target"]).code == Some(0);
        (is_made || !copy.runs()).then_some(())
    });
    cluster.cli(&["mv", "/target", "/source/z"]).ok();
    let answer = copy.finish();
    // It may have been over before.
    if answer.code != Some(0) {
        answer.refused(1, "was moved below /source meanwhile");
    }
    cluster.cli(&["stat", "/source/z/z"]).refused(3, "not_found");
    assert_eq!(cluster.cli(&["--json", "du", "/source/z"]).json()["files"], 40);
}

#[test]
fn a_get_that_is_ended_leaves_nothing_behind() {
    let cluster = Cluster::start(Options::single());
    cluster
        .cli_with(&["put", "-", "/large"], &bytes(8, 300 << 20))
        .ok();
    fs::create_dir(cluster.home().join("to")).unwrap();
    let to = cluster.home().join("to");
    let mut get = cluster.begin(&["-q", "get", "/large", "to/large"]);
    wait_for("the file is begun", PATIENCE, || {
        let begun = fs::read_dir(&to).unwrap().count() > 0;
        (begun || !get.runs()).then_some(())
    });
    assert!(get.runs(), "the file was complete before it could be interrupted");
    drystone_system::process::signal(get.pid(), Signal::INT);
    assert_eq!(get.finish().code, Some(130));
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn addresses_are_taken_as_people_type_them() {
    let cluster = Cluster::start(Options::single());
    let port = cluster.listen().rsplit_once(':').unwrap().1.to_owned();
    for address in [
        cluster.listen(),
        format!("localhost:{port}"),
        format!("http://localhost:{port}/"),
    ] {
        cluster.cli(&["--cluster", &address, "ls"]).ok();
    }
    cluster
        .cli(&["--cluster", "ftp://x", "ls"])
        .refused(2, "http://127.0.0.1:9700");
    let help = cluster.cli(&["--help"]).text();
    assert!(help.starts_with("Drystone stores files"), "{help}");
    assert!(!help.contains("mount") && !help.contains("tail"), "{help}");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_one_that_was_chosen() {
    let cluster = Cluster::prepare(Options::single());
    let base: u16 = cluster.listen().rsplit_once(':').unwrap().1.parse().unwrap();
    let held = std::net::TcpListener::bind(("127.0.0.1", base + 20)).unwrap();
    let answer = Running::start(cluster.up_command()).finish();
    let answer = answer.refused(1, &format!("127.0.0.1:{} (chunk-1", base + 20));
    assert!(answer.stderr.contains(&cluster.listen()), "{}", answer.stderr);
    drop(held);
    let mut cluster = cluster;
    cluster.up();
}

#[test]
fn paths_as_long_as_they_can_be() {
    let cluster = Cluster::start(Options::single());
    let deep: String = (0..16).map(|_| format!("/{}", "n".repeat(240))).collect();
    cluster.cli(&["mkdir", "-p", &deep]).ok();
    let file = format!("{deep}/{}", "f".repeat(200));
    assert!(file.len() > 4000);
    cluster.cli_with(&["put", "-", &file], b"deep").ok();
    assert_eq!(cluster.cli(&["cat", &file]).ok(), b"deep");
    cluster
        .cli(&[
            "put",
            "-r",
            "/etc/hostname",
            &format!("{deep}/{}", "x".repeat(300)),
        ])
        .refused(2, "");
    cluster.cli(&["get", "-r", "/", "all"]).ok();
    assert_eq!(cluster.cli(&["--json", "du", "/"]).json()["files"], 1);
    cluster.cli(&["rm", "-r", &format!("/{}", "n".repeat(240))]).ok();
}

#[test]
fn no_depth_ends_a_walk() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    // Trees of 3,000 bytes of path, moved below each other.
    let deep = |root: &str| -> String {
        let names: String = (0..14).map(|_| format!("/{}", "n".repeat(210))).collect();
        format!("/{root}{names}")
    };
    for root in ["a", "b", "c"] {
        cluster.cli(&["mkdir", "-p", &deep(root)]).ok();
        cluster
            .cli_with(
                &["put", "-", &format!("{}/file-{root}", deep(root))],
                root.as_bytes(),
            )
            .ok();
    }
    cluster.cli(&["mv", "/b", &format!("{}/b", deep("c"))]).ok();
    cluster.cli(&["mv", "/c", &format!("{}/c", deep("a"))]).ok();
    assert_eq!(cluster.cli(&["--json", "du", "/"]).json()["files"], 3);
    let found = cluster.cli(&["find", "/", "--name", "file-?"]).text();
    assert_eq!(found.lines().count(), 3, "{found}");
    assert!(found.lines().any(|line| line.len() > 8000));
    assert_eq!(cluster.cli(&["ls", "-r", "/"]).text().lines().count(), 3 * 15 + 3);
    cluster.cli(&["cp", "-r", "/a", "/copy"]).ok();
    assert_eq!(cluster.cli(&["--json", "du", "/copy"]).json()["files"], 3);
    cluster.cli(&["get", "-r", "/copy", "copy"]).ok();
    // Longer than a path can be: looked for step by step.
    let found = Command::new("find")
        .arg(at("copy"))
        .args(["-name", "file-*"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap().lines().count(), 3);
    cluster.cli(&["rm", "-r", "/a", "/copy"]).ok();
    Command::new("rm").arg("-rf").arg(at("copy")).status().unwrap();
}

#[test]
fn symbolic_links_go_in_and_come_out_as_links() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir_all(at("tree/sub")).unwrap();
    fs::write(at("tree/file"), "content").unwrap();
    let links = [
        ("tree/file-link", "file"),
        ("tree/sub/up", ".."),
        ("tree/nowhere", "/none/at all"),
        ("tree/dir", "sub"),
    ];
    for (link, to) in links {
        symlink(to, at(link)).unwrap();
    }
    cluster.cli(&["put", "-r", "tree", "/tree"]).ok();
    let du = cluster.cli(&["--json", "du", "/tree"]).json();
    assert_eq!((&du["files"], &du["links"]), (&1.into(), &4.into()));
    let listed = cluster.cli(&["ls", "-l", "/tree"]).text();
    assert!(listed.contains("nowhere -> /none/at all"), "{listed}");
    assert_eq!(
        cluster.cli(&["find", "/", "--kind", "l"]).text().lines().count(),
        4
    );
    cluster.cli(&["cp", "-r", "/tree", "/copy"]).ok();
    // A second time over what is there: links are replaced, not followed.
    for _ in 0..2 {
        cluster.cli(&["get", "-r", "/copy", "."]).ok();
        for (link, to) in links {
            let back = at(&link.replacen("tree", "copy", 1));
            assert_eq!(fs::read_link(&back).unwrap(), std::path::Path::new(to), "{link}");
        }
    }
    assert_eq!(fs::read(at("copy/file")).unwrap(), b"content");
    // A link that is named is followed here and not in the cluster.
    cluster.cli(&["put", "tree/file-link", "/named"]).ok();
    assert_eq!(cluster.cli(&["cat", "/named"]).ok(), b"content");
    cluster
        .cli(&["cat", "/tree/file-link"])
        .refused(4, "/tree/file-link");
    cluster.cli(&["get", "/tree/nowhere", "link"]).ok();
    assert!(at("link").is_symlink());
}
