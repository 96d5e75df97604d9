//! Content to store: bytes of a seed, trees of files, hashes.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Seeded numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Bytes of a seed: no part of them repeats.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    Stream::new(seed, length as u64)
        .read_exact(&mut out)
        .expect("it is as long as it was made");
    out
}

/// The same bytes as a stream, of any length.
pub struct Stream {
    seed: Seed,
    word: [u8; 8],
    used: usize,
    left: u64,
}

impl Stream {
    /// The first `length` bytes of a seed.
    pub fn new(seed: u64, length: u64) -> Self {
        Self {
            seed: Seed(seed),
            word: [0; 8],
            used: 8,
            left: length,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = (out.len() as u64).min(self.left) as usize;
        for byte in &mut out[..count] {
            if self.used == 8 {
                (self.word, self.used) = (self.seed.draw().to_le_bytes(), 0);
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Sums what is written to it.
#[derive(Default)]
pub struct Summer {
    hash: Sha256,
    /// Bytes written.
    pub length: u64,
}

impl Summer {
    /// The SHA-256.
    pub fn sum(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

impl Write for Summer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The SHA-256 of a local file.
///
/// # Panics
/// If it cannot be read.
pub fn sum_of(path: &Path) -> [u8; 32] {
    let mut summer = Summer::default();
    let copied = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut summer));
    copied.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    summer.sum()
}

/// The files below `root`, as paths relative to it, sorted. Links to directories are not followed.
///
/// # Panics
/// If it cannot be read.
pub fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(directory) = ahead.pop() {
        for entry in fs::read_dir(&directory).expect("the tree can be read") {
            let path = entry.expect("the tree can be read").path();
            let is_link = path.is_symlink();
            if path.is_dir() && !is_link {
                ahead.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(root).expect("it lies below").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A real tree to import: the Rust toolchain, all of it if `DRYSTONE_FULL_TREE` is set, else every n-th of its
/// files so that they are `DRYSTONE_TREE_FILES` (10,000) or some more, linked in `into`. Where the toolchain has
/// fewer files, a tree of a seed.
///
/// # Panics
/// If it cannot be read or made.
pub fn real_tree(into: &Path) -> PathBuf {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .expect("rustc runs");
    let toolchain = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let files = files_below(&toolchain);
    let wanted = crate::setting("DRYSTONE_TREE_FILES", 10_000) as usize;
    if std::env::var_os("DRYSTONE_FULL_TREE").is_some_and(|value| value == "1") {
        return toolchain;
    }
    let root = into.join("tree");
    if files.len() < wanted {
        generate(&root, wanted);
        return root;
    }
    for file in files.iter().step_by(files.len() / wanted) {
        let (from, to) = (toolchain.join(file), root.join(file));
        fs::create_dir_all(to.parent().expect("it lies in the root")).expect("directories can be made");
        // Another file system takes no link.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).expect("files can be copied");
        }
    }
    root
}

fn generate(root: &Path, count: usize) {
    let mut seed = Seed(count as u64);
    for i in 0..count {
        let directory = root.join(format!("d{}/e{}", seed.draw() % 40, seed.draw() % 25));
        fs::create_dir_all(&directory).expect("directories can be made");
        // Most files are small, every fiftieth has megabytes.
        let length = if i % 50 == 0 {
            seed.draw() % (8 << 20)
        } else {
            seed.draw() % (32 << 10)
        };
        fs::write(directory.join(format!("f{i}")), bytes(i as u64, length as usize))
            .expect("files can be written");
    }
}
