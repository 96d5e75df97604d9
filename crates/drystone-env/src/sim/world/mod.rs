//! A seeded world: hosts with processes, clocks and a network, run by one thread, one task at a time.
//!
//! Owns the executor ([`World::run_for`]), the clocks of the hosts and the connections between them. What runs
//! next among the tasks that can, how long each byte travels and where a write is cut short is drawn from the
//! seed, so a seed replays exactly as long as the code under it draws nothing from elsewhere. Must never know what
//! runs in it.
//!
//! A *host* has an address, a clock, power and at most one *process*. [`World::env`] begins a process; killing it
//! drops its tasks between two polls, which is where a real process may be found by `kill -9` as far as anybody
//! else can tell. Polling takes a microsecond of the world's time.

mod clock;
mod end;
mod executor;
mod fabric;
mod host;
mod net;
mod pipe;
mod process;
mod seams;
#[cfg(test)]
mod tests;

pub use executor::{Panicked, World, current};
pub use fabric::{Link, NetStats};
pub use host::HostId;
