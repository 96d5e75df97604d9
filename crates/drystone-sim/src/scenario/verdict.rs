//! The checks at the end of a run: voters, disks, and what clients were told.

use super::{Trial, look};
use crate::check::linear::{self, Verdict};
use crate::check::replicas::{self, Expected, Found};
use crate::cluster::Node;
use crate::sometimes::{sometimes, sometimes_many};
use crate::trace;
use drystone_client::Client;
use drystone_env::{Env, Rng, SeededRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Within this time all voters have applied the same at some moment: entries come seconds apart when nobody works.
const CONVERGENCE: Duration = Duration::from_secs(10);
/// A run with chunk servers is at least so long, in microseconds.
const SHORTEST: u64 = 30_000_000;
/// Between two looks at disks that settle.
const SETTLING: Duration = Duration::from_secs(5);
/// States that the search for an order looks at.
const STEPS: u64 = 300_000;

impl Trial {
    /// The voters that run, each with what `look` gives of it.
    fn voters<T>(&self, look: impl Fn(&drystone_meta::Handle) -> Option<T>) -> Vec<(usize, T)> {
        let metas = self.run.cluster.metas.iter().enumerate();
        let members = metas.filter(|(_, node)| !node.retired);
        let looked = members.filter_map(|(at, node)| {
            let handle = node.handle.lock().expect("no panic holds it");
            let running = handle.as_ref().filter(|handle| handle.failure().is_none())?;
            Some((at, look(running)?))
        });
        looked.collect()
    }

    /// All voters come to one index, and have the same state there. An entry may be on its way at any moment, so they
    /// have some time.
    pub(super) fn same_state(&self) {
        let together = || {
            let applied = self.voters(|handle| Some(handle.applied()));
            applied.windows(2).all(|pair| pair[0].1 == pair[1].1)
        };
        if !together() {
            sometimes("voters differed at the first look");
            self.run.cluster.world.run_until(CONVERGENCE, together);
        }
        let mut states: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        for (at, (index, hash)) in self.voters(drystone_meta::Handle::state_hash) {
            states.entry(index).or_default().push((at, hash));
        }
        let compared = states.values().map(Vec::len).max().unwrap_or(0);
        sometimes(&format!("{compared} voters compared"));
        for (index, voters) in &states {
            if voters.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                self.violation(format!(
                    "at index {index} voters have different states: {voters:x?}"
                ));
            }
        }
        if states.len() > 1 {
            self.violation(format!("voters did not converge: {states:x?}"));
        }
    }

    /// Puts into the trace where each voter stands.
    pub(super) fn note_voters(&self) {
        let state = |handle: &drystone_meta::Handle| {
            let (leads, leader, applied) = (handle.is_leader(), handle.leader(), handle.applied());
            Some(format!("leads {leads}, follows {leader:?}, applied {applied}"))
        };
        for (at, state) in self.voters(state) {
            trace::note(self.work.world.now().0, &format!("meta-{at}: {state}"));
        }
    }

    /// Of each member one process at most takes part. Another one may need a connection before it can be told so.
    pub(super) fn one_process_each(&self) {
        let cluster = &self.run.cluster;
        let alone = || cluster.active_clones().is_empty();
        if !alone() {
            sometimes("a cloned voter was not told yet at the first look");
            cluster.world.run_until(CONVERGENCE, alone);
        }
        for clone in cluster.active_clones() {
            self.violation(clone);
        }
    }

    /// Waits until what nothing refers to is deleted, for as long as that may take; in one run of four to the end of that
    /// time in any case, because what is referred to must not go later either.
    pub(super) fn settle(&self, rng: &mut SeededRng, expected: &[Expected]) {
        let world = &self.work.world;
        let most = self.kind.settles(&self.run.cluster.shape);
        let end = world.now().0 + most.as_micros() as u64;
        let is_patient = rng.chance(1, 4);
        let damaged = self.run.cluster.damaged_disks();
        while world.now().0 < end {
            let may_end = !is_patient && world.now().0 >= SHORTEST;
            if may_end && replicas::compare(expected, &self.on_disks().0, &damaged).is_empty() {
                sometimes("disks settled before the time was over");
                return;
            }
            self.pass((world.now().0 + SETTLING.as_micros() as u64).min(end));
        }
    }

    /// What a store that opens the disks of chunk servers finds now, and why some do not open.
    fn on_disks(&self) -> (Vec<Found>, Vec<String>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for (at, node) in self.run.cluster.chunks.iter().enumerate() {
            for (index, disk) in node.disks.iter().enumerate() {
                match replicas::on_disk(&disk.fork(0)) {
                    Ok(replicas) => found.extend(replicas),
                    Err(_) if node.damaged => sometimes("a damaged disk does not open"),
                    Err(reason) => faults.push(format!("disk {index} of chunk-{at} does not open: {reason}")),
                }
            }
        }
        (found, faults)
    }

    /// What lies on the disks is what the namespace names, and nothing else.
    pub(super) fn compare(&mut self, env: &Env, client: &Client, expected: &[Expected]) {
        let cluster = &self.run.cluster;
        (0..cluster.chunks.len()).for_each(|at| cluster.stop(Node::Chunk(at), false));
        let damaged = cluster.damaged_disks();
        let (mut found, closed) = self.on_disks();
        closed.into_iter().for_each(|fault| self.violation(fault));
        sometimes_many("replicas compared", expected.len() as u64);
        let lost = replicas::lost(expected, &damaged).len() as u64;
        sometimes_many("content lost with its only replica", lost);
        let wanted: BTreeSet<u64> = expected.iter().map(|replica| replica.chunk).collect();
        let others: BTreeSet<u64> = found.iter().map(|found| found.chunk).collect();
        let others: Vec<u64> = others.difference(&wanted).copied().collect();
        let staged = self.wait_for(env, look::staged(client.clone(), others));
        let Some(staged) = staged else {
            self.violation("the records of chunks could not be read");
            return;
        };
        sometimes_many("chunks staged for nobody", staged.len() as u64);
        found.retain(|found| !staged.contains(&found.chunk));
        for fault in replicas::compare(expected, &found, &damaged) {
            self.violation(fault);
        }
    }

    /// The records of every metadata server were and are what they must be.
    fn check_records(&self) {
        let cluster = &self.run.cluster;
        for (at, node) in cluster.metas.iter().enumerate() {
            for fault in node.states.faults() {
                self.violation(format!("meta-{at}: {fault}"));
            }
        }
        sometimes_many("records of voters checked", cluster.metas.len() as u64);
    }

    pub(super) fn check(&self) {
        self.check_records();
        let calls = self.work.history.calls();
        match linear::check(&calls, STEPS) {
            Verdict::Linearizable => sometimes("linearizable"),
            Verdict::Undecided => sometimes("linearizability undecided"),
            Verdict::Violation(why) => self.violation(why),
        }
        let net = self.run.cluster.world.net_stats();
        sometimes_many("network stalls", net.stalls);
        sometimes_many("segments lost", net.losses);
        sometimes_many("connections reset", net.resets);
        sometimes_many("connections unanswered", net.unanswered);
        let disks = self.run.cluster.chunks.iter().flat_map(|node| &node.disks);
        let faults = disks.chain(self.run.cluster.metas.iter().map(|node| &node.disk));
        sometimes_many("disk faults", faults.map(|disk| disk.stats().faults).sum());
    }
}
