//! The whole cluster in a seeded simulation.
//!
//! Metadata servers, chunk servers and clients run unchanged on the seeded seams of `drystone_env::sim`: one thread,
//! one task at a time, every byte on a simulated network and disk. A run draws a cluster, a workload and faults from
//! its seed ([`scenario`]), and at the end the checkers ([`check`]) compare what clients were told, what the voters
//! hold and what lies on the disks. The same seed is the same run.
//!
//! Must never: reach around the seams, or know how a server does what it promises.

#[cfg(not(tokio_unstable))]
compile_error!(
    "seeding tokio needs `--cfg tokio_unstable`, as .cargo/config.toml sets it: do not replace its rustflags"
);

pub mod check;
pub mod clients;
pub mod cluster;
pub mod content;
pub mod exhaustive;
pub mod history;
pub mod model;
#[cfg(feature = "planted")]
pub mod mutations;
pub mod nemesis;
pub mod operator;
pub mod run;
pub mod scenario;
pub mod sometimes;
pub mod states;
pub mod trace;
pub mod workload;
