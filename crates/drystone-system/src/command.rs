//! Commands of a user, run to their end or kept running.

use crate::process::Signal;
use crate::{process, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// No command of these tests takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a command ended.
#[derive(Debug)]
pub struct Answer {
    /// The words it was started with.
    pub words: String,
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it wrote about faults.
    pub stderr: String,
}

impl Answer {
    /// Its output.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn ok(self) -> Vec<u8> {
        assert_eq!(self.code, Some(0), "{} failed: {}", self.words, self.stderr);
        self.stdout
    }

    /// Its output as text.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.ok()).expect("the output is text")
    }

    /// Its output as lines of JSON.
    ///
    /// # Panics
    /// If it failed, or wrote something else.
    #[track_caller]
    pub fn json_lines(self) -> Vec<Value> {
        let text = self.text();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        text.lines().map(parse).collect()
    }

    /// Its one line of JSON.
    ///
    /// # Panics
    /// If it failed, or wrote something else.
    #[track_caller]
    pub fn json(self) -> Value {
        let words = self.words.clone();
        let mut lines = self.json_lines();
        assert_eq!(lines.len(), 1, "{words} wrote {} lines", lines.len());
        lines.remove(0)
    }

    /// Checks that it ended with `code` and said `what` about it.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn refused(self, code: i32, what: &str) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{} ended otherwise: {}",
            self.words,
            self.stderr
        );
        assert!(
            self.stderr.contains(what),
            "{} does not say {what:?}: {}",
            self.words,
            self.stderr
        );
        self
    }
}

/// A command that runs. Dropping it kills it.
pub struct Running {
    words: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Option<[JoinHandle<Vec<u8>>; 2]>,
}

impl Running {
    /// Starts a command with pipes in all directions.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Self {
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let stdin = child.stdin.take();
        let (out, err) = (
            child.stdout.take().expect("piped"),
            child.stderr.take().expect("piped"),
        );
        Self {
            words: words.join(" "),
            child,
            stdin,
            out: Some([drain(out), drain(err)]),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// If it reads no more.
    #[track_caller]
    pub fn feed(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        if let Err(error) = stdin.write_all(bytes) {
            panic!(
                "{} reads no more ({error}): {:?}",
                self.words,
                self.child.try_wait()
            );
        }
    }

    /// True until it has ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        process::signal(self.child.id(), Signal::KILL);
    }

    /// Closes its input and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn finish(mut self) -> Answer {
        drop(self.stdin.take());
        let words = self.words.clone();
        let status = wait_for(&words, PATIENCE, || {
            self.child.try_wait().expect("it is our child")
        });
        let [out, err] = self.out.take().expect("taken once");
        let stdout = out.join().expect("the reader does not panic");
        let stderr = err.join().expect("the reader does not panic");
        Answer {
            words,
            code: status.code(),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a fault is all there is.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}
