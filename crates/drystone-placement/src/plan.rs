//! Choosing disks for the replicas of one chunk.
//!
//! Replicas are spread over as many zones as there are, then racks, hosts, devices: of the eligible disks only
//! those that share the fewest domains with the replicas chosen before are candidates. Among these two are drawn,
//! each with a probability in proportion to its share of the free space of its device, and the one with less work relative to its space
//! wins (power of two choices). No two replicas ever share a disk. They share a host only if every host of the cluster
//! has one: a host that is away for a moment must not leave two replicas to the fate of another. Sharing a device is
//! allowed, because a cluster on one machine has but one (and says so).

use crate::{Demand, DiskState, DiskView};
use drystone_env::Rng;
use drystone_types::DiskRef;

/// What stands in the way of a disk without room.
const FULL: &str = "full";

/// Why no disks were chosen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlacementError {
    /// Fewer disks than the demand's minimum can take the data.
    #[error("{needed} replicas are needed, {found} can be placed ({why})")]
    NotEnoughDomains {
        /// The least that will do.
        needed: u32,
        /// Replicas that could be placed, those that exist included.
        found: u32,
        /// Why the others cannot, for people.
        why: String,
    },
    /// Enough could, if some were not full.
    #[error("{needed} replicas are needed, {found} can be placed: disks are full ({why})")]
    NoSpace {
        /// The least that will do.
        needed: u32,
        /// Replicas that could be placed, those that exist included.
        found: u32,
        /// Why the others cannot, for people.
        why: String,
    },
}

/// Chooses the disks that the chunk shall be on beside those that it is on: at most `replicas - have`, nearest to
/// the writer first. Fewer than asked for are given only down to `minimum`.
///
/// # Errors
/// [`PlacementError::NoSpace`] if only full disks stand in the way, else [`PlacementError::NotEnoughDomains`].
pub fn plan_replicas(
    demand: &Demand,
    disks: &[DiskView],
    draws: &mut dyn Rng,
) -> Result<Vec<DiskRef>, PlacementError> {
    let held = demand.have.len() as u32;
    let chosen = choose(demand, disks, false, draws);
    let found = held + chosen.len() as u32;
    let needed = if demand.minimum == 0 {
        demand.replicas
    } else {
        demand.minimum.min(demand.replicas)
    };
    if found >= needed {
        return Ok(chosen);
    }
    let why = obstacles(demand, disks, &chosen);
    let emptier = choose(demand, disks, true, draws);
    Err(match held + emptier.len() as u32 >= needed {
        true => PlacementError::NoSpace { needed, found, why },
        false => PlacementError::NotEnoughDomains { needed, found, why },
    })
}

/// The best of the disks that nothing stands in the way of, at most as many as are wanted; as if none were full, if
/// `emptied`.
fn choose(demand: &Demand, disks: &[DiskView], emptied: bool, draws: &mut dyn Rng) -> Vec<DiskRef> {
    let held = demand.have.len() as u32;
    let mut taken: Vec<&DiskView> = disks
        .iter()
        .filter(|view| demand.have.contains(&view.disk))
        .collect();
    let held_disks = taken.len();
    let mut chosen = Vec::new();
    let allowed = |why: Option<&str>| why.is_none_or(|why| emptied && why == FULL);
    let mut left: Vec<&DiskView> = disks
        .iter()
        .filter(|view| allowed(obstacle(demand, view)))
        .collect();
    while held + (chosen.len() as u32) < demand.replicas {
        left.retain(|view| !taken.iter().any(|other| same_disk(view, other)));
        let new = &taken[held_disks..];
        left.retain(|view| emptied || has_room(demand, view, new));
        let mut left = left.clone();
        if has_free_host(disks, &taken) {
            left.retain(|view| !taken.iter().any(|other| same_host(view, other)));
        }
        let Some(pick) = pick(demand, &left, &taken, chosen.is_empty() && held == 0, draws) else {
            break;
        };
        taken.push(pick);
        chosen.push(pick.disk);
    }
    chosen
}

/// Why a disk takes no new data; `None` if it does.
fn obstacle(demand: &Demand, view: &DiskView) -> Option<&'static str> {
    // What others of its device have taken since it told its figures is not free.
    let left = view.free.min(view.device_free);
    if holds(demand, view) {
        Some("holding it already")
    } else if view.state == DiskState::Full {
        Some(FULL)
    } else if !view.state.may_place() {
        Some(view.state.name())
    } else if demand.avoid.contains(&view.node) {
        Some("avoided")
    } else if left < demand.bytes {
        Some(FULL)
    } else {
        None
    }
}

