//! What happens now, so that whoever looks on knows that it goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// After so long without news it is said what is still under way.
const SILENCE: Duration = Duration::from_secs(15);

/// Prints what is done, and repeats it while nothing else comes, until it is dropped.
pub struct Progress {
    begun: Instant,
    last: Arc<Mutex<(Instant, String)>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins.
    pub fn start() -> Self {
        let begun = Instant::now();
        let last = Arc::new(Mutex::new((begun, "begins".to_owned())));
        let ended = Arc::new(AtomicBool::new(false));
        let (inner, stop) = (Arc::clone(&last), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                let mut last = inner.lock().unwrap_or_else(PoisonError::into_inner);
                if last.0.elapsed() >= SILENCE {
                    last.0 = Instant::now();
                    print(begun, &format!("... since: {}", last.1));
                }
            }
        });
        Self {
            begun,
            last,
            ended,
            thread: Some(thread),
        }
    }

    /// Says what has just been done.
    pub fn say(&self, what: &str) {
        print(self.begun, what);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), what.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only prints.
            let _ = thread.join();
        }
    }
}

fn print(begun: Instant, what: &str) {
    println!("[{:>5.0} s] {what}", begun.elapsed().as_secs_f64());
}
