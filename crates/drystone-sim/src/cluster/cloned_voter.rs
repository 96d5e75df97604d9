//! Metadata servers of which there are two, or one with nothing left: copied, or wiped and started under the old id.

use super::{Cluster, DISK_HALF, MetaNode, Node};
use crate::sometimes::sometimes;
use crate::states::SimStates;
use crate::trace;
use drystone_env::sim::SimDisk;
use drystone_env::{Rng, SeededRng};

/// More than a server starts in a run.
const LIVES: u32 = 100;

impl Cluster {
    /// A copy of a metadata server's directory starts on another host: while the old one runs, or after it was stopped
    /// and together with it.
    pub fn clone_meta(&mut self, at: usize, running: bool, rng: &mut SeededRng) {
        if !running {
            self.stop(Node::Meta(at), false);
        }
        let name = format!("clone-of-meta-{at}");
        trace::name_host(&name);
        // The two may fence each other; which of them is the server nobody can tell.
        self.metas[at].retired = true;
        let host = self.world.add_host(&name);
        let (disk, states) = self.fork_meta(at, rng);
        let clone = MetaNode {
            host,
            disk,
            states,
            handle: Default::default(),
            ended: Default::default(),
            damaged: true,
            retired: true,
            lost: false,
            lives: 0,
        };
        self.cloned_voters.push((at, clone));
        self.run_meta(at, &self.cloned_voters[self.cloned_voters.len() - 1].1);
        self.restart(Node::Meta(at));
        sometimes(match running {
            true => "copied voter beside the original",
            false => "copied voter together with the original",
        });
    }

    /// What is in a metadata server's directory now.
    fn fork_meta(&self, at: usize, rng: &mut SeededRng) -> (SimDisk, SimStates) {
        let node = &self.metas[at];
        (node.disk.fork(rng.next_u64()), node.states.fork(rng.next_u64()))
    }

    /// Somebody copies a metadata server's directory.
    pub fn copy_meta(&mut self, at: usize, rng: &mut SeededRng) {
        let copy = self.fork_meta(at, rng);
        self.copies.insert(at, copy);
    }

    /// A metadata server's host is gone. Its directory, or the copy that was made of it, is started on another one, as
    /// often as it takes: an old copy is refused until it has counted more boots than the original.
    pub fn move_meta(&mut self, at: usize, rng: &mut SeededRng) {
        self.stop(Node::Meta(at), false);
        let (disk, states) = match self.copies.remove(&at) {
            Some(copy) => {
                sometimes("an older copy takes the place of a voter");
                copy
            }
            None => self.fork_meta(at, rng),
        };
        let name = format!("meta-{at}-elsewhere");
        trace::name_host(&name);
        disk.set_timing(&self.world, DISK_HALF);
        let node = &mut self.metas[at];
        (node.disk, node.states) = (disk, states);
        (node.host, node.lives) = (self.world.add_host(&name), LIVES);
        self.start_meta(at);
        sometimes("a voter moves");
    }

    /// A metadata server starts with the identity that it had and nothing else. The others know it for another one if
    /// they had recorded the one before: not in the first moments of a cluster.
    ///
    /// # Panics
    /// If its disk is not formatted.
    pub fn wipe_meta(&mut self, at: usize, rng: &mut SeededRng) {
        let number = at as u64 + 1;
        let is_known = self.metas.iter().any(|node| node.states.has_node(number));
        if is_known {
            self.wiped.push(at);
        }
        self.stop(Node::Meta(at), true);
        let node = &mut self.metas[at];
        node.retired = true;
        let identity = drystone_identity::load(&node.disk).expect("it is formatted");
        node.disk.wipe();
        node.disk.set_timing(&self.world, DISK_HALF);
        drystone_identity::format(&node.disk, &identity).expect("a fresh disk can be formatted");
        node.states = SimStates::new(rng.next_u64());
        self.restart(Node::Meta(at));
        sometimes(match is_known {
            true => "voter wiped and started under its old id",
            false => "voter wiped before anybody had recorded it",
        });
    }

    /// Members that are not the voters that they say they are: of two processes of one id one at most may take part, and
    /// none that has forgotten what it voted.
    pub fn active_clones(&self) -> Vec<String> {
        let takes_part = |node: &MetaNode| {
            let handle = node.handle.lock().expect("no panic holds it");
            handle.as_ref().is_some_and(drystone_meta::Handle::is_ready)
        };
        let copies = self.cloned_voters.iter();
        let both = copies.filter(|(at, clone)| takes_part(clone) && takes_part(&self.metas[*at]));
        let both = both.map(|(at, _)| format!("meta-{at} and its copy both take part"));
        let wiped = self.wiped.iter().filter(|at| takes_part(&self.metas[**at]));
        both.chain(wiped.map(|at| format!("meta-{at} takes part although it was wiped")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Shape;
    use drystone_env::sim::World;
    use std::sync::Arc;
    use std::time::Duration;

    fn active_clones_are_named() {
        let world = World::new(1);
        let mut rng = SeededRng::new(1);
        let shape = Shape::draw(&mut rng);
        let mut cluster = Cluster::format(&world, shape, &mut rng);
        cluster.start();
        let ready = |node: &MetaNode| {
            let handle = node.handle.lock().unwrap();
            handle.as_ref().is_some_and(drystone_meta::Handle::is_ready)
        };
        let all = || cluster.metas.iter().all(ready);
        assert!(world.run_until(Duration::from_secs(30), all));
        assert!(cluster.active_clones().is_empty());
        // Whoever has its handle says that it takes part.
        let original = &cluster.metas[0];
        let clone = MetaNode {
            host: original.host,
            disk: original.disk.clone(),
            states: original.states.clone(),
            handle: Arc::clone(&original.handle),
            ended: Default::default(),
            damaged: true,
            retired: true,
            lost: false,
            lives: 0,
        };
        cluster.cloned_voters.push((0, clone));
        cluster.wiped.push(1);
        assert_eq!(
            cluster.active_clones(),
            [
                "meta-0 and its copy both take part",
                "meta-1 takes part although it was wiped"
            ]
        );
    }

    #[test]
    fn a_copy_and_a_wiped_voter_that_take_part_are_named() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tokio::task::unconstrained(async { active_clones_are_named() }));
    }
}
