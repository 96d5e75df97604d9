//! One voter whose log is damaged in one place, or loses its newest file, while it is down. It may refuse to start, in
//! words; if it starts, everything that was acknowledged is there.

use super::{RECOVERY, Trial};
use crate::cluster::Node;
use crate::sometimes::sometimes;
use crate::trace;
use drystone_env::{Disk, Rng, SeededRng};
use drystone_wal::format::Header;

/// Bytes of a block of the log.
const BLOCK: usize = 4096;
const VOTER: Node = Node::Meta(0);

impl Trial {
    pub(super) fn damage_the_log(&mut self, rng: &mut SeededRng) {
        self.run.cluster.start();
        self.run.clients.start();
        self.pass(self.length);
        self.recover();
        let cluster = &mut self.run.cluster;
        cluster.stop(VOTER, false);
        if rng.chance(1, 3) {
            lose_the_newest(cluster, rng);
        } else {
            flip(cluster, rng);
        }
        cluster.metas[0].damaged = true;
        cluster.restart(VOTER);
        let node = &cluster.metas[0];
        let ended = || node.ended.lock().expect("no panic holds it").clone();
        let world = cluster.world.clone();
        world.run_until(RECOVERY, || ended().is_some() || cluster.leader().is_some());
        match ended() {
            Some(why) => {
                trace::note(world.now().0, &format!("{VOTER} refuses: {why}"));
                sometimes("a damaged log was refused");
            }
            None => {
                sometimes("a damaged log was opened");
                self.look_at_everything(rng);
            }
        }
        self.check();
    }
}

/// Removes the newest segment or cuts it within its first block: nothing in it tells any more that it was there.
fn lose_the_newest(cluster: &crate::cluster::Cluster, rng: &mut SeededRng) {
    for disk in cluster.disks(VOTER) {
        let generation = |name: &String| Some(Header::decode(&disk.contents(name)?).ok()?.0.generation);
        let names = disk.files().into_iter().filter(|name| name.starts_with("log/"));
        let newest = names.filter_map(|name| Some((generation(&name)?, name))).max();
        let Some((generation, name)) = newest else {
            continue;
        };
        let length = rng.chance(1, 2).then(|| rng.below(BLOCK as u64) as usize);
        match length {
            Some(length) => {
                let bytes = disk.contents(&name).unwrap_or_default();
                disk.set_contents(&name, &bytes[..length]);
            }
            None => drop(disk.unlink(&name)),
        }
        if generation > 1 {
            sometimes("the newest of several segments lost");
        }
        let now = cluster.world.now().0;
        trace::note(
            now,
            &format!("{name}, segment {generation}, is cut to {length:?}"),
        );
    }
}

/// Changes a bit in a block of the log that is not all zeros.
fn flip(cluster: &crate::cluster::Cluster, rng: &mut SeededRng) {
    let mut blocks = Vec::new();
    for disk in cluster.disks(VOTER) {
        for name in disk.files().into_iter().filter(|name| name.starts_with("log/")) {
            let bytes = disk.contents(&name).unwrap_or_default();
            let used = bytes
                .chunks(BLOCK)
                .enumerate()
                .filter(|(_, block)| block.iter().any(|byte| *byte != 0));
            blocks.extend(used.map(|(at, _)| (disk.clone(), name.clone(), at)));
        }
    }
    if blocks.is_empty() {
        return;
    }
    let (disk, name, block) = &blocks[rng.below(blocks.len() as u64) as usize];
    let offset = *block as u64 * BLOCK as u64 + rng.below(BLOCK as u64);
    trace::note(
        cluster.world.now().0,
        &format!("a bit of {name} at {offset} is flipped"),
    );
    disk.flip(name, offset, rng.below(8) as u8);
}
