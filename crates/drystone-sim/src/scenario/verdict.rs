//! The checks at the end of a run: voters, disks, and what clients were told.

use super::{Run, look};
use crate::check::linear::{self, Verdict};
use crate::check::replicas::{self, Expected};
use crate::cluster::Node;
use crate::sometimes::{sometimes, sometimes_many};
use drystone_client::Client;
use drystone_env::Env;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Within this time all voters have applied the same at some moment: entries come seconds apart when nobody works.
const CONVERGENCE: Duration = Duration::from_secs(10);
/// States that the search for an order looks at.
const STEPS: u64 = 300_000;

impl Run {
    /// The voters that run, each with what `look` gives of it.
    fn voters<T>(&self, look: impl Fn(&drystone_meta::Handle) -> Option<T>) -> Vec<(usize, T)> {
        let metas = self.stage.cluster.metas.iter().enumerate();
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
            self.stage.cluster.world.run_until(CONVERGENCE, together);
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

    /// What lies on the disks is what the namespace names, and nothing else.
    pub(super) fn compare(&mut self, env: &Env, client: &Client, expected: &[Expected]) {
        let (mut found, damaged) = (Vec::new(), self.stage.cluster.damaged_disks());
        for at in 0..self.stage.cluster.chunks.len() {
            self.stage.cluster.stop(Node::Chunk(at), false);
            let node = &self.stage.cluster.chunks[at];
            for (index, disk) in node.disks.iter().enumerate() {
                match replicas::on_disk(disk) {
                    Ok(replicas) => found.extend(replicas),
                    Err(_) if node.damaged => sometimes("a damaged disk does not open"),
                    Err(reason) => {
                        self.violation(format!("disk {index} of chunk-{at} does not open: {reason}"))
                    }
                }
            }
        }
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
        let cluster = &self.stage.cluster;
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
        let net = self.stage.cluster.world.net_stats();
        sometimes_many("network stalls", net.stalls);
        sometimes_many("segments lost", net.losses);
        sometimes_many("connections reset", net.resets);
        sometimes_many("connections unanswered", net.unanswered);
        let disks = self.stage.cluster.chunks.iter().flat_map(|node| &node.disks);
        let faults = disks.chain(self.stage.cluster.metas.iter().map(|node| &node.disk));
        sometimes_many("disk faults", faults.map(|disk| disk.stats().faults).sum());
    }
}
