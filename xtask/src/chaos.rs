//! `cargo xtask chaos`: builds what is needed and runs drystone-chaos on the release binary.

use crate::steps::install_missing;
use crate::target;

/// Debian packages, and the program of each that tells whether it is there. What cannot be installed is not there
/// for drystone-chaos either, which skips by name what needs it.
const PACKAGES: &[(&str, &str)] = &[
    ("iproute2", "ip"),
    ("nftables", "nft"),
    ("e2fsprogs", "mkfs.ext4"),
    ("xfsprogs", "xfs_io"),
    ("strace", "strace"),
    ("faketime", "faketime"),
];

/// Passes its arguments on.
pub fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, program)| !is_there(program))
        .map(|(package, _)| *package)
        .collect();
    for line in install_missing(&missing)? {
        println!("{line}");
    }
    crate::run("cargo", &["build", "--release", "--locked", "--bin", "drystone"])?;
    crate::run("cargo", &["build", "--locked", "--package", "drystone-chaos"])?;
    let binary = target().join("release/drystone").to_string_lossy().into_owned();
    let report = target().join("chaos.json").to_string_lossy().into_owned();
    let mut words = vec!["--binary", &binary, "--report", &report];
    words.extend(arguments);
    crate::run(&target().join("debug/drystone-chaos").to_string_lossy(), &words)
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|path| path.join(program).is_file())
}
