//! What the crates' tests do with the seed corpora: every file is replayed on a stable toolchain, and the seeds are
//! made anew with `DRYSTONE_WRITE_CORPUS=1`.

use std::path::{Path, PathBuf};

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

/// Calls `body` with every file of the target's corpus, of which there are at least `least`.
pub fn replay(target: &str, least: usize, body: fn(&[u8])) {
    let directory = directory(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&directory).expect("the corpus is in the repository") {
        let path = entry.expect("a readable directory").path();
        // Shown if the test fails.
        println!("{}", path.display());
        body(&std::fs::read(&path).expect("a readable seed"));
        seeds += 1;
    }
    assert!(seeds >= least, "only {seeds} seeds in {}", directory.display());
}

/// Checks that the corpus holds these seeds, or writes them if the environment says so.
#[allow(dead_code, reason = "not every corpus is made by a test")]
pub fn seeds(target: &str, seeds: &[(&str, Vec<u8>)]) {
    let directory = directory(target);
    for (name, bytes) in seeds {
        let path = directory.join(name);
        if std::env::var_os("DRYSTONE_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&directory).expect("a writable corpus");
            std::fs::write(&path, bytes).expect("a writable corpus");
        }
        let found = std::fs::read(&path).unwrap_or_default();
        assert!(
            found == *bytes,
            "{target}/{name} is another one: DRYSTONE_WRITE_CORPUS=1 writes the seeds anew"
        );
    }
}
