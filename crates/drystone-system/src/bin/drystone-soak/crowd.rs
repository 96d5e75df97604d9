//! Clients that do nothing, and clients that do it slowly.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Slow clients of REST, of each kind.
const SLOW: usize = 8;

/// They stay, and come back when they are sent away, until this is dropped.
pub struct Crowd {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// `idle` connections to each of `ports`, and slow clients of `rest`, all `HOST:PORT`.
    pub fn gather(ports: Vec<String>, rest: &str, idle: usize) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let inner = Arc::clone(&ended);
        threads.push(std::thread::spawn(move || sit(&ports, idle, &inner)));
        for kind in 0..2 * SLOW {
            let (rest, inner) = (rest.to_owned(), Arc::clone(&ended));
            threads.push(std::thread::spawn(move || dawdle(&rest, kind % 2 == 0, &inner)));
        }
        Self { ended, threads }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // They hold nothing that matters.
            let _ = thread.join();
        }
    }
}

/// Keeps connections open; one that is closed or refused is tried again a moment later.
fn sit(ports: &[String], idle: usize, ended: &AtomicBool) {
    let mut seats: Vec<(usize, Option<TcpStream>)> = (0..ports.len())
        .flat_map(|port| (0..idle).map(move |_| (port, None)))
        .collect();
    while !ended.load(Ordering::Relaxed) {
        for (port, seat) in &mut seats {
            let is_open = seat.as_ref().is_some_and(|stream| {
                let probe = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
                matches!(probe, Err(ref error) if error.kind() == std::io::ErrorKind::WouldBlock)
            });
            if !is_open {
                *seat = ports
                    .get(*port)
                    .and_then(|address| TcpStream::connect(address).ok());
            }
        }
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Sends a body a byte each second, or reads an answer a few bytes each second.
fn dawdle(rest: &str, sends: bool, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
        let Ok(mut stream) = TcpStream::connect(rest) else {
            continue;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let head = if sends {
            format!("PUT /files/slow HTTP/1.1\r\nhost: {rest}\r\ncontent-length: 1000000\r\n\r\n")
        } else {
            format!("GET /openapi.json HTTP/1.1\r\nhost: {rest}\r\n\r\n")
        };
        let mut is_open = stream.write_all(head.as_bytes()).is_ok();
        while is_open && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(1));
            is_open = if sends {
                stream.write_all(b"x").is_ok()
            } else {
                matches!(stream.read(&mut [0; 8]), Ok(1..))
            };
        }
    }
}
