//! A start on disks that missed some boots: the first registration is refused, and a later boot is taken.
//!
//! Owns the decision whether a server that the cluster calls a stranger may come back. Must never: put a process in
//! the place of another one that lives, or let in a disk that was copied or set back.
//!
//! A node counts its boots on each of its disks, and a disk that is not there misses them. Disks A and B have
//! counted 5; a start without A counts 6 on B and registers; the next start, without B, counts 6 on A: one counter
//! with two randoms, which from two processes would be a clone. What tells them apart:
//!
//! - The cluster records the disks of a boot, and every one of them has counted it before (`directory`). An honest
//!   start at or below the recorded counter therefore has **none** of the recorded disks. A disk that was copied, or
//!   set back to an old image, has an identity that is recorded: the cluster does not name a counter then, and the
//!   server stops here for good, as before.
//! - Two live processes with the id of one node and different disks each miss the boots of the other. The leader
//!   names a counter, but asks to wait as long as it hears the recorded process: its heartbeats set the time to wait
//!   anew, so that the other does not get in and stops after [`MOST_WAITS`]. The recorded one is neither fenced nor
//!   disturbed. One that is paused or cut off while it is replaced is told at its next heartbeat that its boot is over.
//!   (Whoever starts the other again and again counts its boots up, until one is above the recorded one: that is
//!   taken as a restart, as any higher boot is, and ends the process that lived.)
//! - A process that has been registered once has disks that the cluster knew at that time. When another boot is
//!   recorded meanwhile, that is another process: this one never takes its place, and stops.
//!
//! The counter that is named is counted durably on every disk that is served before it is used, so that none of them
//! stands in the record of a boot that it has missed, and it is taken once: a second refusal comes from somebody who
//! counts against us.

use crate::disk::directory;
use crate::disk::disks::Disks;
use crate::error::StopReason;
use drystone_env::{Env, Rng};
use drystone_proto::cluster::ErrorReply;
use drystone_types::BootId;
use std::time::Duration;

/// Times to wait for the recorded process to be silent. One is enough if it is dead; more are for a leader that
/// changes meanwhile, and has to listen for itself first.
const MOST_WAITS: u32 = 5;
/// The longest of these; leaders ask for the time after which a server is a suspect.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A disk that does not count a boot by then hangs.
const COUNT_PATIENCE: Duration = Duration::from_secs(20);

/// How far a server has come with this.
#[derive(Default)]
pub(crate) struct BootRecovery {
    waits: u32,
    /// A later boot was taken, or none may be taken any more.
    is_closed: bool,
}

impl BootRecovery {
    /// The server was registered.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    /// The boot as which to register again, after the cluster has called this server a stranger.
    ///
    /// # Errors
    /// The reason to stop.
    pub(crate) async fn judge(
        &mut self,
        env: &Env,
        disks: &Disks,
        reply: &ErrorReply,
        boot: BootId,
    ) -> Result<BootId, StopReason> {
        let stop = |message: String| StopReason::Stranger(message);
        if self.is_closed || reply.expected <= boot.counter {
            return Err(stop(reply.message.clone()));
        }
        let clock = &env.clock;
        if reply.retry_after_ms != 0 {
            self.waits += 1;
            if self.waits > MOST_WAITS {
                return Err(stop(format!("{}, and it is alive", reply.message)));
            }
            let wait = Duration::from_millis(u64::from(reply.retry_after_ms)).min(LONGEST_WAIT);
            tracing::warn!(reason = %reply.message, ?wait, "waiting for another process of this node to be silent");
            clock.sleep(wait).await;
            return Ok(boot);
        }
        self.is_closed = true;
        let later = BootId {
            counter: reply.expected,
            random: env.rng(&format!("boot-later-{}", boot.random)).next_u64(),
        };
        assert!(
            later.counter > boot.counter,
            "boot {} after {}",
            later.counter,
            boot.counter
        );
        tracing::warn!(
            reason = %reply.message,
            counter = later.counter,
            "the disks have missed some boots: a later one is taken"
        );
        let deadline = clock.now().plus(COUNT_PATIENCE);
        for entry in disks.served().values() {
            let fault = match clock.until(deadline, directory::count(env, entry, later)).await {
                Some(Ok(())) => continue,
                Some(Err(fault)) => fault,
                None => format!("boot {} is not counted after {COUNT_PATIENCE:?}", later.counter),
            };
            return Err(stop(format!("{}; {}: {fault}", reply.message, entry.runner.path)));
        }
        Ok(later)
    }
}
