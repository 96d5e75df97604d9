//! What was acknowledged, and must therefore be there, byte by byte.

use drystone_system::Http;
use drystone_system::files::{Seed, Stream};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clients at once.
const CLIENTS: u64 = 4;

/// Lengths of files, in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// Up to some KiB: inline.
    Tiny,
    /// Around the sizes at which space is given out in coarser units.
    Odd,
    /// Some MiB, some of several chunks.
    Large,
}

impl Sizes {
    /// The next length.
    fn draw(self, seed: &mut Seed) -> u64 {
        let draw = seed.draw();
        match self {
            Self::Tiny => draw % 6_000,
            Self::Odd => {
                [1, 4_095, 65_537, 100_000, 262_145, 1_048_577][(draw % 6) as usize] + draw / 6 % 3_000
            }
            Self::Large if draw.is_multiple_of(8) => (64 << 20) + draw % (70 << 20),
            Self::Large => (1 << 20) + draw % (15 << 20),
        }
    }
}

#[derive(Clone, Copy)]
struct File {
    seed: u64,
    length: u64,
}

/// How a fill ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Filled {
    /// Files and their bytes that were acknowledged.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Refused because something was full.
    pub refused: u64,
    /// No answer, or one that leaves the outcome open.
    pub unknown: u64,
}

/// The acknowledged files by path.
#[derive(Default)]
pub struct Ledger {
    files: Mutex<BTreeMap<String, File>>,
    next: AtomicU64,
}

impl Ledger {
    /// Files that must be there.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, File>> {
        self.files.lock().expect("no client panicked")
    }

    /// Writes until `bytes` more are acknowledged, or until `give_up` refusals or open outcomes.
    pub fn fill(&self, rest: &str, sizes: Sizes, bytes: u64, give_up: u64) -> Filled {
        let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let clients: Vec<Filled> = std::thread::scope(|scope| {
            let client = |_| scope.spawn(|| self.write(rest, sizes, bytes, give_up, &done, &failed));
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            let joined = clients
                .into_iter()
                .map(|client| client.join().expect("no client panics"));
            joined.collect()
        });
        clients.into_iter().fold(Filled::default(), |sum, one| Filled {
            files: sum.files + one.files,
            bytes: sum.bytes + one.bytes,
            refused: sum.refused + one.refused,
            unknown: sum.unknown + one.unknown,
        })
    }

    fn write(
        &self,
        rest: &str,
        sizes: Sizes,
        bytes: u64,
        give_up: u64,
        done: &AtomicU64,
        failed: &AtomicU64,
    ) -> Filled {
        let mut http = Http::new(rest);
        let mut filled = Filled::default();
        while done.load(Ordering::Relaxed) < bytes && failed.load(Ordering::Relaxed) < give_up {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut seed = Seed(number);
            let file = File {
                seed: number,
                length: sizes.draw(&mut seed),
            };
            // No path is used twice: an outcome that is open concerns no later file.
            let path = format!("soak/{}/{}/f{number}", number % 13, number % 7);
            let mut body = Stream::new(file.seed, file.length);
            let target = format!("/files/{path}?parents=true");
            match http.try_ask("PUT", &target, &[], file.length, &mut body) {
                Ok(answer) if answer.status == 201 => {
                    self.lock().insert(path, file);
                    filled.files += 1;
                    filled.bytes += file.length;
                    done.fetch_add(file.length.max(1), Ordering::Relaxed);
                }
                Ok(answer) if answer.status == 507 => {
                    filled.refused += 1;
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) if answer.status < 500 => {
                    panic!(
                        "PUT {path}: {} {}",
                        answer.status,
                        String::from_utf8_lossy(&answer.body)
                    )
                }
                Ok(_) | Err(_) => {
                    filled.unknown += 1;
                    failed.fetch_add(1, Ordering::Relaxed);
                    http = Http::new(rest);
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
            }
        }
        filled
    }

    /// Reads every file and compares it; answers the bytes.
    ///
    /// # Panics
    /// If one is not as it was acknowledged.
    pub fn verify(&self, rest: &str) -> u64 {
        let files: Vec<(String, File)> = self
            .lock()
            .iter()
            .map(|(path, file)| (path.clone(), *file))
            .collect();
        let part = files.len().div_ceil(CLIENTS as usize).max(1);
        std::thread::scope(|scope| {
            let readers: Vec<_> = files
                .chunks(part)
                .map(|files| scope.spawn(|| read(rest, files)))
                .collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("every file is as it was acknowledged"))
                .sum()
        })
    }

    /// Deletes the files of which `number % of == 0`; all of them if `of` is 1.
    ///
    /// # Panics
    /// If one cannot be deleted.
    pub fn delete(&self, rest: &str, of: u64) {
        let mut http = Http::new(rest);
        if of == 1 {
            http.ask("DELETE", "/directories/soak?recursive=true", &[], b"")
                .expect(204);
            self.lock().clear();
            return;
        }
        let chosen: Vec<String> = {
            let files = self.lock();
            let chosen = files.iter().filter(|(_, file)| file.seed.is_multiple_of(of));
            chosen.map(|(path, _)| path.clone()).collect()
        };
        for path in chosen {
            http.ask("DELETE", &format!("/files/{path}"), &[], b"")
                .expect(204);
            self.lock().remove(&path);
        }
    }
}

fn read(rest: &str, files: &[(String, File)]) -> u64 {
    let mut http = Http::new(rest);
    let mut bytes = 0;
    for (path, file) in files {
        let mut compare = Compare {
            expected: Stream::new(file.seed, file.length),
            length: 0,
            equal: true,
        };
        let answer = http.stream(
            "GET",
            &format!("/files/{path}"),
            &[],
            0,
            &mut io::empty(),
            &mut compare,
        );
        let (status, _) = answer.unwrap_or_else(|error| panic!("GET {path}: {error}"));
        assert_eq!(status, 200, "GET {path}");
        assert!(compare.equal, "{path} has other bytes than were acknowledged");
        assert_eq!(
            compare.length, file.length,
            "{path} has another length than was acknowledged"
        );
        bytes += file.length;
    }
    bytes
}

/// Compares what is written to it with what is expected.
struct Compare {
    expected: Stream,
    length: u64,
    equal: bool,
}

impl Write for Compare {
    fn write(&mut self, found: &[u8]) -> io::Result<usize> {
        let mut expected = vec![0; found.len()];
        self.equal &= self.expected.read_exact(&mut expected).is_ok() && expected == found;
        self.length += found.len() as u64;
        Ok(found.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
