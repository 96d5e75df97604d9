//! The checks at the end of a run: voters, disks, and what clients were told.

use super::{Run, look};
use crate::check::linear::{self, Verdict};
use crate::check::replicas::{self, Expected};
use crate::cluster::Node;
use crate::sometimes::{sometimes, sometimes_many};
use drystone_client::Client;
use drystone_env::Env;
use std::collections::{BTreeMap, BTreeSet};

/// States that the search for an order looks at.
const STEPS: u64 = 300_000;

impl Run {
    /// Voters that have applied the same index have the same state.
    pub(super) fn same_state(&self) {
        let mut states: BTreeMap<u64, Vec<(usize, u64)>> = BTreeMap::new();
        for (at, node) in self.stage.cluster.metas.iter().enumerate() {
            if node.retired {
                continue;
            }
            let handle = node.handle.lock().expect("no panic holds it");
            let running = handle.as_ref().filter(|handle| handle.failure().is_none());
            if let Some((index, hash)) = running.and_then(|handle| handle.state_hash()) {
                states.entry(index).or_default().push((at, hash));
            }
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
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for at in 0..self.stage.cluster.chunks.len() {
            self.stage.cluster.stop(Node::Chunk(at), false);
            let node = &self.stage.cluster.chunks[at];
            damaged.extend(&node.lost);
            for (index, disk) in node.disks.iter().enumerate() {
                if node.damaged {
                    damaged.push((101 + at as u64) << 8 | index as u64);
                }
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

    pub(super) fn check(&self) {
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