/// True if the device has room for this one beside those that are chosen on it.
fn has_room(demand: &Demand, view: &DiskView, chosen: &[&DiskView]) -> bool {
    let on_device = chosen.iter().filter(|other| other.device == view.device).count() as u64;
    (on_device + 1).saturating_mul(demand.bytes.0) <= view.device_free.0
}

/// A host without any of the replicas, whether or not it can take one now; one that drains is not waited for.
fn has_free_host(disks: &[DiskView], taken: &[&DiskView]) -> bool {
    disks
        .iter()
        .any(|view| !view.draining && !taken.iter().any(|other| same_host(view, other)))
}

/// Also if it has been formatted since: what it held is for repair to say, not for a plan to guess.
fn holds(demand: &Demand, view: &DiskView) -> bool {
    demand.have.iter().any(|held| held.disk == view.disk.disk)
}

fn obstacles(demand: &Demand, disks: &[DiskView], chosen: &[DiskRef]) -> String {
    let taken: Vec<&DiskView> = disks.iter().filter(|view| chosen.contains(&view.disk)).collect();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for view in disks.iter().filter(|view| !chosen.contains(&view.disk)) {
        let full = || (!has_room(demand, view, &taken)).then_some(FULL);
        if let Some(reason) = obstacle(demand, view).or_else(full) {
            *counts.entry(reason).or_default() += 1;
        }
    }
    let mut text = format!("{} disks known", disks.len());
    for (reason, count) in counts {
        text.push_str(&format!(", {count} {reason}"));
    }
    text
}

fn same_zone(a: &DiskView, b: &DiskView) -> bool {
    a.zone == b.zone
}

fn same_rack(a: &DiskView, b: &DiskView) -> bool {
    same_zone(a, b) && a.rack == b.rack
}

/// Two servers on one host, or two disks of one server.
fn same_host(a: &DiskView, b: &DiskView) -> bool {
    a.node == b.node || (same_rack(a, b) && a.host == b.host)
}

/// Another incarnation of a disk is the same disk.
fn same_disk(a: &DiskView, b: &DiskView) -> bool {
    a.disk.disk == b.disk.disk
}

/// How many of `taken` share a zone, rack, host and device with `view`: the fewer the better, in this order.
fn crowding(view: &DiskView, taken: &[&DiskView]) -> [usize; 4] {
    let count =
        |same: fn(&DiskView, &DiskView) -> bool| taken.iter().filter(|other| same(view, other)).count();
    let device = |a: &DiskView, b: &DiskView| same_host(a, b) && a.device == b.device;
    [
        count(same_zone),
        count(same_rack),
        count(same_host),
        count(device),
    ]
}

fn pick<'a>(
    demand: &Demand,
    left: &[&'a DiskView],
    taken: &[&DiskView],
    first: bool,
    draws: &mut dyn Rng,
) -> Option<&'a DiskView> {
    let least = left.iter().map(|view| crowding(view, taken)).min()?;
    let mut candidates: Vec<&DiskView> = left
        .iter()
        .copied()
        .filter(|view| crowding(view, taken) == least)
        .collect();
    if first && !demand.near_host.is_empty() && candidates.iter().any(|view| view.host == demand.near_host) {
        candidates.retain(|view| view.host == demand.near_host);
    }
    let one = draw(&candidates, draws)?;
    let two = draw(&candidates, draws)?;
    // Less work per free space wins; the products compare the quotients without dividing.
    let work = |a: &DiskView, b: &DiskView| (u128::from(a.load) + 1) * (u128::from(share(b)) + 1);
    Some(if work(two, one) < work(one, two) { two } else { one })
}

/// Of the bytes that can still be taken, its part: several disks on one device have no more together than one.
fn share(view: &DiskView) -> u64 {
    let part = view.device_free.0 / u64::from(view.device_disks.max(1));
    view.free.0.min(part)
}

/// One of `candidates`, with a probability in proportion to its free space.
fn draw<'a>(candidates: &[&'a DiskView], draws: &mut dyn Rng) -> Option<&'a DiskView> {
    // In MiB, so that the sum of any number of disks fits.
    let weight = |view: &DiskView| (share(view) >> 20) + 1;
    let sum: u64 = candidates.iter().map(|view| weight(view)).sum();
    let mut point = draws.below(sum.max(1));
    candidates
        .iter()
        .copied()
        .find(|view| match point.checked_sub(weight(view)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        })
}
