//! What a long chore prints: everything that its commands print, and a sign of life when they print nothing.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// After so long without a line a chore says that it is still at work.
const SILENCE: Duration = Duration::from_secs(20);

/// When something was printed last, in milliseconds since [`begun`].
static PRINTED: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::disallowed_methods, reason = "a chore is no part of a seeded run")]
pub fn now() -> Instant {
    Instant::now()
}

fn begun() -> Instant {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    *BEGUN.get_or_init(now)
}

/// Notes that something was printed.
pub fn printed() {
    PRINTED.store(begun().elapsed().as_millis() as u64, Ordering::Relaxed);
}

/// Runs `work`, called `name`; while nothing is printed for 20 s, says so.
pub fn watched<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let start = now();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1))
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let silent = begun().elapsed().as_millis() as u64 - PRINTED.load(Ordering::Relaxed);
                if silent >= SILENCE.as_millis() as u64 {
                    println!("   ({name}: at work for {})", time(start.elapsed()));
                    printed();
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// `90 s` as `1 min 30 s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds / 60 {
        0 => format!("{:.1} s", duration.as_secs_f64()),
        minutes => format!("{minutes} min {:02} s", seconds % 60),
    }
}

/// Copies what a command prints as it comes.
fn forward(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 8192];
    while let Ok(count) = from.read(&mut buffer) {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        // Nobody reads any more: the command still has to end.
        let _ = to.write_all(bytes).and_then(|()| to.flush());
        printed();
    }
}

/// Runs a command to its end and shows what it prints.
pub fn shown(command: &mut Command) -> anyhow::Result<ExitStatus> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("the output of {name} is not piped");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| forward(out, std::io::stdout()));
        scope.spawn(|| forward(err, std::io::stderr()));
    });
    child.wait().with_context(|| format!("cannot wait for {name}"))
}
