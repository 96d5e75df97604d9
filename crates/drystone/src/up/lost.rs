//! Directories that are gone although they were formatted once: a disk that was lost, not mounted, or emptied.
//!
//! A server that has lost what it held never comes back under its old id: the cluster would take it for the one that
//! has it. A chunk server starts anew under a new id, by itself; a metadata server joins as a learner under a new id,
//! and an operator makes it a voter in the place of the old one. What may merely be away is waited for instead, unless
//! the operator says that it is lost: a directory that was a mount of its own and is none now, and several chunk
//! directories that are gone at once. A directory that cannot be used, or that does not answer, stops its own node only.

use super::look::{Found, Look, Looks};
use super::plan::{Place, Plan};
use anyhow::bail;
use drystone_identity::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// What people have to know, a line each.
    pub notes: Vec<String>,
    /// Nodes that cannot start, by name, and why.
    pub unusable: BTreeMap<String, String>,
}

/// What `settle` goes by, beside the plan.
pub struct Seen<'a> {
    /// The data directory.
    pub data: &'a Path,
    /// What is in the directories of the nodes.
    pub looks: &'a Looks,
    /// Nodes that run: whatever is wrong with their directories, they are left as they are, unless nothing is there.
    pub running: &'a BTreeSet<String>,
    /// What seems to be away is lost indeed.
    pub replace_lost: bool,
}

impl Seen<'_> {
    fn is_mount(&self, name: &str) -> bool {
        self.looks.get(name).is_some_and(|look| look.is_mount)
    }

    fn runs(&self, place: &Place) -> bool {
        self.running.contains(&place.name)
    }

    /// Nothing is there, but not because a disk is not mounted.
    fn is_gone(&self, place: &Place, look: &Look) -> bool {
        matches!(look.found, Found::Blank) && place.formatted && (self.replace_lost || !is_away(place, look))
    }
}

/// It was a mount, and is none now.
fn is_away(place: &Place, look: &Look) -> bool {
    matches!(look.found, Found::Blank) && place.formatted && place.mounted && !look.is_mount
}

/// Compares the plan with the directories, and gives new ids to the nodes whose directories are gone. Formats nothing.
///
/// # Errors
/// Without a majority of the metadata servers: nothing that was started could serve.
pub fn settle(plan: &mut Plan, seen: &Seen<'_>) -> anyhow::Result<Lost> {
    let mut lost = Lost::default();
    let gone = sort_out(&mut plan.metadata, &mut plan.retired, seen, &mut lost);
    let missing = gone.len() + lost.unusable.len();
    if missing > 0 && 2 * missing >= plan.metadata.len() {
        let names: Vec<&str> = (gone.iter().map(|at| &*plan.metadata[*at].name))
            .chain(lost.unusable.keys().map(|name| &**name))
            .collect();
        bail!(
            "the namespace cannot be served: the directories of {} in {} are gone or cannot be used, and {} of {} \
             metadata servers are no majority. Nothing was changed. Put the directories back (is a disk not mounted?), \
             or copies of them; a lone metadata server with a damaged log is brought back by `drystone admin recover`",
            names.join(", "),
            seen.data.display(),
            plan.metadata.len() - missing,
            plan.metadata.len()
        );
    }
    for at in gone {
        let node = plan.next_metadata_node();
        let place = &mut plan.metadata[at];
        let old = std::mem::replace(&mut place.node, node);
        // It may never have been made a voter.
        let was_learner = std::mem::replace(&mut place.join, true);
        place.formatted = false;
        place.mounted = seen.is_mount(&place.name);
        let otherwise = match was_learner {
            true => format!(
                "; if `drystone admin raft status` says that node {old} is a learner, replace the voter that is silent, and \
                 take node {old} out with `drystone admin raft remove {old}`"
            ),
            false => String::new(),
        };
        lost.notes.push(format!(
            "{}: its directory is gone. It joins as a learner under a new id, node {node}; make it a voter in the place \
             of the lost one with `drystone admin raft replace {old} {node}`{otherwise}",
            place.name
        ));
        plan.retired.push(old);
    }
    settle_chunk(plan, seen, &mut lost);
    // An id that is in use again.
    let Plan { metadata, chunk, .. } = &*plan;
    let used: Vec<u64> = metadata.iter().chain(chunk).map(|place| place.node).collect();
    plan.retired.retain(|node| !used.contains(node));
    Ok(lost)
}

