//! The operator: does what he is told by commands that people have too, one after the other.

use crate::sometimes::sometimes;
use crate::trace;
use crate::workload::{self, Work};
use drystone_client::Client;
use drystone_client::admin::{AdminOp, RaftReplace};
use drystone_env::Env;
use drystone_env::sim::World;
use drystone_env::sim::world::HostId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Hand leadership to this voter, if that works at the moment.
    Transfer(u64),
    /// Make `new` a voter in the place of `old`, however long it takes.
    Replace {
        /// Voter that goes.
        old: u64,
        /// Learner that comes.
        new: u64,
    },
}

/// See the module.
pub struct Operator {
    world: World,
    host: HostId,
    /// The first one is being done.
    orders: Arc<Mutex<VecDeque<Order>>>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.world.power_off(self.host);
    }
}

fn lock(orders: &Mutex<VecDeque<Order>>) -> MutexGuard<'_, VecDeque<Order>> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operator {
    /// Sits at a host of his own.
    pub fn new(work: &Work) -> Self {
        trace::name_host("operator");
        Self {
            world: work.world.clone(),
            host: work.world.add_host("operator"),
            orders: Arc::default(),
        }
    }

    /// Begins to work.
    pub fn start(&self, work: &Work) {
        let env = self.world.env(self.host);
        let run = serve(env.clone(), work.clone(), Arc::clone(&self.orders));
        env.spawn.spawn("operator", Box::pin(run));
    }

    /// Tells him what to do after all that he was told before.
    pub fn order(&self, order: Order) {
        lock(&self.orders).push_back(order);
    }

    /// What is not done yet.
    pub fn open(&self) -> Vec<Order> {
        lock(&self.orders).iter().copied().collect()
    }
}

async fn serve(env: Env, work: Work, orders: Arc<Mutex<VecDeque<Order>>>) {
    let client = workload::connect(&env, &work, Duration::from_secs(5)).await;
    loop {
        let first = lock(&orders).front().copied();
        if let Some(order) = first
            && carry_out(&client, order).await
        {
            lock(&orders).pop_front();
        }
        env.clock.sleep(PAUSE).await;
    }
}

/// True if there is nothing more to do about it.
async fn carry_out(client: &Client, order: Order) -> bool {
    match order {
        Order::Transfer(node) => {
            let answer = client.admin(AdminOp::TransferLeader(node)).await;
            sometimes(if answer.is_ok() {
                "leadership transfer asked for"
            } else {
                "leadership transfer refused"
            });
            true
        }
        Order::Replace { old, new } => {
            let answer = client.admin(AdminOp::RaftReplace(RaftReplace { old, new })).await;
            sometimes(if answer.is_ok() {
                "voter replaced"
            } else {
                "voter not replaced yet"
            });
            if let Err(error) = &answer {
                tracing::debug!(%error, old, new, "voter not replaced");
            }
            answer.is_ok()
        }
    }
}
