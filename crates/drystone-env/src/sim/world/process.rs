//! What becomes of processes and hosts: begun, killed, paused, without power.

use super::executor::{World, lock};
use super::host::{Host, HostId};
use super::seams;
use crate::Env;
use crate::rng::Rng;

impl World {
    /// Adds a host with power and no process. Its monotonic clock shows a time of its own.
    ///
    /// # Panics
    /// With more than 65,536 hosts.
    pub fn add_host(&self, name: &str) -> HostId {
        let mut state = self.state();
        let id = HostId(u16::try_from(state.hosts.len()).expect("a world has few hosts"));
        let begun = state.rng.below(1 << 40);
        state.hosts.push(Host::new(name.to_owned(), begun));
        id
    }

    /// Begins a process on the host, which must have power and none: these are its seams.
    ///
    /// # Panics
    /// If a process is there, or no power.
    pub fn env(&self, host: HostId) -> Env {
        let mut state = self.state();
        let seed = state.rng.next_u64();
        let entry = &mut state.hosts[usize::from(host.0)];
        assert!(
            entry.power && !entry.alive,
            "{} has no room for a process",
            entry.name
        );
        entry.alive = true;
        entry.process += 1;
        let process = entry.process;
        drop(state);
        seams::env(self, host, process, seed)
    }

    /// Ends the process at once, as `kill -9` does: its peers' connections are reset, if that can reach them.
    pub fn kill(&self, host: HostId) {
        self.end(host, false);
    }

    /// Takes the power away: no peer hears anything. Give disks their [`crate::sim::SimDisk::crash`] as well.
    pub fn power_off(&self, host: HostId) {
        self.end(host, true);
    }

    fn end(&self, host: HostId, silent: bool) {
        let (tasks, parked) = {
            let mut state = self.state();
            state.note(u64::from(host.0) << 1 | u64::from(silent));
            super::fabric::process_ended(&mut state, host, silent);
            let entry = &mut state.hosts[usize::from(host.0)];
            entry.alive = false;
            entry.paused = false;
            entry.power = !silent;
            (
                std::mem::take(&mut entry.tasks),
                std::mem::take(&mut entry.parked),
            )
        };
        lock(&self.shared.ready).retain(|_, task| task.host != host);
        drop(parked);
        for task in tasks.values() {
            let future = lock(&task.future).take();
            drop(future);
        }
        // What the dropped futures woke of their own kind.
        lock(&self.shared.ready).retain(|_, task| task.host != host);
    }

    /// Gives power back: the monotonic clock begins anew, and what waited for the host on its links goes on.
    pub fn power_on(&self, host: HostId) {
        let mut state = self.state();
        let (now, begun) = (state.now, state.rng.below(1 << 40));
        let entry = &mut state.hosts[usize::from(host.0)];
        entry.power = true;
        entry.since = now;
        entry.begun = begun;
        super::fabric::power_is_back(&mut state, host);
    }

    /// The process does not run until [`World::resume`], as after SIGSTOP; its clocks and its kernel go on.
    pub fn pause(&self, host: HostId) {
        self.state().hosts[usize::from(host.0)].paused = true;
    }

    /// See [`World::pause`].
    pub fn resume(&self, host: HostId) {
        let parked = {
            let mut state = self.state();
            let entry = &mut state.hosts[usize::from(host.0)];
            entry.paused = false;
            std::mem::take(&mut entry.parked)
        };
        lock(&self.shared.ready).extend(parked.into_iter().map(|task| (task.id, task)));
    }

    /// True while a process runs (or is paused) on the host.
    pub fn is_alive(&self, host: HostId) -> bool {
        self.state().hosts[usize::from(host.0)].alive
    }

    /// The host's monotonic clock runs fast by so many millionths from now on.
    pub fn set_drift(&self, host: HostId, ppm: i64) {
        let mut state = self.state();
        let now = state.now;
        state.hosts[usize::from(host.0)].set_drift(now, ppm);
    }

    /// The host's wall clock is wrong by so many microseconds from now on.
    pub fn set_wall_error(&self, host: HostId, micros: i64) {
        self.state().hosts[usize::from(host.0)].wall_error = micros;
    }
}
