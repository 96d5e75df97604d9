//! Pure planners: which disks take a chunk's replicas.
//!
//! Owns the decision and nothing else: views and draws in, disks out. Must never: know how load is measured, keep
//! state, or draw randomness that was not handed in (two calls with equal arguments answer the same).
//!
//! Read [`DiskView`] and [`Demand`], then [`plan_replicas`].

mod plan;
mod state;
mod view;

pub use plan::{PlacementError, plan_replicas};
pub use state::{DiskFacts, DiskState, MayRead};
pub use view::{Demand, DiskView};

#[cfg(test)]
mod tests;
