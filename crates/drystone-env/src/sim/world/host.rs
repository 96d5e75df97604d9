//! A host: its clock, its power, the process on it.

use super::executor::Task;
use crate::clock::{Monotonic, WallTime};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// A host of a [`super::World`], numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u16);

impl HostId {
    /// Where others reach it.
    pub fn ip(self) -> IpAddr {
        let [high, low] = self.0.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 77, high, low))
    }

    /// The host with this address.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => match ip.octets() {
                [10, 77, high, low] => Some(HostId(u16::from_be_bytes([high, low]))),
                _ => None,
            },
            IpAddr::V6(_) => None,
        }
    }
}

pub(super) struct Host {
    pub(super) name: String,
    pub(super) power: bool,
    pub(super) paused: bool,
    /// Of the process; what an older one spawns or connects is dropped.
    pub(super) process: u64,
    pub(super) alive: bool,
    pub(super) tasks: BTreeMap<u64, Arc<Task>>,
    /// Ready, while the host is paused.
    pub(super) parked: Vec<Arc<Task>>,
    /// The monotonic clock shows `begun + elapsed * (1 + drift)`.
    pub(super) begun: u64,
    pub(super) since: u64,
    pub(super) drift_ppm: i64,
    /// Microseconds by which the wall clock is wrong.
    pub(super) wall_error: i64,
}

impl Host {
    pub(super) fn new(name: String, begun: u64) -> Self {
        Self {
            name,
            power: true,
            paused: false,
            process: 0,
            alive: false,
            tasks: BTreeMap::new(),
            parked: Vec::new(),
            begun,
            since: 0,
            drift_ppm: 0,
            wall_error: 0,
        }
    }

    pub(super) fn monotonic(&self, now: u64) -> Monotonic {
        let elapsed = now.saturating_sub(self.since);
        let drift = i128::from(elapsed) * i128::from(self.drift_ppm) / 1_000_000;
        Monotonic((i128::from(self.begun) + i128::from(elapsed) + drift).max(0) as u64)
    }

    /// The world's time at which the monotonic clock shows `at` or a little more.
    pub(super) fn world_time(&self, at: Monotonic) -> u64 {
        let local = i128::from(at.0.saturating_sub(self.begun));
        let elapsed = local * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm)).max(1);
        let mut time = self
            .since
            .saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        while time < u64::MAX / 2 && self.monotonic(time) < at {
            time += 1;
        }
        time
    }

    /// Sets the drift; the clock goes on from where it is.
    pub(super) fn set_drift(&mut self, now: u64, ppm: i64) {
        self.begun = self.monotonic(now).0;
        self.since = now;
        self.drift_ppm = ppm.clamp(-500_000, 500_000);
    }

    pub(super) fn wall(&self, now: u64) -> WallTime {
        /// 2026-01-01, so that people see a date that means something.
        const EPOCH: i128 = 1_767_225_600_000_000;
        WallTime((EPOCH + i128::from(now) + i128::from(self.wall_error)).max(0) as u64)
    }
}
