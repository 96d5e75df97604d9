//! A real tree goes in and comes out, in good times and in bad ones.

use drystone_system::files::{Seed, Summer, files_below, real_tree, sum_of};
use drystone_system::http::encode;
use drystone_system::process::Signal;
use drystone_system::{Cluster, Options, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(300);

/// Reads every file through REST and compares its SHA-256.
fn compare(cluster: &Cluster, root: &Path, files: &[PathBuf], target: &str) {
    let mut http = cluster.http();
    for file in files {
        let mut summer = Summer::default();
        let path = format!(
            "/files{}",
            encode(&format!("{target}/{}", file.to_str().unwrap()))
        );
        let answer = http.stream("GET", &path, &[], 0, &mut &b""[..], &mut summer);
        let (status, _) = answer.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(status, 200, "{path}");
        assert_eq!(
            summer.sum(),
            sum_of(&root.join(file)),
            "{path} came back otherwise"
        );
    }
    println!("compared {} files", files.len());
}

fn count(cluster: &Cluster) -> u64 {
    cluster.http().get("/status").json()["files"].as_u64().unwrap()
}

#[test]
fn a_tree_goes_in_by_one_door_and_comes_out_by_the_other() {
    let cluster = Cluster::start(Options::processes());
    let root = real_tree(cluster.home());
    let files = files_below(&root);
    let source = root.to_str().unwrap();
    cluster.cli(&["-q", "put", "--recursive", source, "/tree"]).ok();
    assert_eq!(count(&cluster), files.len() as u64);
    compare(&cluster, &root, &files, "/tree");

    // And the other way: in by REST, out by the command line.
    let mut http = cluster.http();
    let mut seed = Seed(7);
    let chosen: Vec<&PathBuf> = (0..50)
        .map(|_| &files[seed.draw() as usize % files.len()])
        .collect();
    for file in &chosen {
        let local = fs::File::open(root.join(file)).unwrap();
        let length = local.metadata().unwrap().len();
        let path = format!("/files/rest/{}?parents=true", encode(file.to_str().unwrap()));
        let answer = http.try_ask("PUT", &path, &[], length, &mut &local).unwrap();
        assert!([200, 201].contains(&answer.status), "{path}: {answer:?}");
    }
    cluster.cli(&["-q", "get", "--recursive", "/rest", "rest"]).ok();
    for file in chosen {
        assert_eq!(
            sum_of(&root.join(file)),
            sum_of(&cluster.home().join("rest").join(file)),
            "{}",
            file.display()
        );
    }
}

#[test]
fn an_import_survives_the_death_of_a_chunk_server_and_of_the_leader() {
    let mut cluster = Cluster::start(Options::processes());
    let root = real_tree(cluster.home());
    let files = files_below(&root);
    let mut import = cluster.begin(&["-q", "put", "--recursive", root.to_str().unwrap(), "/tree"]);
    let total = files.len() as u64;

    wait_for("a quarter is in", PATIENCE, || {
        (count(&cluster) >= total / 4).then_some(())
    });
    let server = wait_for("bytes are on their way through a chunk server", PATIENCE, || {
        let servers = cluster.chunk_servers();
        servers
            .into_iter()
            .find(|node| cluster.metric(node, "drystone_chunk_in_flight_bytes") > 0.0)
    });
    cluster.signal(&server.name, Signal::KILL);
    let at = count(&cluster);
    assert!(
        import.runs() && at < total,
        "the import was over when the chunk server was killed"
    );
    println!("{} was killed after {at} of {total} files", server.name);

    wait_for("half is in", PATIENCE, || {
        (count(&cluster) >= total / 2).then_some(())
    });
    let leader = cluster.leader();
    cluster.signal(&leader, Signal::KILL);
    assert!(import.runs(), "the import was over when the leader was killed");
    println!("the leader {leader} was killed after {at} or more of {total} files");
    let answer = import.finish();
    print!("{}", answer.stderr);
    answer.ok();
    assert_eq!(count(&cluster), total);
    compare(&cluster, &root, &files, "/tree");

    cluster.revive();
    assert_eq!(count(&cluster), total);
    cluster.kill_all();
    cluster.up();
    assert_eq!(count(&cluster), total);
    compare(&cluster, &root, &files, "/tree");
}
