//! A bad network between everybody and one server: a TCP proxy that delays, throttles, stalls and cuts connections in
//! the middle of a frame, by a seed.

use anyhow::Context;
use drystone_system::files::Seed;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a thread looks whether the proxy has ended.
const TURN: Duration = Duration::from_millis(100);
const PIECE: usize = 16 << 10;

/// What happens to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Each piece is late by up to so many milliseconds.
    pub delay_ms: u64,
    /// KiB per second; 0: as many as come.
    pub throttle_kib: u64,
    /// Nothing passes until the weather changes.
    pub is_stalled: bool,
    /// One piece in so many is cut in its middle, and the connection with it; 0: none.
    pub cut_every: u64,
    /// One piece in so many is cut and the connection stays open, silent for ever; 0: none.
    pub hush_every: u64,
}

/// What it has done.
#[derive(Debug, Default)]
pub struct Done {
    /// Pieces that were late.
    pub delayed: AtomicU64,
    /// Pieces that were throttled.
    pub throttled: AtomicU64,
    /// Pieces that waited in a stall.
    pub stalled: AtomicU64,
    /// Connections cut in the middle of a piece.
    pub cut: AtomicU64,
    /// Connections made silent in the middle of a piece.
    pub hushed: AtomicU64,
}

struct Shared {
    target: String,
    weather: Mutex<Weather>,
    seed: Mutex<Seed>,
    ends: AtomicBool,
    done: Done,
}

/// A proxy in front of one server.
pub struct Proxy {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on `address` for `target`.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn start(address: &str, target: &str, seed: u64) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| address.to_owned())?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            weather: Mutex::default(),
            seed: Mutex::new(Seed(seed)),
            ends: AtomicBool::new(false),
            done: Done::default(),
        });
        let state = shared.clone();
        let accepting = std::thread::spawn(move || state.accept(&listener));
        Ok(Self {
            shared,
            accepting: Some(accepting),
        })
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What it has done since it was started.
    pub fn done(&self) -> &Done {
        &self.shared.done
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.accepting.take() {
            // A panic there has been told already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.ends.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((from, _)) => {
                    let shared = self.clone();
                    std::thread::spawn(move || shared.serve(from));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// A connection that the target does not take is closed, as if nothing listened.
    fn serve(self: Arc<Self>, from: TcpStream) {
        let Ok(to) = TcpStream::connect(&self.target) else {
            return;
        };
        let prepare = |stream: &TcpStream| {
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TURN))
        };
        if prepare(&from).and_then(|()| prepare(&to)).is_err() {
            return;
        }
        let (Ok(back_from), Ok(back_to)) = (to.try_clone(), from.try_clone()) else {
            return;
        };
        let shared = self.clone();
        std::thread::spawn(move || shared.pump(back_from, back_to));
        self.pump(from, to);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; PIECE];
        let mut is_hushed = false;
        while !self.ends.load(Ordering::Relaxed) {
            let count = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            if is_hushed {
                continue;
            }
            let weather = self.wait();
            let draw = || self.seed.lock().unwrap_or_else(PoisonError::into_inner).draw();
            if weather.delay_ms > 0 {
                self.done.delayed.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(draw() % (weather.delay_ms + 1)));
            }
            if let Some(pause) = (count as u64 * 1000).checked_div(weather.throttle_kib) {
                self.done.throttled.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(pause));
            }
            let is_cut = weather.cut_every > 0 && draw().is_multiple_of(weather.cut_every);
            is_hushed = !is_cut && weather.hush_every > 0 && draw().is_multiple_of(weather.hush_every);
            let passes = if is_cut || is_hushed {
                draw() as usize % count
            } else {
                count
            };
            if to.write_all(&piece[..passes]).is_err() {
                break;
            }
            if is_hushed {
                self.done.hushed.fetch_add(1, Ordering::Relaxed);
            }
            if is_cut {
                self.done.cut.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        for stream in [&from, &to] {
            // The other side may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until nothing is stalled; the weather then.
    fn wait(&self) -> Weather {
        let mut counted = false;
        loop {
            let weather = *self.weather.lock().unwrap_or_else(PoisonError::into_inner);
            if !weather.is_stalled || self.ends.load(Ordering::Relaxed) {
                return weather;
            }
            if !counted {
                self.done.stalled.fetch_add(1, Ordering::Relaxed);
                counted = true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
