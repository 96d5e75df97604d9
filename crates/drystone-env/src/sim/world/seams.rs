//! The seams of one process.

use super::clock::HostClock;
use super::executor::World;
use super::host::HostId;
use super::net::HostNet;
use crate::spawn::Spawn;
use crate::{BoxFuture, Env};
use std::sync::Arc;

pub(super) fn env(world: &World, host: HostId, process: u64, seed: u64) -> Env {
    Env {
        clock: Arc::new(HostClock {
            world: world.clone(),
            host,
        }),
        net: Arc::new(HostNet {
            world: world.clone(),
            host,
            process,
        }),
        spawn: Arc::new(HostSpawn {
            world: world.clone(),
            host,
            process,
        }),
        seed,
        numbers: Arc::default(),
    }
}

struct HostSpawn {
    world: World,
    host: HostId,
    process: u64,
}

impl Spawn for HostSpawn {
    fn spawn(&self, name: &str, task: BoxFuture<()>) {
        self.world.start(self.host, self.process, name, task);
    }

    fn thread(&self, name: &str, body: BoxFuture<()>) {
        self.world.start(self.host, self.process, name, body);
    }
}
