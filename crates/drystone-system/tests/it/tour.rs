//! What the README shows works as it stands there.

use drystone_system::cluster::clean;
use drystone_system::{Cluster, Options, binary};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The lines of the tour.
fn tour(readme: &str) -> String {
    let (_, chapter) = readme
        .split_once("## A tour in 60 seconds")
        .expect("the README has a tour");
    let block = chapter
        .split("```")
        .nth(1)
        .expect("the tour has a block of commands");
    block.trim().to_owned()
}

#[test]
fn the_tour_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let script = tour(&readme);
    assert!(script.lines().count() > 10, "{script}");
    let cluster = Cluster::start(Options::single());
    let rest = cluster.description()["rest"].as_str().unwrap().to_owned();
    let programs = cluster.home().join("bin");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(binary(), programs.join("drystone")).unwrap();
    // Line by line, so that a failure names its line.
    for line in script.lines().filter(|line| !line.trim().is_empty()) {
        let line = line
            .replace("http://127.0.0.1:9700", &rest)
            .replace("curl ", "curl -sSf ");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let answer = clean(Command::new("bash"))
            .args(["-euo", "pipefail", "-c", &line])
            .env("PATH", path)
            .env("DRYSTONE_CLUSTER", &rest)
            .current_dir(&root)
            .output()
            .unwrap();
        let (out, says) = (
            String::from_utf8_lossy(&answer.stdout),
            String::from_utf8_lossy(&answer.stderr),
        );
        assert!(
            answer.status.success(),
            "{line}: {}\n{out}\n{says}",
            answer.status
        );
        assert!(!says.contains("panicked"), "{line}: {says}");
    }
    assert_eq!(cluster.cli(&["ls", "/"]).text(), "from-curl\n");
}