/// Takes up what is there, and answers which of the places are gone.
fn sort_out(places: &mut [Place], retired: &mut Vec<u64>, seen: &Seen<'_>, lost: &mut Lost) -> Vec<usize> {
    let mut gone = Vec::new();
    for (at, place) in places.iter_mut().enumerate() {
        let Some(look) = seen.looks.get(&place.name) else {
            continue;
        };
        if seen.is_gone(place, look) {
            gone.push(at);
        } else if !seen.runs(place) {
            retired.extend(settle_one(place, &seen.data.join(&place.name), look, lost));
        }
    }
    gone
}

fn settle_chunk(plan: &mut Plan, seen: &Seen<'_>, lost: &mut Lost) {
    let gone = sort_out(&mut plan.chunk, &mut plan.retired, seen, lost);
    if gone.len() > 1 && !seen.replace_lost {
        let why = format!(
            "{} chunk directories in {} are empty or missing at the same time: are their disks not mounted? Nothing was \
             changed. Mount them and run `drystone up` once more; if what they held is lost, end this one and start it \
             with --replace-lost, and they start anew under new ids",
            gone.len(),
            seen.data.display()
        );
        let names = gone.iter().map(|at| &plan.chunk[*at]);
        let names = names.filter(|place| !seen.runs(place));
        lost.unusable
            .extend(names.map(|place| (place.name.clone(), why.clone())));
        return;
    }
    for at in gone {
        let node = plan.next_chunk_node();
        let place = &mut plan.chunk[at];
        let old = std::mem::replace(&mut place.node, node);
        (place.formatted, place.mounted) = (false, seen.is_mount(&place.name));
        lost.notes.push(format!(
            "{}: its directory is gone, and what it held. It starts anew under a new id, node {node}; `drystone admin \
             servers --remove {old}` ends the waiting for the old one",
            place.name
        ));
        plan.retired.push(old);
    }
}

/// The directory of a node is there, or was never formatted. Answers the id that the node no longer has, if it was
/// given one meanwhile: it is not given again.
fn settle_one(place: &mut Place, path: &Path, look: &Look, lost: &mut Lost) -> Option<u64> {
    match &look.found {
        Found::Unusable(why) => {
            lost.unusable.insert(place.name.clone(), why.clone());
            return None;
        }
        Found::Blank if is_away(place, look) => {
            lost.unusable.insert(place.name.clone(), away(path));
            return None;
        }
        Found::Formatted(_) | Found::Blank => place.mounted = look.is_mount,
    }
    match &look.found {
        Found::Formatted(identity) if identity.node.0 != place.node => {
            // A disk that was away came back, in the place of one that was made meanwhile.
            let newer = place.node;
            let mut line = format!(
                "{}: {} is of node {}, not of node {newer}: it starts as that",
                place.name,
                path.display(),
                identity.node,
            );
            if place.formatted {
                let _ = write!(
                    line,
                    ". WARNING: it ran as node {newer} meanwhile. What was acknowledged as node {newer} is not in this \
                     directory: if a disk was mounted, it lies beneath the mount. Keep it until nothing needs it"
                );
                if identity.role == Role::Chunk {
                    let _ = write!(
                        line,
                        ": `drystone admin servers --remove {newer}` refuses while something is stored nowhere else"
                    );
                }
            }
            lost.notes.push(line);
            (place.node, place.join) = (identity.node.0, identity.joining);
            place.formatted = true;
            return Some(newer);
        }
        Found::Formatted(_) => place.formatted = true,
        Found::Blank | Found::Unusable(_) => {}
    }
    None
}

fn away(path: &Path) -> String {
    format!(
        "{} is empty or missing, and it was a disk of its own, which is not mounted now. Nothing was changed. Mount it and \
         run `drystone up` once more; if what it held is lost, end this one and start it with --replace-lost, and the node \
         starts anew under a new id",
        path.display()
    )
}

#[cfg(test)]
mod tests;
