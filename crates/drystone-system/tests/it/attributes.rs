//! Permission bits and owners, changed by the command line.

use drystone_system::files::bytes;
use drystone_system::{Cluster, Options};
use std::fs;
use std::os::unix::fs::symlink;

fn attributes(cluster: &Cluster, path: &str) -> (String, String, String) {
    let found = cluster
        .cli(&["--json", "--user", "drystone", "stat", path])
        .json();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("mode"), text("owner"), text("group"))
}

fn mode(cluster: &Cluster, path: &str) -> String {
    attributes(cluster, path).0
}

#[test]
fn modes_and_owners_are_changed() {
    let cluster = Cluster::start(Options::single());
    let as_root = |words: &[&str]| cluster.cli(&[&["--user", "drystone"], words].concat());
    let as_ann = |words: &[&str]| cluster.cli(&[&["--user", "ann"], words].concat());
    as_root(&["mkdir", "-p", "/home/d/e"]).ok();
    as_root(&["chown", "-R", "ann:staff", "/home"]).ok();
    for path in ["/home", "/home/d", "/home/d/e"] {
        let (_, owner, group) = attributes(&cluster, path);
        assert_eq!((owner.as_str(), group.as_str()), ("ann", "staff"), "{path}");
    }
    for path in ["/home/f", "/home/d/f", "/home/d/e/f"] {
        cluster
            .cli_with(&["--user", "ann", "put", "-", path], b"bytes")
            .ok();
    }
    as_ann(&["chmod", "640", "/home/f", "/home/d/f"]).ok();
    as_ann(&["chmod", "u+x,go-rwx", "/home/f"]).ok();
    assert_eq!(mode(&cluster, "/home/f"), "0700");
    assert_eq!(mode(&cluster, "/home/d/f"), "0640");
    // Directories that close are changed after what is in them.
    as_ann(&["chmod", "-R", "a-rwx", "/home/d"]).ok();
    for path in ["/home/d", "/home/d/e", "/home/d/e/f"] {
        assert_eq!(mode(&cluster, path), "0000", "{path}");
    }
    // And those that open before.
    as_ann(&["chmod", "--recursive", "u=rwX,g=r", "/home/d"]).ok();
    assert_eq!(mode(&cluster, "/home/d/e"), "0740");
    assert_eq!(mode(&cluster, "/home/d/e/f"), "0640");
    as_ann(&["chmod", "777", "/none", "/home/f"]).refused(3, "/none");
    assert_eq!(mode(&cluster, "/home/f"), "0777", "the rest is done");
    as_ann(&["chmod", "u+s", "/home/f"]).refused(2, "is not a mode");
    as_ann(&["chown", "bob", "/home/f"]).refused(5, "superuser");
    as_root(&["chown", "bob", "/home/d/e/f"]).ok();
    as_ann(&["chmod", "-R", "700", "/home/d"]).refused(5, "/f");
    assert_eq!(mode(&cluster, "/home/d/f"), "0700", "the rest is done");
    as_root(&["chown", ":wheel", "/home/d/e/f"]).ok();
    let (_, owner, group) = attributes(&cluster, "/home/d/e/f");
    assert_eq!((owner.as_str(), group.as_str()), ("bob", "wheel"));
}

/// A link that was named failed, and one in a tree was left out.
#[test]
fn chmod_of_trees_leaves_links_out() {
    let cluster = Cluster::start(Options::single());
    let at = |name: &str| cluster.home().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/file"), "content").unwrap();
    symlink("file", at("tree/link")).unwrap();
    let as_root = |words: &[&str]| cluster.cli(&[&["--user", "drystone"], words].concat());
    as_root(&["put", "-r", "tree", "/tree"]).ok();
    as_root(&["chmod", "-R", "700", "/tree/link", "/tree"]).ok();
    assert_eq!(mode(&cluster, "/tree/file"), "0700");
    as_root(&["chown", "-R", "ann", "/tree/link"]).ok();
    assert_eq!(attributes(&cluster, "/tree/link").1, "ann");
    // Alone it is told that nothing was done.
    as_root(&["chmod", "600", "/tree/link"]).refused(2, "no permission bits");
}

/// To become a chunk an inline file is read by whoever appends to it, who need not be able to read it.
#[test]
fn who_may_only_write_appends_to_an_inline_file() {
    let cluster = Cluster::start(Options::single());
    let superuser = ["--user", "drystone"];
    cluster
        .cli_with(&[&superuser[..], &["put", "-", "/log"]].concat(), b"first")
        .ok();
    let layout = cluster.cli(&["--json", "stat", "--extents", "/log"]).json();
    assert_eq!(layout["inline"], true);
    cluster
        .cli(&[&superuser[..], &["chmod", "0202", "/log"]].concat())
        .ok();
    // Its owner may convert it anyway: who appends is somebody else.
    cluster
        .cli(&[&superuser[..], &["chown", "ann:staff", "/log"]].concat())
        .ok();
    let more = bytes(1, 300_000);
    cluster.cli_with(&["--user", "bob", "append", "/log"], &more).ok();
    for user in ["ann", "bob"] {
        cluster.cli(&["--user", user, "cat", "/log"]).refused(5, "/log");
    }
    let all = cluster.cli(&[&superuser[..], &["cat", "/log"]].concat()).ok();
    assert!(all == [&b"first"[..], &more].concat());
}
